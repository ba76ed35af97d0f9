// Texts to try the page with.

export const EXAMPLES = [
  {
    name: "A short story",
    question: "Who kept the log?",
    text: `The lighthouse on Skerry Point was lit for the first time in 1871. Maren Holt kept its log for thirty years, and wrote down every ship that passed.

When the lamp went out in the storm of 1893, she rowed to the mainland for oil, with her dog Bris in the bow.`,
  },
  {
    name: "A technical note",
    question: "When does the unit stop charging?",
    text: `# Field unit 7: power

The unit runs on one lithium cell and a solar panel the size of a postcard. In summer the panel alone is enough; from November to February the cell makes up the difference, about 4 mA on average.

Below −20 °C the unit stops charging, because charging a frozen cell ruins it. It keeps measuring every ten minutes and stores the readings in flash memory, which holds 90 days of them. Radio messages resume once the cell is warmer than −15 °C.

To reset the unit, hold a magnet against the blue dot for five seconds. The stored readings survive a reset. They are lost only when the firmware is replaced, so download them first.`,
  },
  {
    name: "A contract",
    question: "How much notice does the tenant have to give?",
    text: `Lease of the workshop at 12 Tanner's Row

1. Term. The lease begins on 1 March and runs for two years. It is then renewed from year to year.

2. Rent. The tenant pays 640 crowns on the first working day of each month. If a payment is more than ten days late, the landlord may charge 15 crowns for the reminder.

3. Notice. The tenant must give at least three months' notice in writing. The landlord must give six months' notice, and only at the end of a year.

4. Repairs. The landlord repairs the roof, the walls and the drains. The tenant keeps the windows and the stove in good order and has the chimney swept each autumn.

5. Deposit. The deposit is two months' rent. It is returned within thirty days of the end of the lease, less the cost of any damage.`,
  },
  {
    name: "Not in the text",
    question: "How much does a ticket cost?",
    text: `Winter timetable of the Ebbery ferry

From 1 November the ferry leaves the town quay at 7:15, 11:40 and 17:05, and returns from the island forty minutes later. On Sundays there is no early boat.

Bicycles travel on the rear deck, four at a time. Dogs are welcome inside if they have finished swimming. In fog the crossing may be cancelled at short notice; a red flag on the harbour office means that no boat will leave for the next hour.`,
  },
  {
    name: "A long text",
    question: "How did Alice Penhale pay for the repair?",
    text: `The Tide Mill at Ebbery

Twice a day the sea comes up the creek at Ebbery, and twice a day it leaves again. In 1794 a corn merchant named Josiah Penhale decided that something so punctual ought to be put to work. He bought the mud flats that nobody wanted, built a bank of clay and stone across the mouth of the creek, and hung a pair of oak gates in the middle of it. The rising tide pushed the gates open and filled the pond behind them. When the tide turned, the weight of the water shut them again, and the miller had a pond eleven feet deep with only one way out: under his wheel.

A tide mill obeys the moon rather than the clock. High water comes about fifty minutes later each day, so the hours of work crept round the day and the night. In one week the miller ground at noon and at midnight, in the next at dawn and at supper time. Penhale's neighbours could tell the state of the tide by the light in his window. His daughter Alice, who took over the mill in 1819, painted a table of the tides on the inside of the door, a year on each panel, so that carters would know when to come. Four of the panels have survived and hang in the town library.

The mill was never rich. A windmill on the hill above the town stood idle on calm days, but on windy ones it ground twice as fast. Ebbery flour had a reputation all the same, because the stones turned slowly and stayed cool, and the bakers said that cool flour kept longer. In a good year the mill ground nine hundred sacks of wheat and about half as much barley. The barley went to a brewery upriver, which paid late, and twice in barrels.

The great storm of February 1836 broke the bank in two places. The pond emptied in a quarter of an hour and took with it the eel traps, a rowing boat and the miller's henhouse, from which, according to the parish newspaper, all but one of the hens were recovered. The repair cost more than the mill had earned in six years. Alice Penhale borrowed the money from the brewery, and from then on it paid on time, since every late payment came off the debt.

Steam reached Ebbery in 1868 with the railway. The new roller mill beside the station ran all day long whatever the moon was doing, and within ten years it had taken the bakers. The tide mill lived on by grinding animal feed, then bones for fertiliser, and at last oyster shells for chicken grit. The last miller, Samuel Roe, closed the gates for good in the autumn of 1921. He told a visitor that he had slept through the night for the first time in thirty-four years and had not cared for it.

For half a century the building did whatever was asked of it. It was a store for nets, a boathouse, and during the war a place to dry silk for parachutes, since the upper floor was long and airy and the rats had left with the grain. By 1970 the roof had fallen in over the wheel. The council had already set a date for pulling the mill down when a retired schoolteacher named Ruth Kessel counted the buildings of its kind that were still standing on that coast, and found that there were two.

The restoration took seven years and was done almost entirely by volunteers at weekends. When the carpenters lifted the rotten boards of the ground floor, they found a biscuit tin with the accounts of Alice Penhale, wrapped in oilcloth and perfectly dry. From it we know the price of nearly everything that was bought for the mill between 1819 and 1851, down to the tallow for the bearings and a pair of spectacles. The new wheel was made of oak, with elm for the paddles, because elm does not rot as long as it is kept wet.

The gates opened again on 6 May 1979. Today the mill grinds on about a hundred days a year, whenever high water falls within the hours that visitors keep. The flour is sold at the door in paper bags stamped with the height of the tide that ground it. The water in the pond now does a second job as well: a small turbine beside the wheel lights the building, and on spring tides there is enough left over for the street lamps on the quay. They are the only street lamps in the county that are brighter at the full moon.`,
  },
];
