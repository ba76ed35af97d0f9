"""What the reference is asked about: texts written for this project, and strings made of awkward parts."""

import hashlib
import json
import random
import sys
import unicodedata
from collections.abc import Iterable, Iterator

AWKWARD = [
    "",
    " \t\r\n",
    "Plain words, nothing else.",
    "don't re-enter; it's 3.14% off (see §2)… «really»? ¡Sí! ¿No?",
    "tabs\tand\r\nline\nbreaks\x0bvertical\x0cform\x1cfile\x85next\u2028line\u2029paragraph",
    "spaces: \u00a0nbsp \u2003em \u3000ideographic \u1680ogham \u202fnarrow \u205fmath",
    "nul\x00byte \x00 \x7fdelete a\x07b \x1b[31mred\x1b[0m",
    "replacement \ufffd cha\ufffdracter \ufffe\uffff non\ufdd0characters private \ue000use\uf8ff",
    "soft\u00adhyphen zero\u200bwidth zw\u200djoin \u2060word\u2060joiner \ufeffbom \u200e\u200fmarks",
    "Ångström café naïve Žižek façade Đường Łódź ÆØÅ œuvre smørrebrød",
    unicodedata.normalize("NFD", "Ångström café naïve Žižek façade Đường ÆØÅ"),
    "e\u0301\u0323\u0308 zalgo Z\u0335\u0342\u0315a\u0338\u0315\u0346l\u0334g\u0336o \u0301alone !\u0301after a\u0301",
    "İstanbul ISTANBUL ıi ß ẞ STRASSE ǅ ǆ ŉ ΣΊΣΥΦΟΣ Σ ς ὈΔΥΣΣΕΎΣ ᾼ ﬁ ﬃ ſ K Å",
    "ＦＵＬＬ ｗｉｄｔｈ！ ½ ² ₂ ① Ⅷ ℡ ™ № ℀",
    "a≠b c≮d e≯f x\u037ey p·q r\u0387s t\u1fefu v≤w",
    "漢字とかなカナ混じり文。「引用」、長音ー 東京2020年 中文，标点！㐀𠀀豈",
    "한국어 문장입니다. \u1112\u1161\u11ab 조합",
    "العربية: مَرْحَبًا بالعالم؟ ١٢٣، עִבְרִית שָׁלוֹם־עולם",
    "हिन्दी में क्षत्रिय। தமிழ் ภาษาไทย ไม่มีช่องว่าง བོད་སྐད། မြန်မာ",
    "emoji 😀😃 👩\u200d👩\u200d👧 🏳\ufe0f\u200d🌈 👍🏽 🇫🇷 ☃\ufe0f text©®",
    "math ∑∫√∞ €£¥₿ $5 + 6 = 11 <tag> a|b ~`^ \\back _under_ @at #hash",
    "[CLS] literal [SEP] special [MASK] tokens [PAD] here [UNK]x[SEP]y [sep] [ SEP ] [unused1] [SEP",
    "x" * 99 + " " + "y" * 100 + " " + "z" * 101 + " end",
    "é" * 100 + " " + "e\u0301" * 100 + " " + "e\u0301" * 101 + " w\u200b" * 101,
    "ABC def GHI McDonald iPhone NASA eBay",
    "unaffable Unaffable UNAFFABLE antidisestablishmentarianism 1234567890123",
    "..." + "!" * 30 + "-" * 5 + "___",
    "𝒜𝓁𝓅𝒽𝒶 𝟘𝟙𝟚 𐐀𐐨 𞤀 𞤢 Ꮳ ꭰ",
    # characters that Unicode tables of different ages see differently
    "⹃a⹏b ⹒ a\u061db a\u0a76b a\u166db a\u1734b a\u1885b a\u180fb a\u07fdb a\u0898b a\u0890b a\u1df6b",
    "ꟋA ꟐB Ɤ\ua7cb \u1c89 \U00010d50 \U00016ea0 \U00010570 \u2c2f \U00011938 \U000105c9 \U0001611e",
    "a\u302e\u05b0b \u302e\u05b0 \U0001d15e\u05b0 a\u1dfb\u0334 \u0344\u0345 \u1e69\u0323 ế\u0323",
    "[SEP][SEP] a[MASK]b [CLS]. [UNK] [PAD][",
]

PAIRS = [
    ("Who?", "Ada."),
    ("", "only a pair"),
    ("only a text", ""),
    ("Où est l'île?", "L'île est là\u0300-bas, près de Łódź."),
    ("q [SEP] r", "c [CLS] d"),
]

ISLAND = """\
The island of Sandrey lies nine miles off the coast and was without a harbour until 1871. In that year the parish hired
the engineer Tobias Quill, who had built two small piers on the mainland, to raise a breakwater of granite. The stone
came from the quarry at Hollin Head and was carried over by flat barges, which could only cross at slack tide. Eleven
barges were lost before the wall was finished in the autumn of 1874, and the cost rose from four thousand to nearly
seven thousand pounds.

The lighthouse is older than the harbour. It was lit for the first time on the third of March 1839, and its first
keeper was Jonas Holt, a retired ship's carpenter. His daughter Maren kept the log from the age of twelve. She wrote down
the wind, the weather and every passing sail, and she drew the clouds in the margins. After her father's death she was
paid as the keeper, although the lighthouse board entered her in its books as an assistant until 1866. The forty volumes
of her log are now in the museum at Port Ellery, where a weather scientist, Dr. Amina Farouk, used them to reconstruct
the storms of the century. Farouk found that the log gave the pressure to within two millibars of modern estimates.

People on Sandrey lived from herring, from sheep and from a hard cheese called skell. Skell is made from ewes' milk,
salted twice, and ripened for fourteen months in sea caves on the northern shore. The caves stay at nine degrees all
year. In 1902 a steamer captain named Auguste Perrin took three wheels to an exhibition in Lyon, where the cheese won a
silver medal, and for a few years the island sold more of it than it could make. The herring left in 1931, and most of
the families left with them. By the census of 1951 there were only eighty-four people on the island.

What brought them back was the bird observatory, opened in 1963 in the empty schoolhouse. Its founder, the teacher
Ingrid Solheim, had counted storm petrels on the western cliffs since she was a student, and she persuaded the county to
lend her the building for one summer. The loan was never called in. Each spring about twelve thousand pairs of petrels
nest in the old walls, more than anywhere else on the coast, and each autumn the observatory rings some nine thousand
migrating birds. A goldcrest ringed there on the first of October 1988 was found eleven days later in Tunisia.

Today the ferry Kittiwake crosses four times a day in summer and once in winter. It carries sixty passengers and six cars,
and it runs on batteries that are charged from two tidal turbines in the northern sound. The turbines were switched on
in May 2019 and give the island more power than it uses, so the surplus is sent to the mainland by a cable. Two
hundred and six people live on Sandrey now, the cheese is made again by the granddaughter of the last herring skipper,
Nessa Quill, and the log of Maren Holt is read aloud in the harbour café every third of March.
"""

# As people and models give them: articles, case, punctuation, numbers, repeated words, other scripts.
ANSWERS = [
    "Maren Holt", "maren holt", "Maren Holt,", "the keeper Maren Holt", "Holt", "The tower", "tower", "a tower",
    "an old tower", "An old, OLD tower!", "old", "Anthea", "the the band", "1,200 metres", "1200", "1200 metres",
    "$1,200", "in 1907", "1907.", "don't", "dont", "re-entry", "re entry", "Ångström", "ångström", "Å", "İzmir", "«Turin»",
    "Turin", "Turin \u2014 and Genoa", "Turin and Genoa", "Turin,\u00a0Genoa", "東京", "東京 2020", "a-b", "b", "oak\u2014the\u2014door", "oak\u2014\u2014door",
]  # fmt: skip

QUESTIONS = [
    "Who kept the log of the lighthouse?",
    "When was the lighthouse lit for the first time?",
    "What is skell made from?",
    "How long does the cheese ripen?",
    "Who founded the bird observatory?",
    "Where was the goldcrest found?",
    "How many people live on Sandrey today?",
    "What charges the batteries of the ferry?",
    "Why did the families leave?",
]

SHORT = [
    ("Where does Ada live?", "My name is Ada and I live in Turin."),
    ("Who?", "Paris"),
    ("What is it?", "... !!! ???"),
    ("Wo ist das Café?", "Das Café „Łódź“ liegt\u00a0neben dem Bahnhof, 3 Straßen weiter – gegenüber der Bäckerei."),
    (
        "What did she say?",
        "She said: \"Meet me at O'Neill's, 5:30 p.m.,\" and left. Later she said \"meet me at O'Neill's\" again.",
    ),
    (
        "Which emoji is it?",
        "He answered with 👩\u200d👩\u200d👧 and a 😀, then e\u0301crit: 「東京で会おう」 \x00 at 9.",
    ),
    ("أين؟", "يعيش أحمد في القاهرة منذ عام ٢٠١٠."),
    ("What is [SEP] for?", "The token [SEP] separates the two texts, [CLS] comes first."),
]

SCRIPTS = [
    (0x21, 0x7E), (0xA1, 0x24F), (0x250, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F), (0x591, 0x5F4),
    (0x600, 0x6FF), (0x700, 0x74F), (0x8A0, 0x8FF), (0x900, 0x97F), (0xB80, 0xBFF), (0xE00, 0xE7F), (0xF00, 0xFFF),
    (0x1000, 0x109F), (0x1100, 0x11FF), (0x13A0, 0x13FF), (0x1700, 0x18AF), (0x1AB0, 0x1AFF), (0x1DC0, 0x1FFF),
    (0x2000, 0x206F), (0x2070, 0x24FF), (0x2E00, 0x2E7F), (0x3000, 0x33FF), (0x4E00, 0x4FFF), (0xA640, 0xA7FF),
    (0xAC00, 0xACFF), (0xE000, 0xE010), (0xF900, 0xFB4F), (0xFE00, 0xFFFF), (0x10400, 0x1044F), (0x10D50, 0x10D85),
    (0x11000, 0x110FF), (0x1D150, 0x1D1FF), (0x1E000, 0x1E02A), (0x1E900, 0x1E95F), (0x1F300, 0x1F6FF),
    (0x20000, 0x20050),
]  # fmt: skip
PARTS = [
    "İ", "ß", "ẞ", "ǅ", "ΑΣ", "Σ", "ﬁ", "ﬃ", "K", "Å", "≠", "\u037e", "é", "e\u0301", "\u0345", "\u302e", "\u05b0",
    "\U0001d15e", "\u0344", "\ufeff", "\u200d", "\u200b", "\0", "\x1b", "\ud800", "\udfff", "\ufffd", "\xa0", "\r\n", "\u2028",
    "[SEP]", "[CLS]", "[MASK]", "[sep]", "[SEP", "##", "##ing", "don't", "1,000.5", "x" * 99, "y" * 101, "é" * 100,
    "ｗｉｄｅ", "漢字", "한국어", "각", "👩\u200d👧", "the", "unaffable", "Paris",
]  # fmt: skip


def generated_strings(count: int, seed: int) -> Iterator[str]:
    """Runs of one script, of awkward parts and of anything at all, mixed."""
    choose = random.Random(seed)
    for _ in range(count):
        text = []
        for _ in range(choose.randint(1, 6)):
            kind = choose.random()
            if kind < 0.45:
                low, high = choose.choice(SCRIPTS)
                text += [chr(choose.randint(low, high)) for _ in range(choose.randint(1, 6))]
            elif kind < 0.8:
                text.append(choose.choice(PARTS))
            elif kind < 0.9:
                text.append(chr(choose.randrange(sys.maxunicode + 1)))
            else:
                text.append(choose.choice(" \t\n"))
        yield "".join(text)


def known(text: str) -> str:
    """As the reference may be given it: a lone surrogate counts as U+FFFD."""
    return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)


def character_blocks() -> Iterator[tuple[str, range]]:
    """Planes 0, 1 and the tags of 14, but most CJK and Hangul, in blocks of 1,024 that are named by their first."""
    for start in (*range(0, 0x20000, 1024), 0xE0000):
        if not (0x4400 <= start < 0x9800 or 0xB000 <= start < 0xD400):
            yield f"{start:05x}", range(start, start + 1024)


def around(code: int) -> tuple[str, str]:
    """A character between two letters, and doubled after a combining mark."""
    return f"a{chr(code)}b", f"e\u0301{chr(code)}{chr(code)}"


def digest(items: Iterable[object]) -> str:
    # not of repr, which escapes what the Python that runs it takes for unprintable
    return hashlib.sha256(json.dumps(list(items)).encode()).hexdigest()[:16]
