"""Pictures: that they are drawn, of what, and that it can be read. How they look was looked at."""

import io
import re
import struct
import subprocess
import sys

import numpy as np
import pytest
from properties import given, settings, st

from numpy_distilbert import Checkpoint
from numpy_distilbert.cli import main
from numpy_distilbert.lab import plot
from numpy_distilbert.spans import span_probabilities

matplotlib = pytest.importorskip("matplotlib", reason="needs the extra 'plot'")
agg = pytest.importorskip("matplotlib.backends.backend_agg", reason="needs the extra 'plot'")
font_manager = pytest.importorskip("matplotlib.font_manager", reason="needs the extra 'plot'")

QUESTION, CONTEXT = "Who kept Maren's log?", "It cost $5 or $6 a year. Maren Holt kept its log."
LONG = "The tower is old. It was built of basalt. " * 8 + CONTEXT
NOT_IN_DEJAVU_SANS = "\u2313", "STIXGeneral"  # a character, and a font with it that matplotlib brings along


def size(path):
    """Width and height of a PNG."""
    assert path.read_bytes().startswith(b"\x89PNG")
    return struct.unpack(">II", path.read_bytes()[16:24])


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn: titles, rows, columns, which of them are the answer, and their values."""
    seen, picture = {}, plot._picture

    def spy(*drawn):
        seen.update(zip(("titles", "rows", "columns", "in_answer", "values"), drawn, strict=True))
        return picture(*drawn)

    monkeypatch.setattr(plot, "_picture", spy)
    return seen


def computed(qa, context, layer, head=slice(None)):
    """The encoding of question and context, start and end probabilities, and the attention: (tokens, tokens)."""
    encoding = qa.tokenizer(QUESTION, context)
    output = qa.model([encoding.ids], output_attentions=True)
    probabilities = [span_probabilities(logits[0], encoding) for logits in (output.start_logits, output.end_logits)]
    return encoding, probabilities, output.attentions[layer][0, head].reshape(-1, *[len(encoding)] * 2).mean(axis=0)


@pytest.mark.parametrize("layer, head", [(2, 3), (0, 0)])
def test_every_token_is_drawn_as_the_model_sees_it(embedded, drawn, tmp_path, layer, head):
    assert plot.show(QUESTION, CONTEXT, Checkpoint(), tmp_path / "a.png", layer, head, every_token=True)
    encoding, probabilities, attention = computed(embedded, CONTEXT, layer, head)
    asking, context = ([i for i, of in enumerate(encoding.sequence_ids) if of == sequence] for sequence in (0, 1))
    np.testing.assert_array_equal(
        drawn["values"], [*(p[context] for p in probabilities), *attention[asking][:, context]]
    )
    assert drawn["rows"] == [encoding.tokens[i] for i in asking]
    assert drawn["columns"] == [encoding.tokens[i] for i in context]
    assert [drawn["columns"][i] for i in np.flatnonzero(drawn["in_answer"])] == ["mare", "##n", "holt"]
    assert drawn["titles"][2] == f"layer {layer}, head {head}"
    assert size(tmp_path / "a.png") == (1920, 1080)


def test_a_word_has_the_sum_of_its_tokens_and_asks_with_their_mean(embedded, drawn, tmp_path):
    assert plot.show(QUESTION, CONTEXT, Checkpoint(), tmp_path / "a.svg")
    encoding, (start, end), attention = computed(embedded, CONTEXT, -1)
    assert [encoding.tokens[i] for i in (3, 4, 20, 21)] == ["mare", "##n"] * 2
    assert drawn["rows"] == ["Who", "kept", "Maren", "'", "s", "log", "?"]
    assert drawn["columns"] == ["It", "cost", "$", "5", "or", "$", "6", "a", "year", ".", *CONTEXT[25:-1].split(), "."]
    place, asking = drawn["columns"].index("Maren"), 2 + drawn["rows"].index("Maren")
    expected = start[[20, 21]].sum(), end[[20, 21]].sum(), attention[[3, 4]][:, [20, 21]].sum() / 2
    np.testing.assert_allclose(drawn["values"][[0, 1, asking], place], expected, rtol=1e-6)
    np.testing.assert_allclose(drawn["values"].sum(axis=1)[:2], [x[10:-1].sum() for x in (start, end)], rtol=1e-6)
    answer = embedded(QUESTION, CONTEXT)
    assert drawn["titles"] == (QUESTION, f"Maren Holt  ({answer.score:.2f})", "layer 5, mean of all heads")
    assert [drawn["columns"][i] for i in np.flatnonzero(drawn["in_answer"])] == ["Maren", "Holt"]
    assert (tmp_path / "a.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_the_picture_of_a_long_text_is_a_slide_of_the_answer_s_sentence_and_its_neighbours(drawn, tmp_path):
    behind = " Nobody read it. It is lost."
    plot.show(QUESTION, LONG + behind, Checkpoint(), tmp_path / "a.png")
    shown = " ".join(drawn["columns"])
    assert shown == "… It cost $ 5 or $ 6 a year . Maren Holt kept its log . Nobody read it . …"
    assert size(tmp_path / "a.png") == (1920, 1080)


@settings(max_examples=50)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.data())
def test_of_the_sentences_so_much_is_drawn_as_there_is_room_for(lengths, data):
    sentence = np.repeat(range(len(lengths)), lengths)
    first = data.draw(st.integers(0, len(sentence) - 1))
    last = data.draw(st.integers(first, min(len(sentence), first + 15) - 1))
    words = [f"w{'.' * (i in np.cumsum(lengths) - 1)}" for i in range(len(sentence))]
    starts = np.cumsum([0, *[len(word) + 1 for word in words[:-1]]])
    in_answer = (np.arange(len(words)) >= first) & (np.arange(len(words)) <= last)
    shown = range(len(words))[plot._nearby(starts, in_answer, " ".join(words))]
    wanted = np.flatnonzero((sentence >= sentence[first] - 1) & (sentence <= sentence[last] + 1))
    own = np.flatnonzero((sentence >= sentence[first]) & (sentence <= sentence[last]))
    assert set(range(first, last + 1)) <= set(shown) <= set(wanted) and len(shown) == min(40, len(wanted))
    assert set(own) <= set(shown) if len(own) <= 40 else set(shown) <= set(own)
    if shown[0] not in (own[0], wanted[0]) and shown[-1] not in (own[-1], wanted[-1]):
        inner = (first, last) if len(own) > 40 else (own[0], own[-1])
        assert abs((inner[0] - shown[0]) - (shown[-1] - inner[1])) <= 1  # in the middle


def picture(rows, columns, values=None, titles=("Q?", "A  (0.50)", "layer 1, head 2")):
    values = np.ones((2 + len(rows), len(columns))) if values is None else values
    with plot._style():
        figure = plot._picture(titles, rows, columns, np.arange(len(columns)) == 1, values)
        figure.savefig(io.BytesIO())  # which lays it out
        return figure


def test_every_word_has_its_bars_its_square_and_its_name():
    rows, columns, values = ["who", "telecommunications"], ["cost", "$", "5$", "old"], np.arange(16).reshape(4, 4) / 20
    figure = picture(rows, columns, values)
    bars, squares, scale = figure.axes
    highlight, start, end = bars.containers
    np.testing.assert_array_equal(
        [bar.get_height() for bar in (*highlight, *start, *end)], [0, 1, 0, 0, *values[:2].flat]
    )
    assert [bar.get_facecolor()[:3] for bar in (start[0], end[0])] == [
        *map(matplotlib.colors.to_rgb, (plot.START, plot.END))
    ]
    np.testing.assert_array_equal(squares.images[0].get_array(), values[2:])
    assert [label.get_text() for label in squares.get_xticklabels()] == columns
    assert [label.get_weight() for label in squares.get_xticklabels()] == ["normal", "bold", "normal", "normal"]
    assert [label.get_text() for label in squares.get_yticklabels()] == rows
    assert [text.get_text() for text in figure.texts[:2]] == ["Q?", "A  (0.50)"]
    assert figure.texts[2].get_text() == "attention of the question to the text, layer 1, head 2"
    assert [text.get_text() for text in figure.legends[0].texts] == ["probability of the start", "of the end"]
    assert [label.get_text() for label in scale.get_xticklabels()] == ["0", "0.75"]


def test_lines_below_each_other_hold_all_columns():
    values = np.random.default_rng(0).random((3, 130))
    figure = picture(["who"], list(map(str, range(130))), values)
    bars, squares = figure.axes[:-1:2], figure.axes[1::2]
    assert [len(axes.get_xticks()) for axes in squares] == [60, 60, 10]
    assert [label.get_text() for axes in squares for label in axes.get_xticklabels()] == list(map(str, range(130)))
    np.testing.assert_array_equal(np.hstack([axes.images[0].get_array() for axes in squares]), values[2:])
    assert {axes.images[0].get_clim() for axes in squares} == {(0, values[2].max())}
    heights = [[bar.get_height() for axes in bars for bar in axes.containers[i]] for i in (1, 2)]
    np.testing.assert_array_equal(heights, values[:2])


def test_of_a_very_long_question_the_words_with_most_attention_are_drawn():
    values = np.ones((77, 3))
    values[[2 + 7, 2 + 70]] = 2
    rows = [f"w{i}" for i in range(75)]
    figure = picture(rows, ["a"] * 3, values, ("word " * 75, "A", "layer 1"))
    drawn = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert len(drawn) == 20 and {"w7", "w70"} <= set(drawn) and drawn == [row for row in rows if row in drawn]
    assert figure.texts[2].get_text() == "attention of the question (20 of 75 words) to the text, layer 1"
    assert figure.texts[0].get_text().count("\n") == 2 and figure.texts[0].get_text().endswith(" …")


@pytest.mark.parametrize("n_rows, n_columns, label, title", [
    (3, 1, "a", "Who?"),
    (20, 40, "telecommunications", "WHO WAS IT THAT KEPT THE LOG? " * 9),
    (60, 40, "INTERNATIONALLY", "誰" * 300),
    (20, 130, "##characterization", "Who kept the log of the lighthouse? " * 9),
])  # fmt: skip
def test_everything_can_be_read(n_rows, n_columns, label, title):
    figure = picture([label] * n_rows, [label] * n_columns, titles=(title, label, "layer 11, mean of all heads"))
    renderer = agg.FigureCanvasAgg(figure).get_renderer()
    width, height = figure.bbox.size
    *panels, scale = figure.axes
    ticks = [label for axes in panels[1::2] for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    texts = [*figure.texts, *figure.legends[0].texts]
    frames = [axes.get_window_extent(renderer) for axes in figure.axes]
    assert min(frame.height for frame in frames[:-1]) > 45
    for text in (*texts, *ticks, *scale.get_xticklabels()):
        box = text.get_window_extent(renderer)
        assert text.get_size() >= 10 and box.x0 > 0 and box.y0 > 0 and box.x1 < width and box.y1 < height
        assert not any(box.overlaps(frame) for frame in frames)
    boxes = [text.get_window_extent(renderer) for text in texts]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    for axes in panels[1::2]:
        squares, letters = axes.get_window_extent(renderer), axes.get_yticklabels()[0].get_size() * 120 / 72
        assert squares.height / len(axes.get_yticks()) > 0.95 * letters
        assert squares.width / min(n_columns, 60) * np.sin(np.pi / 3) > letters
    assert (width, height) == (1920, 1080) or (n_columns == 130 and height < 2400)


@pytest.mark.parametrize("word", ["$x$", r"$\foo$", "$_$"])
def test_a_word_that_looks_like_a_formula_is_drawn_as_it_is(word):
    drawn = io.BytesIO()
    with plot._style(), matplotlib.rc_context({"svg.fonttype": "none"}):  # text as text
        plot._picture((word, word, ""), [word], [word], np.array([True]), np.ones((3, 1))).savefig(drawn, format="svg")
    assert drawn.getvalue().decode().count(f">{word}</text>") == 4


def test_control_characters_and_endless_words_do_not_harm(drawn, tmp_path):
    plot.show("Who\x07 kept it?", f"Maren\x07 Holt, not {'wo' * 90}.", Checkpoint(), tmp_path / "a.png")
    assert drawn["titles"][0] == "Who  kept it?" and drawn["columns"][-2] == "wowowowowowowowow…"


def test_characters_come_from_a_font_that_the_system_has_since_lately(tmp_path, monkeypatch):
    character, family = NOT_IN_DEJAVU_SANS
    path = font_manager.findfont(family)
    known = [font for font in font_manager.fontManager.ttflist if font.name != family]
    arguments = "Who kept it?", f"Maren Holt kept {character}.", Checkpoint(), tmp_path / "a.png"
    monkeypatch.setattr(plot, "FONTS", ("STIXGen",))
    monkeypatch.setattr(font_manager.fontManager, "ttflist", known)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [__file__])
    assert not plot.show(*arguments)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [__file__, path])
    assert plot.show(*arguments)


def test_one_line_says_that_a_font_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plot, "FONTS", ())
    assert main(["show", "Where is 東京?", "--context", "東京 is in Japan, 東京 is."]) == 0
    out, err = capsys.readouterr()
    assert out == "show.png\n" and size(tmp_path / "show.png") == (1920, 1080)
    note = "this system has no font for some of the characters; they are drawn as boxes."
    assert err == f"numpy-distilbert: {note}\n"


def test_nothing_is_said_of_a_font_without_the_usual_weights(tmp_path, monkeypatch, caplog, capsys):
    character, family = NOT_IN_DEJAVU_SANS
    path = font_manager.findfont(family)
    medium = font_manager.FontEntry(fname=path, name="Source Han Medium", weight=500)  # as of many for Chinese
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [*font_manager.fontManager.ttflist, medium])
    monkeypatch.chdir(tmp_path)
    assert main(["show", "Who kept it?", "--context", f"Maren Holt kept {character}."]) == 0
    assert (*capsys.readouterr(), caplog.messages) == ("show.png\n", "", [])


@pytest.mark.parametrize("options, columns", [([], r"… It .*\."), (["--all"], r"the .* year \. mare ##n holt .*\.")])
def test_all_is_every_token(options, columns, drawn, tmp_path, capsys):
    path = str(tmp_path / "a.png")
    assert main(["show", QUESTION, "--context", LONG, "-o", path, *options]) == 0
    assert re.fullmatch(columns, " ".join(drawn["columns"])) and tuple(capsys.readouterr()) == (f"{path}\n", "")


@pytest.mark.parametrize("output, options, message", [
    ("a.jpg", [], "a.jpg: use a file name ending in .png or .svg"),
    ("a", [], "a: use a file name ending in .png or .svg"),
    ("nowhere/a.png", [], "nowhere/a.png: cannot be written"),
    ("a.png", ["--layer", "6"], "layer must be less than 6, got 6"),
    ("a.png", ["--head", "-1"], "head must be at least 0, got -1"),
    ("a.png", ["--context", "log " * 600], "611 tokens, the model has 512 positions. Shorten the context"),
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
