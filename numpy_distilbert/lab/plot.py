"""Draw what the model computes for a question: the probabilities of the answer's start and end, and attention."""

import warnings
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any, cast

import numpy as np

from ..arguments import Array, check_integer
from ..checkpoint import Checkpoint
from ..files import write_whole
from ..inputs import read_options
from ..model import DistilBertForQuestionAnswering
from ..qa import check_finite
from ..spans import best_spans, in_context, span_probabilities, token_span
from ..tokenizer import Encoding, Tokenizer
from .record import one_window

FORMATS = "png", "svg"
TOKENS_A_LINE, CHARACTERS_A_TOKEN, CHARACTERS_AN_INCH = 40, 30, 10
INCH_A_TOKEN, INCH_A_CHARACTER, BAR_INCHES, HEAD_INCHES = 0.3, 0.07, 1.1, 1.2
LABEL: Any = {"fontsize": 8, "parse_math": False}  # a token is plain text, even one that looks like a formula
START, END = "#0072b2", "#d55e00"  # can be distinguished by the colour-blind too


def show(
    question: str,
    context: str,
    checkpoint: Checkpoint,
    path: str | PathLike[str],
    layer: int | None = None,
    head: int | None = None,
) -> None:
    """Draw start and end probabilities along the context, and the attention of the question's tokens to it.

    path: of the picture, .png or .svg; layer: from 0 (None: the last); head: from 0 (None: the mean of all).
    Raises ValueError for another suffix, no such layer or head, or more tokens than the model has positions.
    """
    kind = Path(path).suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise ValueError(f"{path}: a picture is a {' or a '.join(FORMATS)}. Name it so.")
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
    start, end = (span_probabilities(logits[0], encoding) for logits in (output.start_logits, output.end_logits))
    layer = model.config.n_layers - 1 if layer is None else layer
    heads = cast(tuple[Array, ...], output.attentions)[layer][0]  # (n_heads, queries, keys)
    attention = heads.mean(axis=0) if head is None else heads[head]
    shown = f"layer {layer}, " + ("mean of all heads" if head is None else f"head {head}")
    settings = read_options({}, model.config.max_position_embeddings, tokenizer.model_max_length)
    score, first, last = next(best_spans(start, end, encoding, settings.max_answer_len, 1))
    low, high = token_span(encoding, first, last)
    picture = _picture(encoding, start, end, attention, question, context[low:high], score, shown)
    with write_whole(path, binary=True) as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box is drawn in its place
        picture.savefig(file, format=kind)


def _picture(
    encoding: Encoding, start: Array, end: Array, attention: Array, title: str, answer: str, score: float, shown: str
) -> Any:
    """A matplotlib figure of lines of tokens: first their probabilities, then the attention to them. start, end:
    (tokens,); attention: (tokens, tokens), queries before keys; shown: which attention that is.
    """
    from matplotlib.figure import Figure

    context = np.flatnonzero(in_context(encoding))
    asking = np.flatnonzero([sequence == 0 for sequence in encoding.sequence_ids])
    lines = [context[first : first + TOKENS_A_LINE] for first in range(0, len(context), TOKENS_A_LINE)]
    tokens = [_cut(token, CHARACTERS_A_TOKEN) for token in encoding.tokens]
    left = 0.4 + INCH_A_CHARACTER * max(len(tokens[i]) for i in asking)
    gap = 0.5 + INCH_A_CHARACTER * max(len(tokens[i]) for i in context)  # for the labels
    heights = [BAR_INCHES] * len(lines) + [max(1.0, 0.2 * len(asking))] * len(lines)
    width = left + 0.3 + INCH_A_TOKEN * max(15, min(TOKENS_A_LINE, len(context)))
    total = sum(heights) + gap * len(heights) + HEAD_INCHES
    length = int(width * CHARACTERS_AN_INCH)
    figure = Figure(figsize=(width, total), dpi=120)
    figure.text(0.02, 1 - 0.15 / total, _cut(title, length), va="top", weight="bold", parse_math=False)
    figure.text(0.02, 1 - 0.40 / total, f"{_cut(answer, length - 8)}  ({score:.2f})", va="top", parse_math=False)
    bottom = total - 0.75
    titles = {0: "probability that the answer starts (up, blue) and ends (down, orange) here"}
    titles[len(lines)] = f"attention of the question to the text, {shown}"
    for number, (line, height) in enumerate(zip(lines * 2, heights, strict=True)):
        bottom -= height + (0.2 if number in titles else 0)
        axes = figure.add_axes((left / width, bottom / total, INCH_A_TOKEN * len(line) / width, height / total))
        bottom -= gap
        if number < len(lines):
            _draw_probabilities(axes, start[line], end[line])
        else:
            squares, most = attention[np.ix_(asking, line)], float(attention[np.ix_(asking, context)].max())
            axes.imshow(squares, cmap="Blues", vmin=0, vmax=most, aspect="auto", interpolation="nearest")
            axes.set_yticks(range(len(asking)), [tokens[i] for i in asking], **LABEL)
        axes.set_xticks(range(len(line)), [tokens[i] for i in line], **LABEL, rotation=90)
        if number in titles:
            axes.set_title(titles[number], loc="left", fontsize=9)
    return figure


def _cut(text: str, length: int) -> str:
    """Text of at most so many characters, without those that cannot be drawn."""
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _draw_probabilities(axes: Any, start: Array, end: Array) -> None:
    """Bars of the start upwards and of the end downwards. start, end: (tokens,)."""
    axes.bar(range(len(start)), start, color=START)
    axes.bar(range(len(end)), -end, color=END)
    axes.axhline(0, color="black", linewidth=0.5)
    axes.set(xlim=(-0.5, len(start) - 0.5), ylim=(-1, 1))
    axes.set_yticks([-1, 0, 1], ["1", "0", "1"], fontsize=8)
