// The text once it is answered: its words with their probabilities, and one answer marked. What comes from the text is
// only ever set as text, never as HTML.

const text = document.getElementById("text"), probability = document.getElementById("probability");
const LONGEST = 200; // characters shown of an answer, or of a word
let words = []; // {node, starts, ends} of each word with probabilities, in their order
let current = -1; // the one that the keyboard is at

// The service counts characters, JavaScript counts 16-bit units: where each character begins.
export function units(string) {
  const starts = [];
  for (let i = 0; i < string.length; i += string.codePointAt(i) > 0xffff ? 2 : 1) starts.push(i);
  starts.push(string.length);
  return starts;
}

export function node(name, className, ...children) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...children);
  return made;
}

export function shorten(string) {
  return string.length > LONGEST ? `${string.slice(0, LONGEST)}…` : string;
}

export function percent(share) {
  if (share < 0.0001) return "<0.01%";
  if (share >= 0.995) return ">99%";
  return `${share < 0.01 ? Number((100 * share).toPrecision(1)) : Math.round(100 * share)}%`;
}

// Show a text; found: {start, end, starts, ends} of its words, answer: {start, end} of what to mark, or null.
export function mark(context, found, answer) {
  const { start: from, end: to } = answer ?? { start: 0, end: 0 };
  words = [];
  current = -1;
  const run = (start, end) => {
    const made = document.createDocumentFragment();
    let done = start;
    for (const word of found) {
      if (word.start < start || word.start >= end) continue;
      const shown = node("span", "word", context.slice(word.start, Math.min(word.end, end)));
      shown.style.setProperty("--starts", `${100 * word.starts}%`);
      shown.style.setProperty("--ends", `${100 * word.ends}%`);
      made.append(context.slice(done, word.start), shown);
      words.push({ node: shown, starts: word.starts, ends: word.ends });
      done = Math.min(word.end, end);
    }
    made.append(context.slice(done, end));
    return made;
  };
  const before = run(0, from), marked = node("mark", "", run(from, to));
  text.replaceChildren(before, marked, run(to, context.length));
  if (!answer) marked.remove();
}

// Scroll the text, not the page, to what is marked.
export function reveal() {
  const marked = text.querySelector("mark");
  if (!marked) return;
  const [box, frame] = [marked, text].map((element) => element.getBoundingClientRect());
  if (box.top < frame.top || box.bottom > frame.bottom) text.scrollTop += box.top - frame.top - text.clientHeight / 5;
}

function inspect(word) {
  uninspect();
  probability.textContent =
    `“${shorten(word.node.textContent)}”: starts the answer ${percent(word.starts)}, ends it ${percent(word.ends)}`;
  probability.hidden = false;
  const box = word.node.getBoundingClientRect(), { width, height } = probability.getBoundingClientRect();
  const below = box.bottom + 8 + height < innerHeight;
  probability.style.left = `${Math.max(4, Math.min(box.left, innerWidth - width - 4))}px`;
  probability.style.top = `${below ? box.bottom + 8 : Math.max(4, box.top - 8 - height)}px`;
}

function uninspect() {
  probability.hidden = true;
  for (const word of text.querySelectorAll(".at")) word.classList.remove("at");
}

function point(event) {
  const over = words.find((word) => word.node === event.target);
  if (over) inspect(over);
  else uninspect();
}
text.addEventListener("pointermove", point);
text.addEventListener("click", point); // a finger does not hover
text.addEventListener("pointerleave", (event) => {
  if (event.pointerType !== "touch") uninspect();
});
text.addEventListener("blur", uninspect);
text.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step || !words.length || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  if (current < 0) current = Math.max(0, words.findIndex((word) => word.node.parentNode.localName === "mark"));
  else current = (current + step + words.length) % words.length;
  const word = words[current];
  word.node.scrollIntoView({ block: "nearest" });
  inspect(word);
  word.node.classList.add("at");
  document.getElementById("spoken").textContent = probability.textContent;
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") uninspect();
});
