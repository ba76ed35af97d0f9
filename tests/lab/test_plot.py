"""Pictures: that they are drawn, and of what. How they look was looked at."""

import io
import subprocess
import sys

import numpy as np
import pytest

from numpy_distilbert import Checkpoint
from numpy_distilbert.cli import main
from numpy_distilbert.lab import plot
from numpy_distilbert.tokenizer import Encoding

matplotlib = pytest.importorskip("matplotlib", reason="needs the extra 'plot'")
axes = pytest.importorskip("matplotlib.axes", reason="needs the extra 'plot'")
agg = pytest.importorskip("matplotlib.backends.backend_agg", reason="needs the extra 'plot'")

QUESTION, CONTEXT = "Who kept the log?", "It cost $5 or $6 a year. Maren Holt kept its log."
LONG = "The tower is old. It was built of basalt. " * 8 + CONTEXT


@pytest.fixture
def drawn(monkeypatch):
    """The probabilities and the attention that are drawn."""
    seen = {"probabilities": [], "attention": []}
    bars, squares = plot._draw_probabilities, axes.Axes.imshow

    def imshow(self, attention, **options):
        seen["attention"].append(attention)
        return squares(self, attention, **options)

    monkeypatch.setattr(plot, "_draw_probabilities", lambda *a: (seen["probabilities"].append(a[1:3]), bars(*a)))
    monkeypatch.setattr(axes.Axes, "imshow", imshow)
    return seen


def test_probabilities_and_attention_of_the_whole_text_are_drawn(embedded, drawn, tmp_path):
    plot.show(QUESTION, LONG, Checkpoint(), tmp_path / "a.png", layer=2, head=3)
    encoding = embedded.tokenizer(QUESTION, LONG)
    context = [i for i, sequence in enumerate(encoding.sequence_ids) if sequence == 1]
    asking = [i for i, sequence in enumerate(encoding.sequence_ids) if sequence == 0]
    output = embedded.model([encoding.ids], output_attentions=True)
    np.testing.assert_array_equal(
        np.concatenate(drawn["attention"], axis=1), output.attentions[2][0, 3][np.ix_(asking, context)]
    )
    start, end = (np.concatenate(part) for part in zip(*drawn["probabilities"], strict=True))
    assert len(start) == len(end) == len(context) and start.sum() < 1.001 and end.max() > 0.5
    assert encoding.tokens[context[start.argmax()]] == "mare" and encoding.tokens[context[end.argmax()]] == "holt"
    assert {len(part) for part, _ in drawn["probabilities"]} == {40, len(context) % 40}
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_layer_and_a_head_it_is_the_mean_of_the_last(embedded, drawn, tmp_path):
    plot.show(QUESTION, CONTEXT, Checkpoint(), tmp_path / "a.svg")
    encoding = embedded.tokenizer(QUESTION, CONTEXT)
    attention = embedded.model([encoding.ids], output_attentions=True).attentions[-1][0].mean(axis=0)
    np.testing.assert_array_equal(drawn["attention"][0], attention[1:6, 7:-1])
    picture = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert "layer 5, mean of all heads" in picture.replace("&#32;", " ") and picture.startswith("<?xml")


def test_a_first_layer_and_head_are_not_the_default(drawn, tmp_path, embedded):
    plot.show(QUESTION, CONTEXT, Checkpoint(), tmp_path / "a.png", layer=0, head=0)
    ids = embedded.tokenizer(QUESTION, CONTEXT).ids
    attention = embedded.model([ids], output_attentions=True).attentions[0][0, 0]
    np.testing.assert_array_equal(drawn["attention"][0], attention[1:6, 7:-1])


def picture(tokens, sequence_ids, start, end, attention):
    n = len(tokens)
    encoding = Encoding(list(range(n)), [(0, 0)] * n, [None] * n, sequence_ids, dict(enumerate(tokens)))
    return plot._picture(encoding, start, end, attention, "Q $x$\x07" + "y" * 300, "a" * 300, 0.5, "layer 1, head 2")


def test_every_token_has_its_bars_its_square_and_its_name():
    tokens = ["[CLS]", "who", "telecommunications", "[SEP]", "cost", "$", "5$", "characterization", "[SEP]"]
    sequence_ids = [None, 0, 0, None, 1, 1, 1, 1, None]
    start, end = np.arange(9) / 20, np.arange(9)[::-1] / 20
    attention = np.arange(81).reshape(9, 9) / 81
    figure = picture(tokens, sequence_ids, start, end, attention)
    figure.savefig(io.BytesIO())  # a dollar is no formula
    bars, squares = figure.axes
    heights = [bar.get_height() for bar in bars.patches]
    np.testing.assert_allclose(heights, [*start[4:8], *-end[4:8]])
    np.testing.assert_array_equal(squares.images[0].get_array(), attention[1:3, 4:8])
    for axes in (bars, squares):
        assert [label.get_text() for label in axes.get_xticklabels()] == tokens[4:8]
    assert [label.get_text() for label in squares.get_yticklabels()] == tokens[1:3]
    title, answer = (text.get_text() for text in figure.texts)
    assert title.startswith("Q $x$ yyy") and title.endswith("…") and answer.endswith("…  (0.50)")
    assert squares.get_title(loc="left") == "attention of the question to the text, layer 1, head 2"


@pytest.mark.parametrize("token", ["$x$", r"$\foo$", "$_$"])
def test_a_token_that_looks_like_a_formula_is_drawn_as_it_is(token):
    n, drawn = 5, io.BytesIO()
    figure = picture(
        ["[CLS]", token, "[SEP]", token, "[SEP]"],
        [None, 0, None, 1, None],
        np.zeros(n),
        np.zeros(n),
        np.ones((n, n)),
    )
    with matplotlib.rc_context({"svg.fonttype": "none"}):  # text as text
        figure.savefig(drawn, format="svg")
    assert drawn.getvalue().decode().count(f">{token}</text>") == 3  # below both axes, and beside the second


def test_nothing_hides_a_label():
    tokens = ["[CLS]", *["telecommunications"] * 3, "[SEP]", *["characterization"] * 90, "[SEP]"]
    sequence_ids = [None, 0, 0, 0, None, *[1] * 90, None]
    figure = picture(tokens, sequence_ids, np.zeros(96), np.zeros(96), np.ones((96, 96)))
    renderer = agg.FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    frames = [axes.get_window_extent(renderer) for axes in figure.axes]
    assert len(frames) == 6
    for axes in figure.axes:
        for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
            box = label.get_window_extent(renderer)
            assert box.x0 > 0 and box.y0 > 0 and not any(box.overlaps(frame) for frame in frames)


@pytest.mark.parametrize("output, options, message", [
    ("a.jpg", [], "a.jpg: a picture is a png or a svg. Name it so"),
    ("a", [], "a: a picture is a png or a svg"),
    ("nowhere/a.png", [], "nowhere/a.png: cannot be written"),
    ("a.png", ["--layer", "6"], "layer must be less than 6, got 6"),
    ("a.png", ["--head", "-1"], "head must be at least 0, got -1"),
    ("a.png", ["--context", "log " * 600], "608 tokens, the model has 512 positions. Shorten the context"),
    ("a.png", ["--context", " "], "context must not be blank"),
])  # fmt: skip
def test_what_cannot_be_drawn_is_named_and_nothing_is_left(output, options, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    context = [] if "--context" in options else ["--context", CONTEXT]
    assert main(["show", QUESTION, *context, "-o", output, *options]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_one_line_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["show", QUESTION, "--context", CONTEXT, "-o", str(tmp_path / "a.png")]) == 2
    assert 'pip install "numpy-distilbert[plot]"' in capsys.readouterr().err


def test_no_extra_is_loaded_before_it_is_needed():
    extras = ("matplotlib", "huggingface_hub", "starlette", "uvicorn", "pyarrow", "distributed", "threadpoolctl")
    program = f"import sys, numpy_distilbert.cli; print([name for name in {extras} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8").stdout == "[]\n"
