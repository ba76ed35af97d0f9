// The page: asks the service it came from and shows what it finds. It stores nothing, and leaves the address bar alone.

import { EXAMPLES } from "./examples.js";
import { mark, node, percent, reveal, shorten, units } from "./marked.js";

const READ = 8; // passages that the service reads, those that fit the question best
const LONG = 1800; // words that are more than READ passages in any case
const LEAST = 0.01; // other answers less probable than that are left out
const AROUND = 140; // characters of a sentence shown on either side of its answer
const LINK_CHARACTERS = 30000; // what browsers and messengers still carry
const DELAY = 400; // milliseconds before progress is shown
const element = (id) => document.getElementById(id);
const { question, context } = element("form").elements;
const text = element("text");
let asking = new AbortController();
let asked = {}; // the question and the text of the answer that is shown
let limits = { characters: 500000, max_body: 2000000 }; // until the service has said its own

async function ask() {
  asking.abort(); // the service drops what nobody waits for
  const mine = asking = new AbortController();
  const request = { question: question.value, context: context.value };
  element("problem").hidden = true;
  for (const [field, advice] of [[question, "Enter a question."], [context, "Enter a text, or try an example."]]) {
    if (field.value.trim()) continue;
    field.focus();
    return complain(advice);
  }
  const stop = progress(request.context);
  let found;
  try {
    const response = await fetch("search", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ inputs: request, parameters: { top_k: 3, read: READ } }),
      signal: mine.signal,
    });
    if (!response.ok) return fail(reason(response.status, request));
    found = await response.json();
  } catch {
    return mine.signal.aborted || fail("The service cannot be reached. Is it still running?");
  } finally {
    stop();
  }
  show(request, found);
}

// What a status of the service means to a reader of this page.
function reason(status, request) {
  return {
    408: "The text took too long to arrive. Try again, or try a shorter text.",
    413: `This text is too long: ${excess(request.context) ?? `at most ${limits.max_body / 1e6} MB can be sent`}.`,
    422: "This question or text cannot be read.",
    500: "The service failed on this question. Its log says why.",
    503: "The service is busy. Try again in a moment.",
  }[status] ?? `The service cannot be reached: something between it and this page answered with status ${status}.`;
}

function excess(context) {
  const characters = units(context).length - 1;
  if (characters <= limits.characters) return null;
  return `it has ${count(characters)} characters, and at most ${count(limits.characters)} can be searched`;
}

function count(number) {
  return number.toLocaleString("en");
}

function complain(problem) {
  element("problem").textContent = problem;
  element("problem").hidden = false;
}

function fail(problem) {
  edit();
  complain(problem);
}

function countWords(context) {
  return context.trim().split(/\s+/).length;
}

// Show what is being done, once it takes a while. Returns what ends that.
function progress(context) {
  const words = countWords(context), start = Date.now();
  const doing = words > LONG
    ? `Reading the ${READ} passages that fit best, of about ${count(Number(words.toPrecision(2)))} words …`
    : "Reading the text …";
  const timer = setInterval(() => {
    const first = element("reading").hidden;
    element("result").hidden = true;
    element("reading").hidden = false;
    element("seconds").textContent = `${Math.floor((Date.now() - start) / 1000)} s`;
    if (first) element("doing").textContent = element("spoken").textContent = doing;
  }, DELAY);
  return () => {
    clearInterval(timer);
    element("reading").hidden = true;
    element("spoken").textContent = "";
  };
}

// Showing what was found

function show(request, found) {
  asked = request;
  const unit = units(request.context);
  const inUnits = (span) => ({ ...span, start: unit[span.start], end: unit[span.end] });
  const words = found.words.map(([start, end, starts, ends]) => inUnits({ start, end, starts, ends }));
  const answers = found.answers.map(inUnits);
  const best = answers[0]?.score > found.no_answer ? answers.shift() : null;
  announce(best, found.no_answer);
  element("sentence").replaceChildren(...(best ? sentence(request.context, best) : []));
  list(answers, (answer) => mark(request.context, words, answer ?? best));
  element("extent").textContent =
    countWords(request.context) > LONG ? `The ${READ} passages that fit best were read.` : "";
  element("copied").textContent = "";
  element("link").hidden = true;
  const { scrollTop } = context.hidden ? text : context;
  editing(false);
  element("text-hint").hidden = !words.length;
  mark(request.context, words, best);
  text.scrollTop = scrollTop; // the lines of the field are those of the marked text
  reveal();
  element("verdict").focus(); // read aloud, and in sight on a phone
}

function announce(best, absent) {
  const share = node("span", "score", percent(best?.score ?? absent));
  if (best) element("verdict").replaceChildren("Answer", node("span", "spoken", `${shorten(best.answer)}, `), share);
  else element("verdict").replaceChildren("Probably not in this text ", share);
  element("verdict").className = best ? "" : "absent";
  element("others-label").textContent = best ? "Less likely" : "The closest passages";
  element("absent").replaceChildren("Not in this text ", node("span", "score", percent(absent)));
  element("absent").hidden = !best;
}

// The sentence that holds an answer; a long one is shortened on both sides.
function sentence(context, { start, end }) {
  const flat = context.replace(/(?<!\n)\n(?!\n)/g, " "); // lines may end within a sentence
  const sentences = new Intl.Segmenter("en", { granularity: "sentence" }).segment(flat);
  const first = sentences.containing(start), last = sentences.containing(end - 1);
  let before = flat.slice(first.index, start), after = flat.slice(end, last.index + last.segment.length).trimEnd();
  if (before.length > AROUND) before = `…\u00a0${before.slice(-AROUND).replace(/^\S*\s/, "")}`;
  if (after.length > AROUND) after = `${after.slice(0, AROUND).replace(/\s\S*$/, "")}\u00a0…`;
  return [before, node("strong", "", shorten(flat.slice(start, end))), after];
}

// The other answers. One that is pressed is marked in place of the best, until it is pressed again.
function list(answers, choose) {
  const buttons = answers.filter(({ score }) => score >= LEAST).slice(0, 2).map((answer) => {
    const share = node("span", "score", percent(answer.score));
    const button = node("button", "", node("span", "passage", shorten(answer.answer)), " ", share);
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      const pressed = button.getAttribute("aria-pressed") === "false";
      for (const other of buttons) other.setAttribute("aria-pressed", pressed && other === button);
      choose(pressed ? answer : null);
      reveal();
      text.querySelector("mark")?.scrollIntoView({ block: "nearest" }); // on a phone
    });
    return button;
  });
  element("others").hidden = !buttons.length;
  element("others").querySelector("ol").replaceChildren(...buttons.map((button) => node("li", "", button)));
}

// The text, which is either a field or marked

function editing(is) {
  context.hidden = !is;
  for (const id of ["result", "text", "text-hint", "edit"]) element(id).hidden = is;
}

function edit() {
  asking.abort(); // what it would find may no longer be there
  const { scrollTop } = text;
  if (!context.hidden) return;
  editing(true);
  context.scrollTop = scrollTop;
}

function fill(newQuestion, newText, file = "") {
  edit();
  question.value = newQuestion;
  context.value = newText;
  context.scrollTop = 0;
  element("file").textContent = file;
  element("problem").hidden = true;
}

async function open([file]) {
  const name = shorten(file.name), { max_body } = limits;
  if (!/\.(txt|md)$/i.test(file.name)) return complain(`${name} is not a .txt or .md file.`);
  if (file.size > max_body) return complain(`${name} is too large: at most ${max_body / 1e6} MB can be sent.`);
  try {
    const content = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    if (excess(content)) return complain(`${name} is too long: ${excess(content)}.`);
    fill(question.value, content, name);
    question.focus();
  } catch {
    complain(`${name} is not text in UTF-8. Save it in UTF-8 and open it again.`);
  }
}

// Links

async function copy() {
  const fragment = "#" + new URLSearchParams(asked), link = element("link");
  const report = (message) => { element("copied").textContent = element("spoken").textContent = message; };
  if (fragment.length > LINK_CHARACTERS) return report("This text is too long for a link.");
  link.value = new URL(fragment, location);
  try {
    await navigator.clipboard.writeText(link.value);
    report("Copied.");
  } catch {
    link.hidden = false;
    link.select();
    report("Copy the link from this field.");
  }
}

// Ask what a link asks, and take it out of the address bar: what it holds may be private.
function follow() {
  const link = new URLSearchParams(location.hash.slice(1));
  if (!link.has("question") && !link.has("context")) return;
  history.replaceState(null, "", location.pathname + location.search);
  fill(link.get("question") ?? "", link.get("context") ?? "");
  ask();
}

element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
context.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ask();
});
context.addEventListener("input", () => {
  asking.abort();
  element("file").textContent = "";
});
element("cancel").addEventListener("click", () => {
  edit();
  question.focus();
});
element("edit").addEventListener("click", () => {
  edit();
  context.focus({ preventScroll: true });
});
element("copy").addEventListener("click", copy);

element("open").addEventListener("click", () => element("chooser").click());
element("chooser").addEventListener("change", (event) => {
  open(event.target.files);
  event.target.value = ""; // so that the same file can be chosen again
});
if (matchMedia("(pointer: fine)").matches) context.placeholder = "Paste a text here, or drop a .txt or .md file.";
const dropping = (is) => document.body.classList.toggle("dropping", is);
addEventListener("dragover", (event) => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  dropping(true);
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) dropping(false);
});
addEventListener("drop", (event) => {
  dropping(false);
  if (!event.dataTransfer.files.length) return;
  event.preventDefault();
  open(event.dataTransfer.files);
});

element("examples").querySelector("ul").append(...EXAMPLES.map((example) => {
  const button = node("button", "quiet", example.name);
  button.type = "button";
  button.addEventListener("click", () => {
    fill(example.question, example.text);
    ask();
  });
  return node("li", "", button);
}));
element("call").textContent = `curl ${new URL("search", location)} -d '${JSON.stringify({
  inputs: { question: "Who kept the log?", context: "Maren Holt kept the log." },
})}'`;
addEventListener("hashchange", follow);
follow();

const info = await (await fetch("info")).json();
limits = info.limits;
element("model").textContent = info.model;
element("links").append(...Object.entries(info.links).map(([name, url]) => {
  const link = node("a", "", name);
  link.href = url;
  return link;
}));
