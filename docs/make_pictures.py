"""Draw the pictures in docs/pictures, from the real model, terminal and page.

    pip install -e ".[test]" && playwright install chromium && python docs/make_pictures.py [NAME...]

NAME: some of model, attention, show, terminal, page; without one, all of them are drawn.
"""

import html
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from matplotlib.figure import Figure
from playwright.sync_api import Browser, sync_playwright

from numpy_distilbert import Checkpoint, QuestionAnswerer

PICTURES = Path(__file__).parent / "pictures"
CHROMIUM = next((path for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if os.path.exists(path)), None)
QUESTION, CONTEXT = "Who kept the log?", "The tower is old. Maren Holt kept its log."
COMMAND = [sys.executable, "-m", "numpy_distilbert"]
LOGS = {
    "logs/tower.md": "# The tower\n\nThe tower was built in 1868, of granite from the quarry across the bay.\n"
    "Maren Holt kept its log for forty years, in pencil.\n",
    "logs/boat.md": "# The boat\n\nOve Lind built the boat. It was launched in 1912, on a Sunday, and\n"
    "sank two winters later.\n",
}
ASKED = "When was the boat launched?", "What did the lamp cost?"
STYLE = """
text { font: 15px system-ui, sans-serif; fill: #1c1c1e; }
.small { font-size: 13px; fill: #5b5b63; }
.name { font-weight: 600; }
rect { fill: #f1f1f4; stroke: #85858f; rx: 6px; }
.paper { fill: #ffffff; stroke: none; }
.group { fill: none; stroke-dasharray: 5 4; }
.answer { fill: #ffe27a; stroke: none; }
path { fill: none; stroke: #5b5b63; stroke-width: 1.5; }
marker path { fill: #5b5b63; stroke: none; }
@media (prefers-color-scheme: dark) {
  text { fill: #ececf0; }
  .small { fill: #b0b1ba; }
  rect { fill: #24262b; stroke: #7e808b; }
  .paper { fill: #17181b; }
  .answer { fill: #6a5200; }
  path { stroke: #b0b1ba; }
  marker path { fill: #b0b1ba; }
}
"""


def model(qa: QuestionAnswerer) -> None:
    """The whole model as a diagram, with the shapes of a real question."""
    c, n_tokens = qa.model.config, len(qa.tokenizer(QUESTION, CONTEXT))
    columns, answer = f"{c.dim} × {n_tokens}", qa(QUESTION, CONTEXT)
    drawn = ['<rect class="paper" width="640" height="780"/>']
    boxes = [  # top, name, what it does, the shape that leaves it
        (56, "Tokenizer", "word pieces, [CLS] and [SEP]", f"{n_tokens} ids"),
        (136, "embed", "piece + position, layer norm", columns),
        (236, "self_attention", f"{c.n_heads} heads of {c.dim // c.n_heads} rows", columns),
        (316, "layer_norm", "of input + output", columns),
        (396, "feed_forward", f"{c.dim} → {c.hidden_dim:,} → {c.dim}, GELU", columns),
        (476, "layer_norm", "of input + output", columns),
        (576, "qa_outputs", "two numbers for every token", f"2 × {n_tokens} logits"),
        (656, "best_spans", "softmax, then the best start and end", "a span"),
    ]

    def text(x: int, y: int, content: str, kind: str = "", anchor: str = "middle") -> None:
        drawn.append(f'<text x="{x}" y="{y}" class="{kind}" text-anchor="{anchor}">{html.escape(content)}</text>')

    def arrow(path: str) -> None:
        drawn.append(f'<path d="{path}" marker-end="url(#tip)"/>')

    text(320, 24, f"“{QUESTION}”  “{CONTEXT}”")
    arrow("M320 34 V54")
    drawn.append('<rect class="group" x="96" y="208" width="520" height="340" rx="10"/>')
    text(602, 230, f"encoder_layer, {c.n_layers} times", "small", "end")
    for top, name, does, shape in boxes:
        drawn.append(f'<rect x="180" y="{top}" width="280" height="48"/>')
        text(320, top + 20, name, "name")
        text(320, top + 38, does, "small")
        text(332, top + 68, shape, "small", "start")
    for (top, *_), (below, *_) in pairwise(boxes):
        arrow(f"M320 {top + 48} V{below - 2}")
    for begin, end in ((214, 340), (374, 500)):  # each part of a block is passed by
        arrow(f"M320 {begin} H140 V{end} H178")
    arrow("M320 704 V730")
    drawn.append('<rect class="answer" x="232" y="732" width="176" height="34"/>')
    text(320, 754, f"{answer.answer} ({answer.score:.2f})", "name")
    size = 'viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"'
    tip = f'<defs><marker id="tip" {size} orient="auto"><path d="M0 0 8 4 0 8z"/></marker></defs>'
    content = "\n".join([f"<style>{STYLE}</style>", tip, *drawn])
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 780" width="640" height="780">\n{content}\n</svg>\n'
    )
    (PICTURES / "model.svg").write_text(svg, encoding="utf-8")


def attention(qa: QuestionAnswerer) -> None:
    """The attention of one head, for the walkthrough."""
    layer, head = 4, 11
    window = qa.tokenizer(QUESTION, CONTEXT)
    attentions = qa.model([window.ids], output_attentions=True).attentions
    assert attentions is not None
    figure = Figure(figsize=(8, 7), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    squares = axes.imshow(attentions[layer][0, head], cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(window)), window.tokens, rotation=90)
    axes.set_yticks(range(len(window)), window.tokens)
    axes.set(xlabel="is looked at (keys)", ylabel="looks (queries)", title=f"Attention of head {head} in block {layer}")
    figure.colorbar(squares, shrink=0.8, label="probability")
    figure.savefig(PICTURES / "attention.png")


def show(_: QuestionAnswerer) -> None:
    """What the verb show draws."""
    call = ["show", QUESTION, "--context", CONTEXT, "-o", str(PICTURES / "show.png")]
    subprocess.run([*COMMAND, *call], check=True, stdout=subprocess.DEVNULL)


def terminal(_: QuestionAnswerer) -> None:
    """The verb ask in a terminal."""
    for name, content in LOGS.items():
        path = PICTURES / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
    lines = []
    for question in ASKED:
        lines += [
            f'<b>$</b> numpy-distilbert ask "{question}" --file logs',
            as_html(in_terminal(["ask", question, "--file", "logs"])),
            "",
        ]
    for name in LOGS:
        (PICTURES / name).unlink()
    (PICTURES / "logs").rmdir()
    body = f"<pre>{chr(10).join(lines).rstrip()}</pre>"
    style = """
        body { margin: 0; background: #17181b; }
        pre { margin: 0; padding: 20px 24px; color: #ececf0; font: 15px/1.5 monospace; white-space: pre-wrap; }
        b { color: #ffffff; } mark { background: #ececf0; color: #17181b; font-weight: bold; }"""
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": 900, "height": 100}, device_scale_factor=2)
        page.set_content(f"<style>{style}</style>{body}")
        page.screenshot(path=PICTURES / "terminal.png", full_page=True)


def in_terminal(call: list[str]) -> str:
    """What a call prints on a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen([*COMMAND, *call], cwd=PICTURES, stdout=theirs, stderr=subprocess.DEVNULL):
        os.close(theirs)
        printed = b""
        while True:
            try:
                printed += os.read(ours, 4096)
            except OSError:  # it has ended
                return printed.decode().replace("\r\n", "\n").rstrip()


def as_html(printed: str) -> str:
    """Bold and highlighted text of a terminal as HTML."""
    tags = {"1;7": "<mark>", "1": "<b>"}
    printed = html.escape(printed)
    for code, tag in tags.items():
        printed = re.sub(rf"\x1b\[{code}m(.*?)\x1b\[0m", rf"{tag}\1</{tag[1:]}", printed, flags=re.DOTALL)
    return printed


def page(_: QuestionAnswerer) -> None:
    """The page with an answer, for README, in light and dark."""
    serve = [*COMMAND, "serve", "--port", "0"]
    with subprocess.Popen(serve, stderr=subprocess.PIPE, text=True) as service, browser() as chromium:
        assert service.stderr is not None
        address = re.search(r"http://\S+", service.stderr.readline())
        assert address is not None
        for scheme in ("light", "dark"):
            tab = chromium.new_page(viewport={"width": 1280, "height": 775}, color_scheme=scheme)
            tab.goto(address[0])
            tab.get_by_role("button", name="A long text").click()
            tab.locator("mark").first.wait_for()
            tab.screenshot(path=PICTURES / f"page-{scheme}.png")
        service.terminate()


@contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM)
        yield chromium
        chromium.close()


def main() -> None:
    drawings: dict[str, Callable[[QuestionAnswerer], None]] = {
        drawing.__name__: drawing for drawing in (model, attention, show, terminal, page)
    }
    qa = QuestionAnswerer.from_pretrained(Checkpoint())
    for name in sys.argv[1:] or drawings:
        drawings[name](qa)
    for path in sorted(PICTURES.iterdir()):
        print(f"{path.name:<20} {path.stat().st_size / 1000:6.0f} kB")


if __name__ == "__main__":
    main()
