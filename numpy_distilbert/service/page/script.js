// The page: asks the service it came from, and shows the answers in the text. Text is only ever set as text.
"use strict";

const ANSWERS = 3;
const LINK_CHARACTERS = 30000; // what browsers and messengers still carry
const SHOWN = 200; // characters of an answer, or of a word
const element = (id) => document.getElementById(id);
const form = element("form"), text = element("text"), probability = element("probability");
let asking = new AbortController();
let words = []; // {node, starts, ends} of each word that is told, in their order
let at = -1; // which of them the keyboard is at

function ask() {
  history.replaceState(null, "", link() ?? location.pathname);
  request(form.question.value, form.context.value);
}

// What stands behind the address to ask the same, or null if it would be too long.
function link() {
  const fragment = "#" + new URLSearchParams({ question: form.question.value, context: form.context.value });
  return fragment.length <= LINK_CHARACTERS ? fragment : null;
}

async function request(question, context) {
  asking.abort(); // the service drops what nobody waits for
  const mine = asking = new AbortController();
  element("state").textContent = "Reading …";
  element("error").hidden = element("result").hidden = true;
  try {
    const response = await fetch("search", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ inputs: { question, context }, parameters: { top_k: ANSWERS } }),
      signal: mine.signal,
    });
    if (!(response.headers.get("Content-Type") ?? "").startsWith("application/json")) {
      throw new Error(`Something between this page and the service answered ${response.status}.`);
    }
    const found = await response.json();
    if (!response.ok) throw new Error(found.error);
    show(context, found);
  } catch (error) {
    if (mine !== asking) return;
    element("error").textContent = error instanceof TypeError ? "The service cannot be reached." : error.message;
    element("error").hidden = false;
  } finally {
    if (mine === asking) element("state").textContent = "";
  }
}

function show(context, found) {
  const unit = units(context);
  const answers = found.answers.map((answer) => ({ ...answer, start: unit[answer.start], end: unit[answer.end] }));
  const told = found.words.map(([start, end, starts, ends]) => ({ start: unit[start], end: unit[end], starts, ends }));
  const best = answers[0] ?? { start: 0, end: 0, score: 0 }; // a text of control characters alone has no words
  const buttons = answers.map((answer) => {
    const button = node("button", node("span", cut(answer.answer)), bar(answer.score));
    button.firstChild.className = "answer";
    button.append(node("span", percent(answer.score)));
    button.lastChild.className = "score";
    button.type = "button";
    button.addEventListener("click", () => {
      choose(button, answer);
      text.querySelector("mark")?.scrollIntoView({ block: "nearest" });
    });
    return button;
  });
  const choose = (button, answer) => {
    for (const other of buttons) other.setAttribute("aria-pressed", other === button);
    mark(context, told, answer);
  };
  element("answers").replaceChildren(...buttons.map((button) => node("li", button)));
  element("best").textContent = best.score > found.no_answer ? `Answer: ${cut(best.answer)}` : "Probably not in this text";
  element("result").hidden = false;
  choose(buttons[0], best);
  element("best").focus(); // read aloud, and in sight on a phone
}

// The service counts characters, JavaScript counts 16-bit units: where each character begins.
function units(string) {
  const starts = [];
  for (let i = 0; i < string.length; i += string.codePointAt(i) > 0xffff ? 2 : 1) starts.push(i);
  starts.push(string.length);
  return starts;
}

function node(name, ...children) {
  const made = document.createElement(name);
  made.append(...children);
  return made;
}

function bar(share) {
  const filled = node("span"), made = node("span", filled);
  filled.style.width = `${100 * share}%`;
  made.className = "bar";
  made.ariaHidden = "true"; // the number stands beside it
  return made;
}

function cut(string) {
  return string.length > SHOWN ? `${string.slice(0, SHOWN)}…` : string;
}

function percent(share) {
  return share < 0.0001 ? "< 0.01 %" : `${(100 * share).toFixed(share < 0.01 ? 2 : 1)} %`;
}

// The text, with its words as they are told and one answer marked.
function mark(context, told, answer) {
  words = [];
  at = -1;
  const run = (start, end) => {
    const made = document.createDocumentFragment();
    let done = start;
    for (const word of told) {
      if (word.start < start || word.start >= end) continue;
      const shown = node("span", context.slice(word.start, Math.min(word.end, end)));
      shown.className = "word";
      shown.style.setProperty("--starts", `${100 * word.starts}%`);
      shown.style.setProperty("--ends", `${100 * word.ends}%`);
      made.append(context.slice(done, word.start), shown);
      words.push({ node: shown, starts: word.starts, ends: word.ends });
      done = Math.min(word.end, end);
    }
    made.append(context.slice(done, end));
    return made;
  };
  const before = run(0, answer.start), marked = node("mark", run(answer.start, answer.end));
  text.replaceChildren(before, marked, run(answer.end, context.length));
  if (answer.end > answer.start) {
    text.scrollTop += marked.getBoundingClientRect().top - text.getBoundingClientRect().top - text.clientHeight / 3;
  } else {
    marked.remove();
  }
}

function tell(word, box) {
  const shares = word ? [word.starts, word.ends] : [0, 0];
  probability.textContent = `${word ? `“${cut(word.node.textContent)}”: ` : ""}starts the answer ${percent(shares[0])}, ends it ${percent(shares[1])}`;
  probability.hidden = false;
  const { width, height } = probability.getBoundingClientRect();
  const below = box.bottom + 8 + height < innerHeight;
  probability.style.left = `${Math.max(4, Math.min(box.left, innerWidth - width - 4))}px`;
  probability.style.top = `${below ? box.bottom + 8 : box.top - 8 - height}px`;
}

function untell() {
  probability.hidden = true;
  for (const word of text.querySelectorAll(".at")) word.classList.remove("at");
}

function point(event) {
  const over = event.target.closest(".word");
  untell();
  tell(words.find((word) => word.node === over), over ? over.getBoundingClientRect() : { left: event.clientX, top: event.clientY, bottom: event.clientY + 12 });
}
text.addEventListener("pointermove", point);
text.addEventListener("click", point); // a finger does not hover
text.addEventListener("pointerleave", (event) => {
  if (event.pointerType !== "touch") untell();
});
text.addEventListener("blur", untell);
text.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step || !words.length || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  untell();
  if (at < 0) at = Math.max(0, words.findIndex((word) => word.node.parentNode.localName === "mark"));
  else at = (at + step + words.length) % words.length;
  const word = words[at];
  word.node.classList.add("at");
  word.node.scrollIntoView({ block: "nearest" });
  tell(word, word.node.getBoundingClientRect());
  element("spoken").textContent = probability.textContent;
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") untell();
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
form.context.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
element("link").addEventListener("click", async () => {
  const fragment = link();
  if (fragment === null) {
    element("state").textContent = "This text is too long for a link.";
    return;
  }
  try {
    await navigator.clipboard.writeText(new URL(fragment, location));
    element("state").textContent = "Copied.";
  } catch {
    history.replaceState(null, "", fragment);
    element("state").textContent = "The address bar has it.";
  }
});

function fromLink() {
  const link = new URLSearchParams(location.hash.slice(1));
  if (!link.has("question") && !link.has("context")) return;
  form.question.value = link.get("question");
  form.context.value = link.get("context");
  if (form.reportValidity()) ask();
}
addEventListener("hashchange", fromLink);
document.querySelector("header a").addEventListener("click", (event) => {
  if (event.target.hash === location.hash) fromLink(); // nothing changes then, but the fields may have
});
fromLink();
fetch("info").then((response) => response.json()).then((info) => { element("model").textContent = info.model; });
