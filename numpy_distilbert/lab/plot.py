"""Draw what the model computes for a question: the probabilities of the answer's start and end, and attention."""

import textwrap
import warnings
from contextlib import suppress
from importlib import import_module
from itertools import groupby
from os import PathLike
from pathlib import Path
from typing import Any, cast
from unicodedata import east_asian_width

import numpy as np
from numpy.typing import NDArray

from ..arguments import Array, Ids, check_integer
from ..checkpoint import Checkpoint
from ..documents import SENTENCE_OR_LINE_END
from ..files import write_whole
from ..inputs import read_options
from ..model import DistilBertForQuestionAnswering
from ..qa import Search, check_finite
from ..spans import Answer, span_probabilities, token_span
from ..tokenizer import Encoding, Tokenizer
from .record import one_window

FORMATS = "png", "svg"
WORDS, TOKENS_A_LINE, ROWS = 40, 60, 20  # as many as are readable
LABEL_LETTERS, ANSWER_LETTERS, TITLE_LETTERS, TITLE_LINES = 18, 62, 92, 3
WIDTH, HEIGHT, HEAD, LINE, ROW = 16, 9, 1.8, 1.5, 0.21  # inches
SMALL, MEDIUM, LARGE = 10, 13, 20  # points
START, END = "#0072b2", "#d55e00"  # can be distinguished by the colour-blind too
# for what matplotlib's own font lacks: how the names of families begin
FONTS = "Noto Sans CJK", "Source Han", "Hiragino", "Yu Gothic", "Microsoft Ya", "Malgun", "WenQuanYi", "Arial Unicode"
STYLE: Any = {
    "text.parse_math": False,  # a word is plain text, even one that looks like a formula
    "font.size": MEDIUM, "xtick.labelsize": SMALL, "ytick.labelsize": SMALL, "axes.edgecolor": "none",
    "xtick.major.size": 0, "ytick.major.size": 0, "legend.frameon": False, "legend.borderpad": 0,
    "legend.borderaxespad": 0, "legend.handlelength": 1, "legend.handleheight": 1,
    "image.cmap": "Purples", "image.aspect": "auto", "image.interpolation": "nearest",
}  # fmt: skip


def show(
    question: str,
    context: str,
    checkpoint: Checkpoint,
    path: str | PathLike[str],
    layer: int | None = None,
    head: int | None = None,
    every_token: bool = False,
) -> bool:
    """Draw how likely each word is to start and to end the answer, and how much the question attends to it.

    Drawn are the words of the answer's sentence and its neighbours, or every token of the context. A word has the sum
    of its tokens' probabilities and of the attention to them; from a word of the question comes its tokens' mean.
    path: of the picture, .png or .svg; layer: from 0 (None: the last); head: from 0 (None: the mean of all).
    Returns whether the system has fonts for all characters; where it has none, a box is drawn.
    Raises ValueError for another suffix, no such layer or head, or more tokens than the model has positions.
    """
    kind = Path(path).suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise ValueError(f"{path}: use a file name ending in .{' or .'.join(FORMATS)}.")
    try:
        import_module("matplotlib.figure")
    except ImportError as error:
        raise ValueError('matplotlib is needed for pictures. Run: pip install "numpy-distilbert[plot]"') from error
    model = DistilBertForQuestionAnswering.from_pretrained(checkpoint)
    tokenizer = Tokenizer.from_pretrained(checkpoint)
    for name, number, count in (("layer", layer, model.config.n_layers), ("head", head, model.config.n_heads)):
        if number is not None and check_integer(name, number, 0) >= count:
            raise ValueError(f"{name} must be less than {count}, got {number}.")
    encoding = one_window(question, context, tokenizer, model.config)
    for sequence, (name, text) in enumerate((("question", question), ("context", context))):
        if sequence not in encoding.sequence_ids:
            raise ValueError(f"{name} must not be blank, got {text[:20]!r}.")
    output = model([encoding.ids], output_attentions=True)
    check_finite(output)
    logits = output.start_logits[0], output.end_logits[0]
    layer = model.config.n_layers - 1 if layer is None else layer
    heads = cast(tuple[Array, ...], output.attentions)[layer][0]  # (n_heads, queries, keys)
    attention = heads.mean(axis=0) if head is None else heads[head]
    which = f"layer {layer}, " + ("mean of all heads" if head is None else f"head {head}")
    search = Search(context, read_options({}, model.config.max_position_embeddings, tokenizer.model_max_length))
    search.add(encoding, *logits)
    answer = cast(Answer, search.result())
    rows, columns = (_words(encoding, i, text, every_token) for i, text in enumerate((question, context)))
    starts = np.array([encoding.offsets[tokens[0]][0] for _, tokens in columns])
    in_answer = (starts >= answer.start) & (starts < answer.end)
    shown = slice(None) if every_token else _nearby(starts, in_answer, context)
    attention = np.stack([attention[tokens].mean(axis=0) for _, tokens in rows])
    values = np.vstack([*(span_probabilities(x, encoding) for x in logits), attention])
    values = np.stack([values[:, tokens].sum(axis=1) for _, tokens in columns[shown]], axis=1)
    titles = _plain(question), f"{_plain(answer.answer, ANSWER_LETTERS)}  ({answer.score:.2f})", which
    row_labels, labels = ([_plain(name, LABEL_LETTERS) for name, _ in words] for words in (rows, columns[shown]))
    if not every_token:
        labels[0], labels[-1] = "… " * (shown.start > 0) + labels[0], labels[-1] + " …" * (shown.stop < len(columns))
    with _style(), write_whole(path, binary=True) as file, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _picture(titles, row_labels, labels, in_answer[shown], values).savefig(file, format=kind)
    return not any("missing from" in str(warning.message) for warning in caught)


def _words(encoding: Encoding, sequence: int, text: str, every_token: bool) -> list[tuple[str, list[int]]]:
    """Each word of the question (sequence 0) or the context (1) with its tokens; or each token as if it were one."""
    tokens = (i for i, of in enumerate(encoding.sequence_ids) if of == sequence)
    if every_token:
        return [(encoding.tokens[i], [i]) for i in tokens]
    words = [list(word) for _, word in groupby(tokens, lambda i: encoding.word_ids[i])]
    return [(text[slice(*token_span(encoding, word[0], word[-1]))], word) for word in words]


def _nearby(starts: Ids, in_answer: NDArray[np.bool_], context: str) -> slice:
    """At most WORDS words: of the answer's sentence, then of those beside it. starts: where in context each begins."""
    ends = [match.end() for match in SENTENCE_OR_LINE_END.finditer(context)]
    sentences = np.unique(np.searchsorted(ends, starts, "right"), return_inverse=True)[1]
    first, last = np.flatnonzero(in_answer)[[0, -1]]
    for beside in (0, 1):
        near = np.flatnonzero((sentences >= sentences[first] - beside) & (sentences <= sentences[last] + beside))
        room = max(0, WORDS - (last + 1 - first))
        first = max(near[0], min(first - room // 2, near[-1] + 1 - WORDS))
        last = min(near[-1], first + WORDS - 1)
    return slice(int(first), int(last) + 1)


def _style() -> Any:
    """matplotlib's default settings and STYLE, with the system's fonts for characters that its own font lacks."""
    from matplotlib import font_manager, style

    known = font_manager.fontManager.ttflist
    for path in {*font_manager.findSystemFonts()} - {font.fname for font in known}:  # installed since it last looked
        with suppress(Exception):  # of a font that it cannot draw
            font_manager.fontManager.addfont(path)
    others = [font.name for name in FONTS for font in known if font.name.startswith(name)]
    return style.context(["default", STYLE, {"font.family": ["DejaVu Sans", *dict.fromkeys(others)]}])


def _picture(
    titles: tuple[str, str, str], rows: list[str], columns: list[str], in_answer: NDArray[np.bool_], values: Array
) -> Any:
    """A matplotlib figure, 16 to 9 or higher: lines of columns, each with its bars and below the attention to it.

    titles: the question, the answer, which attention it is; values: (start, end and rows of attention, columns).
    """
    from matplotlib.figure import Figure

    attention, few = values[2:], f" ({ROWS} of {len(rows)} words)" * (len(rows) > ROWS)
    most = np.sort(np.argsort(-attention.sum(axis=1), kind="stable")[:ROWS])
    rows, attention = [rows[i] for i in most], attention[most]
    width = min(TOKENS_A_LINE, len(columns))
    lines = [slice(i, i + width) for i in range(0, len(columns), width)]
    size = MEDIUM if width <= WORDS else SMALL
    wide = np.mean([c.isupper() or east_asian_width(c) in "WF" for c in titles[0]])  # which count as two letters
    title = textwrap.fill(titles[0], int(TITLE_LETTERS / (1 + wide)), max_lines=TITLE_LINES, placeholder=" …")
    head = HEAD + LARGE / 60 * title.count("\n")
    height = max(HEIGHT, head + len(lines) * (LINE + ROW * len(rows)))
    figure, panel = Figure((WIDTH, height), dpi=120), (0.01, 0.1 / height, 0.98, 1 - (head + 0.1) / height)
    figure.set_layout_engine("constrained", rect=panel, h_pad=0.03, hspace=0)
    figure.text(0.02, 1 - 0.3 / height, title, va="top", size=LARGE, color="dimgrey")
    figure.text(0.02, 1 - (head - 0.8) / height, titles[1], va="center", size=LARGE, weight="bold")
    panels = figure.subplots(2 * len(lines), 1, height_ratios=[1, min(5, 0.5 + 0.35 * len(rows))] * len(lines))
    for line, bars, heat in zip(lines, panels[::2], panels[1::2], strict=True):
        places = np.arange(len(columns[line]))
        bars.bar(places, in_answer[line], 1, color="#fff3c4")
        bars.hlines([0.5, 1], -0.5, len(places) - 0.5, color="lightgrey", linewidth=0.8, zorder=0)
        bars.bar(places - 0.2, values[0, line], 0.4, color=START, label="probability of the start")
        bars.bar(places + 0.2, values[1, line], 0.4, color=END, label="of the end")
        bars.set(xlim=(-0.5, width - 0.5), ylim=(0, 1), xticks=[], yticks=[0, 1])
        image = heat.imshow(attention[:, line], vmin=0, vmax=attention.max())
        heat.set_xlim(-0.5, width - 0.5)
        heat.set_yticks(range(len(rows)), rows, size=size)
        heat.set_xticks(places, columns[line], size=size, rotation=60, ha="right", rotation_mode="anchor")
        for place in np.flatnonzero(in_answer[line]):
            heat.get_xticklabels()[place].set_weight("bold")
    key = 1 - (head - 0.25) / height
    figure.legend(*panels[0].get_legend_handles_labels(), loc="center left", bbox_to_anchor=(0.02, key), ncols=2)
    figure.text(0.83, key, f"attention of the question{few} to the text, {titles[2]}", ha="right", va="center")
    scale = figure.add_axes((0.84, key - 0.08 / height, 0.13, 0.16 / height))
    figure.colorbar(image, scale, orientation="horizontal", ticks=[0, attention.max()], format="{x:.2g}")
    return figure


def _plain(text: str, letters: int = 1000) -> str:
    """The text, cut to that many letters, with spaces for characters that cannot be drawn."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= letters else f"{text[: letters - 1]}…"
