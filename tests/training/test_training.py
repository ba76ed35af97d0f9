"""Gradients against PyTorch's and against central differences; training that is stopped and resumed; bad data."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import REFERENCE, posix
from reference import gradients as given
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from numpy_distilbert import (
    DistilBertForQuestionAnswering,
    QuestionAnswerer,
    Tokenizer,
    files,
)
from numpy_distilbert.checkpoint import hub
from numpy_distilbert.cli import main
from numpy_distilbert.cli import training as cli_training
from numpy_distilbert.documents import Calibration
from numpy_distilbert.kernels import attention, gelu, layer_norm, linear, softmax
from numpy_distilbert.lab.synthetic import SHAPES, random_weights
from numpy_distilbert.parameters import Affine, Config, Embeddings, state_dict, tree_leaves, tree_map
from numpy_distilbert.runtime.threads import Team
from numpy_distilbert.squad import Question, read_questions
from numpy_distilbert.training import calibration, data, gradients, loop, optimiser
from numpy_distilbert.training import loss as losses
from numpy_distilbert.training.calibration import Spans, fit
from numpy_distilbert.training.data import Example, Hyperparameters
from numpy_distilbert.training.gradients import loss_and_gradient
from numpy_distilbert.training.loop import trainable
from numpy_distilbert.training.loss import Loss

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "teacher_pytorch.py"
EXPECTED = load_file(REFERENCE / "gradients.safetensors")
OPERATIONS = given.operations()


def affine_like(weight, bias):
    return Affine(np.zeros_like(weight), np.zeros_like(bias))


def with_affine(backward):
    """A backward function that adds to a gradient, as one that gives all of them."""

    def all_of_them(dy, x, weight, bias):
        gradient = affine_like(weight, bias)
        return backward(dy, x, weight, gradient), *gradient

    return all_of_them


def probabilities(query, key, value):
    p = np.empty((*query.shape[:-2], query.shape[-1], query.shape[-1]), query.dtype)
    attention(query, key, value, probabilities=p)
    return p


def attention_backward(dy, query, key, value, dropout=None):
    return gradients.attention_backward(dy, query, key, value, probabilities(query, key, value), dropout)


def embeddings_backward(dy, words, places):
    gradient = Embeddings(np.zeros_like(words), np.zeros_like(places), Affine(words, places))
    gradients.embeddings_backward(dy, np.array(given.IDS), np.array(given.POSITIONS), gradient)
    return gradient.word_embeddings, gradient.position_embeddings


# forward, and backward: dy and the inputs -> the gradients with respect to the inputs
KERNELS = {
    "linear": (linear, with_affine(gradients.linear_backward)),
    "gelu": (gelu, lambda dy, x: (gradients.gelu_backward(dy, x),)),
    "softmax": (softmax, lambda dy, x: (gradients.softmax_backward(dy, softmax(x)),)),
    "layer_norm": (layer_norm, with_affine(gradients.layer_norm_backward)),
    "attention": (attention, attention_backward),
    "embeddings": (
        lambda words, places: (words[list(given.IDS)] + places[list(given.POSITIONS)]).T,
        embeddings_backward,
    ),
    "cross_entropy": (
        lambda x: losses.cross_entropy(x, given.TARGET)[0],
        lambda dy, x: (dy * losses.cross_entropy(x, given.TARGET)[1],),
    ),
    "distillation": (
        lambda x, teacher: losses.distillation(x, teacher, given.TEMPERATURE)[0],
        lambda dy, x, teacher: (dy * losses.distillation(x, teacher, given.TEMPERATURE)[1],),
    ),
    "dropout": (lambda q, k, v, dropout: v @ (probabilities(q, k, v) * dropout), attention_backward),
}


@pytest.mark.parametrize("name", KERNELS)
def test_backward_equals_pytorch(name):
    inputs, dy = OPERATIONS[name]
    for i, found in enumerate(KERNELS[name][1](dy, *inputs)):
        expected = EXPECTED[f"{name}.{i}"]
        assert found.dtype == np.float32 and found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-4 * max(np.abs(expected).max(), 1e-3)


@pytest.mark.parametrize("name", KERNELS)
def test_backward_equals_central_differences(name):
    inputs, dy = OPERATIONS[name]
    inputs, dy = [x.astype(np.float64) for x in inputs], np.float64(dy)
    forward, backward = KERNELS[name]
    # a teacher and dropout factors come last and have no gradient
    for x, found in zip(inputs, backward(dy, *inputs), strict=False):
        for place in np.ndindex(x.shape):
            value, h = x[place], 1e-5
            high, low = ((forward(*inputs) * dy).sum() for x[place] in (value + h, value - h))
            x[place] = value
            assert abs((high - low) / (2 * h) - found[place]) <= 1e-7 * max(1, abs(found[place]))


def random_model(shape, dtype):
    weights = random_weights(SHAPES[shape], seed=list(SHAPES).index(shape))
    return DistilBertForQuestionAnswering(Config(**SHAPES[shape]), weights, dtype)


def windows_of(shape):
    return [Example(*window) for window in given.windows(SHAPES[shape])]


LOSS = Loss(given.ALPHA, given.TEMPERATURE)


@pytest.mark.parametrize("shape", given.MODELS)
def test_the_whole_model_equals_pytorch(shape):
    model, windows = random_model(shape, "float32"), windows_of(shape)
    gradient = tree_map(np.zeros_like, trainable(model, freeze_words=False))
    loss = loss_and_gradient(model, windows, LOSS, gradient, share=1 / 3)
    assert loss == pytest.approx(float(EXPECTED[f"{shape}.loss"]), rel=1e-5)
    found = state_dict(gradient, model.config)
    assert {f"{shape}.{name}" for name in found} | {f"{shape}.loss"} == {n for n in EXPECTED if n.startswith(shape)}
    for name, array in found.items():
        expected = EXPECTED[f"{shape}.{name}"]
        # what is 0 but for rounding, as the gradient of a key's bias is, is compared with the largest of the layer
        assert np.abs(array - expected).max() <= 1e-4 * max(np.abs(expected).max(), 1e-2), name


@pytest.mark.parametrize("rate", [0.0, 0.2])
def test_the_whole_model_equals_central_differences(rate):
    model, windows = random_model("odd", "float64"), windows_of("odd")
    parameters = trainable(model, freeze_words=False)

    def loss(gradient):
        return loss_and_gradient(model, windows, LOSS, gradient, rate, np.random.default_rng(3))

    gradient, unused = tree_map(np.zeros_like, parameters), tree_map(np.zeros_like, parameters)
    loss(gradient)
    random = np.random.RandomState(0)
    for array, found in zip(tree_leaves(parameters), tree_leaves(gradient), strict=True):
        for _ in range(2):
            place, h = tuple(random.randint(0, n) for n in array.shape), 1e-5
            value = array[place]
            high, low = (loss(unused) for array[place] in (value + h, value - h))
            array[place] = value
            assert abs((high - low) / (2 * h) - found[place]) <= 1e-7 * max(1, abs(found[place]))


def test_gradients_add_up():
    model, windows = random_model("odd", "float64"), windows_of("odd")
    together, apart = (tree_map(np.zeros_like, trainable(model, False)) for _ in range(2))
    loss = loss_and_gradient(model, windows, LOSS, together)
    assert sum(loss_and_gradient(model, [window], LOSS, apart) for window in windows) == pytest.approx(loss)
    for one, other in zip(tree_leaves(together), tree_leaves(apart), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_frozen_words_have_no_gradient():
    model = random_model("odd", "float32")
    gradient = tree_map(np.zeros_like, trainable(model, freeze_words=True))
    assert gradient.embeddings.word_embeddings.shape == (0, 15)
    loss_and_gradient(model, windows_of("odd"), LOSS, gradient)
    assert gradient.embeddings.position_embeddings.any()


def test_the_forward_pass_of_training_is_that_of_the_model():
    model, (window, *_) = random_model("odd", "float64"), windows_of("odd")
    output = model(window.ids[None])
    expected = LOSS(np.stack([output.start_logits[0], output.end_logits[0]]), window)[0]
    gradient = tree_map(np.zeros_like, trainable(model, False))
    assert loss_and_gradient(model, [window], LOSS, gradient) == pytest.approx(expected, rel=1e-12)


def test_dropout_keeps_the_mean():
    random = np.random.default_rng(0)
    factors = gradients.dropout((400, 500), 0.3, random)
    assert set(np.unique(factors)) == {0, np.float32(1 / 0.7)} and abs(factors.mean() - 1) < 0.01
    assert gradients.dropout((4, 5), 0.0, random) is None


def test_without_a_teacher_alpha_means_nothing():
    logits = given.random(2, 7)
    alone, taught = Example(np.arange(7), (1, 2)), Example(np.arange(7), (1, 2), logits)  # by itself
    assert Loss(0.9)(logits, alone)[0] == Loss(0.0)(logits, taught)[0]
    assert Loss(1.0)(logits, taught)[0] == pytest.approx(0, abs=1e-6)


def adam_by_the_book(p, gs, lrs, decay):
    m = v = np.zeros_like(p)
    for t, (g, lr) in enumerate(zip(gs, lrs, strict=True), 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        p = p - lr * (m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8) + decay * p)
    return p


def test_adamw_is_the_algorithm():
    model = random_model("one_head", "float64")
    state = optimiser.State(trainable(model, False))
    before = tree_map(np.copy, state.parameters)
    random, given = np.random.RandomState(0), []
    for lr in (0.01, 0.02, 0.005):
        parts = [tree_map(lambda a: random.standard_normal(a.shape) * 1e-3, before) for _ in range(2)]
        given.append(([a + b for a, b in zip(*map(tree_leaves, parts), strict=True)], lr))
        optimiser.adamw(state, parts, lr, Team())
        assert not any(array.any() for part in parts for array in tree_leaves(part))
        state.losses.append(0.0)
    norms = [np.sqrt(sum((g * g).sum() for g in gs)) for gs, _ in given]
    assert max(norms) < 1  # not cut
    for i, (p, q) in enumerate(zip(tree_leaves(before), tree_leaves(state.parameters), strict=True)):
        decay = 0.01 if p.ndim > 1 else 0
        np.testing.assert_allclose(
            q, adam_by_the_book(p, [g[i] for g, _ in given], [lr for _, lr in given], decay), rtol=1e-9
        )


def test_a_large_gradient_is_cut_to_norm_one():
    model = random_model("one_head", "float64")
    state = optimiser.State(trainable(model, False))
    optimiser.adamw(state, [tree_map(lambda a: np.full_like(a, 7.0), state.parameters)], 0.0, Team())
    assert np.sqrt(sum((m * m).sum() for m in tree_leaves(state.mean))) == pytest.approx(0.1, rel=1e-5)


def test_the_learning_rate_rises_and_falls():
    rates = [optimiser.learning_rate(step, 100, 1.0) for step in range(100)]
    assert rates[:6] == pytest.approx([i / 6 for i in range(1, 7)]) and rates[-1] == pytest.approx(1 / 94)
    assert max(rates) == 1 and sorted(rates[6:], reverse=True) == rates[6:]
    assert optimiser.learning_rate(0, 1, 1.0) == 1


def test_every_step_has_its_own_learning_rate(monkeypatch):
    seen = []
    monkeypatch.setattr(loop, "adamw", lambda state, gradients, lr, team: seen.append(lr))
    model, settings = random_model("odd", "float32"), Hyperparameters(epochs=20, batch_tokens=30, lr=1e-3)
    steps = len(list(loop.train(model, windows_of("odd"), settings, optimiser.State(trainable(model, False)))))
    assert seen == [optimiser.learning_rate(step, steps, 1e-3) for step in range(steps)] and len(set(seen)) > 10


def test_an_epoch_has_every_window_once():
    lengths = [5, 9, 30, 7, 7, 12] * 9
    plan = data.batches(lengths, Hyperparameters(epochs=2, batch_tokens=40))
    drawn = [i for batch in plan for i in batch]
    assert sorted(drawn) == sorted([*range(54)] * 2) and sorted(drawn[:54]) == [*range(54)]
    assert all(sum(lengths[i] for i in batch) <= 40 for batch in plan) and all(plan)
    assert plan != data.batches(lengths, Hyperparameters(epochs=2, batch_tokens=40, seed=1))
    assert data.batches([99], Hyperparameters(batch_tokens=40)) == [[0]]


def test_every_epoch_has_its_own_order():
    plan = data.batches([7] * 54, Hyperparameters(epochs=3, batch_tokens=40))
    drawn = [i for batch in plan for i in batch]
    assert len({tuple(drawn[first : first + 54]) for first in (0, 54, 108)}) == 3


FACTS = [("Who kept the log?", "Maren Holt"), ("What is old?", "tower"), ("How long was it kept?", "forty years")]
STORY = "The tower is old. Maren Holt kept its log for forty years."


def squad(path, extra=()):
    questions = [
        {"id": str(i), "question": q, "answers": [{"text": a, "answer_start": STORY.index(a)}]}
        for i, (q, a) in enumerate(FACTS * 3)
    ]
    paragraphs = [{"context": STORY, "qas": [*questions, *extra]}]
    path.write_text(
        json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}), encoding="utf-8"
    )
    return path


BAD = [
    {"id": "moved", "question": "Who?", "answers": [{"text": "Maren", "answer_start": 3}]},
    {"id": "empty", "question": "Who?", "answers": [{"text": "", "answer_start": 3}]},
    {"id": "nowhere", "question": "Who?", "answers": [{"text": "Maren"}]},
    {"id": "negative", "question": "Who?", "answers": [{"text": ".", "answer_start": -1}]},
    {"id": "unanswered", "question": "Who?", "answers": []},
    {"id": "blank", "question": " ", "answers": [{"text": "Maren", "answer_start": 18}]},
]


def test_windows_hold_their_answers(embedded, tmp_path):
    questions = read_questions(squad(tmp_path / "squad.json"))
    ids, answers, bad = data.training_windows(questions, embedded)
    assert len(ids) == 9 and bad == []
    for question, window, (first, last) in zip(questions, ids, answers, strict=True):
        encoding = embedded.tokenizer(question.question, question.context)
        assert window.tolist() == encoding.ids
        assert STORY[encoding.offsets[first][0] : encoding.offsets[last][1]] == question.answers[0]


def test_a_window_without_its_answer_points_to_cls(embedded):
    context = STORY + " The gate is new." * 200
    question = Question("a", "Who kept the log?", context, ["Maren Holt"], [18])
    ids, answers, _ = data.training_windows([question], embedded)
    assert len(ids) == 4 and answers[0] != (0, 0) and set(answers[1:]) == {(0, 0)}
    assert max(map(len, ids)) == 384


@pytest.mark.parametrize("text, start", [(" Maren Holt", 17), ("Maren Holt ", 18), (" Maren Holt ", 17)])
def test_white_space_around_an_answer_is_not_part_of_it(embedded, text, start):
    question = Question("a", "Who kept the log?", STORY, [text], [start])
    assert STORY[start : start + len(text)] == text
    trimmed = Question("a", "Who kept the log?", STORY, ["Maren Holt"], [18])
    found, expected = (data.training_windows([one], embedded) for one in (question, trimmed))
    assert found[1] == expected[1] != [(0, 0)] and not found[2]


@pytest.mark.parametrize("text, start", [(" ", 17), ("Maren Holt. " * 400, 0)])
def test_an_answer_that_no_window_holds_is_counted(embedded, text, start):
    context = STORY if start else "Maren Holt. " * 400
    assert data.training_windows([Question("a", "Who kept the log?", context, [text], [start])], embedded) == (
        [],
        [],
        ["a"],
    )


def test_windows_are_those_that_questions_are_answered_in(embedded):
    tokenizer = Tokenizer(embedded.tokenizer.vocab, lowercase=True, model_max_length=128)
    qa = QuestionAnswerer(embedded.model, tokenizer)
    ids, _, _ = data.training_windows([Question("a", "Who?", STORY * 20, ["Maren Holt"], [18])], qa)
    assert max(map(len, ids)) == 128


TOWNS = [  # two articles, each of three paragraphs with a question and its answer
    [
        ("Who kept the log of the tower?", "Maren Holt kept the log of the tower.", "Maren Holt"),
        ("When was the lamp lit?", "The lamp of the tower was lit in 1871, and the log began.", "1871"),
        ("Who repaired the tower?", "After the storm the tower was repaired by Maren Holt and her sons.", "Maren Holt"),
    ],
    [
        ("Who built the boat?", "Ove Lind built the boat of oak.", "Ove Lind"),
        ("What is the boat made of?", "The boat was launched on a Sunday.", "Sunday"),
        ("Where was the boat launched?", "It was launched at the north quay, in the rain.", "the north quay"),
    ],
]
QUESTIONS = [
    Question(f"{article}.{i}", asked, context, [answer], [context.index(answer)], article)
    for article, town in enumerate(TOWNS)
    for i, (asked, context, answer) in enumerate(town)
]


def negatives(qa, count, seed=0):
    """The question and the passage of each negative window, as the tokenizer reads them back."""
    decoded = [qa.tokenizer.decode(ids.tolist(), False) for ids in data.negative_windows(QUESTIONS, qa, count, seed)]
    return [tuple(text.removeprefix("[CLS] ").removesuffix(" [SEP]").split(" [SEP] ")) for text in decoded]


def plain(qa, text):
    return qa.tokenizer.decode(qa.tokenizer(text).ids)


def test_a_negative_does_not_hold_the_answer(embedded):
    asked = {plain(embedded, q.question): q for q in QUESTIONS}
    passages = {plain(embedded, q.context): q for q in QUESTIONS}
    found = negatives(embedded, 200)
    assert len(found) == 200 and {question for question, _ in found} == asked.keys()
    for question, passage in found:
        assert asked[question].answers[0] not in passages[passage].context


def test_half_of_the_negatives_are_of_the_best_other_passage_of_the_article(embedded):
    found = negatives(embedded, 200)
    best = {  # those that share most with the question, but the right one and those with the answer
        "Who kept the log of the tower?": "The lamp of the tower was lit in 1871, and the log began.",
        "When was the lamp lit?": "After the storm the tower was repaired by Maren Holt and her sons.",
        "Who repaired the tower?": "The lamp of the tower was lit in 1871, and the log began.",
        "Who built the boat?": "The boat was launched on a Sunday.",
        "What is the boat made of?": "Ove Lind built the boat of oak.",
        "Where was the boat launched?": "The boat was launched on a Sunday.",
    }
    hardest = {(plain(embedded, q), plain(embedded, passage)) for q, passage in best.items()}
    assert hardest < set(found)  # the others are drawn at random
    assert 100 <= sum(one in hardest for one in found) <= 150


def test_negatives_are_drawn_by_the_seed(embedded):
    assert negatives(embedded, 50) == negatives(embedded, 50) != negatives(embedded, 50, seed=1)


def test_a_file_of_one_passage_has_no_negatives(embedded):
    assert data.negative_windows(QUESTIONS[:1] * 3, embedded, 5, 0) == []


def test_training_takes_in_its_negatives(distill, tmp_path, capsys, monkeypatch):
    entries = [
        {"id": q.id, "question": q.question, "answers": [{"text": q.answers[0], "answer_start": q.starts[0]}]}
        for q in QUESTIONS
    ]
    paragraphs = [{"context": q.context, "qas": [entry]} for q, entry in zip(QUESTIONS, entries, strict=True)]
    squad_file = {"version": "1.1", "data": [{"paragraphs": paragraphs[:3]}, {"paragraphs": paragraphs[3:]}]}
    (tmp_path / "squad.json").write_text(json.dumps(squad_file), encoding="utf-8")
    seen = []
    monkeypatch.setattr(cli_training, "train", lambda model, windows, *_: seen.append(windows) or iter(()))
    assert distill("--out", tmp_path / "new", "--negatives", 0.5, "--seed", 3) == 0
    assert distill("--out", tmp_path / "none") == 0
    with_negatives, without = seen
    assert len(without) == 6 and len(with_negatives) == 9
    assert [window.answer for window in with_negatives[6:]] == [(0, 0)] * 3
    assert [window.ids.tolist() for window in with_negatives[:6]] == [window.ids.tolist() for window in without]
    about, other = (json.loads((tmp_path / name / "training.json").read_text()) for name in ("new", "none"))
    assert about["negatives"] == 0.5 and about["tokens_sha256"] != other["tokens_sha256"]


def test_the_last_articles_are_held_out_but_at_most_a_tenth():
    questions = [Question(str(i), "Who?", "Ada.", ["Ada"], [0], i // 2) for i in range(50)]
    for asked, articles in ((0, 0), (1, 0), (2, 2), (20, 2)):
        trained, held_out = data.hold_out(questions, asked)
        assert trained + held_out == questions and {q.article for q in held_out} == set(range(25 - articles, 25))


def test_fit_finds_the_calibration_that_drew_the_data():
    """Texts with three spans each, of which one or none is right, as likely as their scores say."""
    random, known = np.random.default_rng(1), Calibration(2.0, 3.0)
    texts = []
    for margins in random.normal(3.0, 8.0, (1500, 3)):
        odds = np.array([*np.exp((margins - known.offset) / known.temperature), 1.0])
        texts.append(Spans(margins, random.choice(4, p=odds / odds.sum()) == margins.argmax()))
    found = fit(texts)
    assert found.temperature == pytest.approx(known.temperature, rel=0.1)
    assert found.offset == pytest.approx(known.offset, abs=0.3)


def test_only_own_texts_have_right_answers(embedded, monkeypatch):
    seen = []
    monkeypatch.setattr(calibration, "fit", seen.append)
    answers = [answer for question in QUESTIONS for answer in question.answers]  # which the other texts hold too
    questions = [question._replace(answers=answers) for question in QUESTIONS]
    without_token = questions[0]._replace(context="\u200b")
    calibration.calibrate(embedded, [*questions, without_token], 0)
    (texts,) = seen
    assert len(texts) == 4 * len(QUESTIONS) + 4
    own_articles, own_paragraphs, other_articles, other_paragraphs = (texts[i::4] for i in range(4))
    for articles, paragraphs in ((own_articles, own_paragraphs), (other_articles, other_paragraphs)):
        assert all(len(a.margins) > len(b.margins) for a, b in zip(articles, paragraphs, strict=True))
    own, other = own_articles + own_paragraphs, other_articles + other_paragraphs
    assert all(any(spans.right for spans in of) for of in (own_articles, own_paragraphs))
    assert not any(spans.right for spans in other)
    best = [[max(spans.margins, default=-np.inf) for spans in of] for of in (own, other)]
    assert np.median(best[0]) > np.median(best[1])


def test_training_calibrates_on_articles_it_has_not_seen(distill, tmp_path, monkeypatch, capsys):
    paragraphs = [
        {
            "context": f"{name} kept log {i}.",
            "qas": [{"id": f"{i}", "question": f"Who kept log {i}?", "answers": [{"text": name, "answer_start": 0}]}],
        }
        for i, name in enumerate(("Maren", "Ove", "Bris", "Ada") * 5)
    ]
    file = {"version": "1.1", "data": [{"paragraphs": [paragraph]} for paragraph in paragraphs]}
    (tmp_path / "squad.json").write_text(json.dumps(file), encoding="utf-8")
    seen = []
    monkeypatch.setattr(cli_training, "train", lambda model, windows, *_: seen.append(len(windows)) or iter(()))
    calibrated = []
    monkeypatch.setattr(
        cli_training,
        "calibrate",
        lambda qa, held, seed: calibrated.append([q.id for q in held]) or Calibration(2.0, 1.0),
    )
    new = tmp_path / "new"
    for _ in range(2):  # the second call has nothing left to do
        assert distill("--out", new) == 0
        assert (seen, calibrated) == ([18], [["18", "19"]])
    assert json.loads((new / "calibration.json").read_text(encoding="utf-8")) == {"temperature": 2.0, "offset": 1.0}
    assert json.loads((new / "training.json").read_text(encoding="utf-8"))["held_out"] == 2
    assert QuestionAnswerer.from_pretrained(new).calibration == Calibration(2.0, 1.0)
    (new / "calibration.json").unlink()  # it was ended between the two
    assert distill("--out", new) == 0 and (seen, len(calibrated)) == ([18], 2)
    assert distill("--out", tmp_path / "all", "--held-out", 0, "--init", new) == 0
    assert seen == [18, 20] and not (tmp_path / "all" / "calibration.json").exists()


def test_a_step_on_several_threads_is_that_of_the_whole_batch(monkeypatch, two_blas_threads):
    """Each thread has its own windows, gradient and loss."""
    windows = windows_of("odd") * 3
    model = random_model("odd", "float64")
    gradient = tree_map(np.zeros_like, trainable(model, False))
    loss = loss_and_gradient(model, windows, LOSS, gradient, share=1 / len(windows))
    seen = []

    def adamw(state, gradients, lr, team):
        assert team.n_threads == len(gradients) == 2 and all(list(tree_leaves(one))[-1].any() for one in gradients)
        seen.append([sum(parts) for parts in zip(*(tree_leaves(one) for one in gradients), strict=True)])

    monkeypatch.setattr(loop, "adamw", adamw)
    settings = Hyperparameters(batch_tokens=10**6, dropout=0, alpha=given.ALPHA, temperature=given.TEMPERATURE)
    state = optimiser.State(trainable(model, False))
    list(loop.train(model, windows, settings, state))
    assert state.losses == [pytest.approx(loss, rel=1e-12)]
    for found, expected in zip(seen[0], tree_leaves(gradient), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_threads_draw_different_dropout(monkeypatch, two_blas_threads):
    seen = []

    def record(model, some, loss, gradient, rate, random, share):
        seen.append(random.random())
        return 1.0

    monkeypatch.setattr(loop, "loss_and_gradient", record)
    windows = [Example(np.arange(1, 9), (1, 2)) for _ in range(2)]
    model = random_model("odd", "float32")
    list(loop.train(model, windows, Hyperparameters(), optimiser.State(trainable(model, False))))
    assert len(set(seen)) == 2


def test_a_question_does_not_hold_the_answer(embedded):
    context = "Maren Holt kept the log." + " The gate is new." * 200
    question = Question("a", "Who kept the log?", context, ["Maren Holt"], [0])
    ids, answers, _ = data.training_windows([question], embedded)
    assert len(ids) == 4 and answers[0][0] > 5 and set(answers[1:]) == {(0, 0)}


def test_every_step_and_pack_has_its_own_dropout(monkeypatch):
    model, seen = random_model("odd", "float32"), []
    windows = [Example(np.arange(1, 9), (1, 2)) for _ in range(6)]

    def record(model, some, loss, gradient, rate, random, share):
        seen.append((rate, share, len(some), random.random()))
        return 1.0

    monkeypatch.setattr(loop, "loss_and_gradient", record)
    monkeypatch.setattr(loop, "PASS_TOKENS", 8)
    settings = Hyperparameters(batch_tokens=24, dropout=0.25)
    for seed in (0, 0, 1):
        list(loop.train(model, windows, settings._replace(seed=seed), optimiser.State(trainable(model, False))))
    first, again, other = ({draw for *_, draw in seen[i : i + 6]} for i in (0, 6, 12))
    assert len(seen) == 18 and {pack[:3] for pack in seen} == {(0.25, 1 / 3, 1)}
    assert first == again and len(first) == 6 and not first & other


@pytest.fixture
def distill(tmp_path, shallow_model, monkeypatch):
    """Runs the verb on a random checkpoint, in this process, on all threads though the model is small."""
    squad(tmp_path / "squad.json")

    def distill(*arguments):
        options = ["--init", shallow_model, "--batch-tokens", 60, "--lr", 1e-3, *arguments]
        return main(["distill", str(tmp_path / "squad.json"), *map(str, options)])

    return distill


def test_training_learns_and_its_checkpoint_answers(distill, tmp_path, capsys):
    evaluate = ["--eval", tmp_path / "squad.json"]
    assert distill("--out", tmp_path / "new", "--epochs", 40, "--dropout", 0, *evaluate) == 0
    assert "exact match 100.00, F1 100.00 of 9 questions" in capsys.readouterr().out
    about = json.loads((tmp_path / "new" / "training.json").read_text(encoding="utf-8"))
    assert about["loss_of_100_steps"][-1] < 0.1 < about["loss_of_100_steps"][0] and about["epochs"] == 40
    assert not (tmp_path / "new" / "state.safetensors").exists()
    qa = QuestionAnswerer.from_pretrained(tmp_path / "new")
    assert qa(question=FACTS[0][0], context=STORY)["answer"] == "Maren Holt"


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def test_the_same_seed_gives_the_same_weights_and_frozen_words_stay(distill, tmp_path, shallow_model):
    for name, *options in (("a",), ("b",), ("c", "--seed", 1), ("d", "--freeze-words")):
        assert distill("--out", tmp_path / name, *options) == 0
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")
    words = "distilbert.embeddings.word_embeddings.weight"
    a, d, before = (
        load_file(folder / "model.safetensors")[words] for folder in (tmp_path / "a", tmp_path / "d", shallow_model)
    )
    assert not np.array_equal(a, before)
    np.testing.assert_array_equal(d, before)


WAITS = """
import sys
from numpy_distilbert import cli
from numpy_distilbert.training import loop

def adamw(*arguments):
    update(*arguments)
    done.append(1)
    if len(done) == 7:
        print("waiting", flush=True)
        sys.stdin.readline()

done, update, loop.adamw = [], loop.adamw, adamw
sys.exit(cli.main())
"""
GOES = """
import sys
from numpy_distilbert import cli
sys.exit(cli.main())
"""
ENDS = ((signal.SIGTERM, 143), (getattr(signal, "SIGKILL", None), -9), (signal.SIGINT, 130))


@pytest.fixture
def start(tmp_path, shallow_model):
    """Starts training in a separate process, on several threads as distill does."""

    def start(program, *arguments):
        command = [sys.executable, "-c", program, "distill", tmp_path / "squad.json", "--out", tmp_path / "cut"]
        command += ["--init", shallow_model, "--batch-tokens", "60", "--lr", "1e-3", "--save-every", "5", *arguments]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen(command, **pipes, encoding="utf-8")

    return start


def end(process, number, status):
    """End it with a signal; it says so, if that lets it."""
    process.send_signal(number)
    output, errors = process.communicate("\n", timeout=60)
    assert process.returncode == status, errors
    if status > 0:
        assert output.startswith("stopped after step") and output.endswith("Run the same command to resume.\n")


@posix
def test_killed_and_resumed_it_ends_in_the_same_weights(distill, tmp_path, start):
    assert distill("--out", tmp_path / "whole", "--epochs", 5) == 0
    for number, status in ENDS:
        process = start(WAITS, "--epochs", "5")
        assert process.stdout.readline() == "waiting\n"
        end(process, number, status)
    assert distill("--out", tmp_path / "cut", "--epochs", 5, "--save-every", 5) == 0
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


@pytest.mark.slow
@posix
def test_killed_at_any_moment_it_ends_in_the_same_weights(distill, tmp_path, start):
    assert distill("--out", tmp_path / "whole", "--epochs", 200) == 0
    state = tmp_path / "cut" / "state.safetensors"
    for number, status in ENDS:
        process = start(GOES, "--epochs", "200")
        before = state.stat().st_mtime_ns if state.exists() else 0
        while process.poll() is None and (not state.exists() or state.stat().st_mtime_ns == before):
            time.sleep(0.01)
        end(process, number, status)
    assert distill("--out", tmp_path / "cut", "--epochs", 200, "--save-every", 5) == 0
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def stop_after(monkeypatch, steps):
    """Send the process SIGTERM, once, when so many steps are done."""
    done = loop.adamw

    def adamw(state, *arguments):
        done(state, *arguments)
        if len(state.losses) == steps - 1:
            monkeypatch.setattr(loop, "adamw", done)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(loop, "adamw", adamw)


def test_stopped_it_says_so_at_once_and_where_it_is(distill, tmp_path, capsys, monkeypatch):
    stop_after(monkeypatch, 2)
    assert distill("--out", tmp_path / "new") == 143
    output, errors = capsys.readouterr()
    assert "stops after this step, and saves" in errors and output.startswith("stopped after step 2, saved in ")


def test_training_with_other_settings_is_not_resumed(distill, tmp_path, capsys, monkeypatch):
    stop_after(monkeypatch, 1)
    assert distill("--out", tmp_path / "new") == 143
    capsys.readouterr()
    assert distill("--out", tmp_path / "new", "--seed", 1) == 2
    assert "training cannot resume from it (it was made with other data or settings" in capsys.readouterr().err
    state = tmp_path / "new" / "state.safetensors"
    with safe_open(state, framework="numpy") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in list(file.keys())}
    save_file(tensors | {"mean.3": tensors["mean.3"][:1]}, state, metadata)
    assert distill("--out", tmp_path / "new") == 2
    assert "mean.3 is (1," in capsys.readouterr().err
    state.write_bytes(b"no state")
    assert distill("--out", tmp_path / "new") == 2
    assert "state.safetensors: training cannot resume from it" in capsys.readouterr().err
    nan, negative = np.full_like(tensors["mean.3"], np.nan), -np.ones_like(tensors["square.3"])
    for changed, problem in (
        ({"mean.3": tensors["mean.3"].astype(np.int32)}, "int32, needs"),
        ({"mean.3": nan}, "mean.3 holds a number that training cannot have written"),
        ({"square.3": negative}, "square.3 holds a number that training cannot have written"),
        ({"losses": "5"}, "losses must be a list of numbers"),
        ({"losses": '["5"]'}, "losses must be a list of numbers"),
        ({"losses": "[" * 100_000}, "recursion"),
        ({"threads": "two"}, "invalid literal"),
        ({"about": "[" * 100_000}, "recursion"),
    ):
        known = {name: value for name, value in changed.items() if isinstance(value, str)}
        save_file(tensors | {name: changed[name] for name in changed.keys() - known}, state, metadata | known)
        assert distill("--out", tmp_path / "new") == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "training cannot resume from it" in error and problem in error
    assert distill("--out", tmp_path / "new", "--epochs", 10**12) == 2
    assert "epochs must be at most 1000" in capsys.readouterr().err


def test_other_answers_are_other_data(distill, tmp_path, capsys, monkeypatch):
    stop_after(monkeypatch, 1)
    assert distill("--out", tmp_path / "new") == 143
    path = tmp_path / "squad.json"
    path.write_text(
        path.read_text(encoding="utf-8").replace(
            '{"text": "Maren Holt", "answer_start": 18}', '{"text": "Maren", "answer_start": 18}'
        ),
        encoding="utf-8",
    )
    assert distill("--out", tmp_path / "new") == 2
    assert "other data or settings" in capsys.readouterr().err


def test_on_other_threads_it_resumes_with_a_warning(distill, tmp_path, capsys, monkeypatch):
    stop_after(monkeypatch, 1)
    monkeypatch.setattr(optimiser, "n_cores", lambda: 7)
    assert distill("--out", tmp_path / "new") == 143
    assert distill("--out", tmp_path / "new") == 0
    assert "begun on 7 threads, resumed on" in capsys.readouterr().err


def test_on_how_many_threads_it_was_begun_is_kept(distill, tmp_path, capsys, monkeypatch):
    for steps, number in ((1, 7), (2, 8)):
        stop_after(monkeypatch, steps)
        monkeypatch.setattr(optimiser, "n_cores", lambda number=number: number)
        assert distill("--out", tmp_path / "new", "--epochs", 3) == 143
    monkeypatch.setattr(cli_training, "n_cores", lambda: 7)
    capsys.readouterr()
    assert distill("--out", tmp_path / "new", "--epochs", 3) == 0
    assert capsys.readouterr().err == ""


def test_stopped_while_the_model_is_written_it_ends_after_that(distill, tmp_path, capsys, monkeypatch):
    written = cli_training.write_checkpoint

    def write(*arguments):
        signal.raise_signal(signal.SIGTERM)
        written(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(cli_training, "write_checkpoint", write)
        patched.setattr(cli_training, "predict", None)
        assert distill("--out", tmp_path / "new", "--eval", tmp_path / "squad.json") == 143
    assert (
        capsys.readouterr().out
        == f"stopped after the last step, the model is in {tmp_path / 'new'}. Run the same command to resume.\n"
    )
    monkeypatch.setattr(cli_training, "_train", None)
    assert distill("--out", tmp_path / "new", "--eval", tmp_path / "squad.json") == 0
    assert "of 9 questions" in capsys.readouterr().out


@pytest.mark.parametrize("end", [(cli_training, "remove_leftovers"), (cli_training, "predict")])
def test_ended_after_the_model_was_written_it_is_not_trained_again(distill, tmp_path, capsys, monkeypatch, end):
    def ends(*_, **__):
        raise KeyboardInterrupt

    evaluate = ["--eval", tmp_path / "squad.json"]
    with monkeypatch.context() as patched:
        patched.setattr(*end, ends)
        assert distill("--out", tmp_path / "new", *evaluate) == 130
    (tmp_path / "new" / f"{'0' * 16}.part").write_bytes(b"half a state")
    (tmp_path / "new" / "of-somebody-else.part").write_bytes(b"mine")
    (tmp_path / "new" / "of-mine-16-chars.part").write_bytes(b"mine")
    before = weights(tmp_path / "new")
    monkeypatch.setattr(cli_training, "_train", None)
    assert distill("--out", tmp_path / "new", *evaluate) == 0
    assert "of 9 questions" in capsys.readouterr().out and weights(tmp_path / "new") == before
    left = [path.name for path in (tmp_path / "new").iterdir() if path.suffix == ".part" or "state" in path.name]
    assert sorted(left) == ["of-mine-16-chars.part", "of-somebody-else.part"]
    assert distill("--out", tmp_path / "new", "--seed", 5) == 2
    assert "holds a model already" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["vocab.txt", "training.json", "model.safetensors"])
def test_ended_before_a_file_of_the_model_is_there_the_same_call_resumes(distill, tmp_path, monkeypatch, name):
    replace = files.replace

    def ends(part, target):
        if target.name == name:
            raise KeyboardInterrupt
        replace(part, target)

    assert distill("--out", tmp_path / "whole") == 0
    with monkeypatch.context() as patched:
        patched.setattr(files, "replace", ends)
        assert distill("--out", tmp_path / "cut") == 130
    assert distill("--out", tmp_path / "cut") == 0
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    assert {path.name for path in (tmp_path / "cut").iterdir()} == {p.name for p in (tmp_path / "whole").iterdir()}


@pytest.mark.parametrize(("rate", "status"), [("1e-3", 0), ("1e30", 2)])
def test_signals_mean_what_they_meant_when_training_is_over(distill, tmp_path, rate, status):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert distill("--out", tmp_path / "new", "--lr", rate) == status
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_bad_questions_are_counted_and_left_out(distill, tmp_path, capsys):
    squad(tmp_path / "squad.json", extra=BAD)
    assert distill("--write-logits", tmp_path / "teacher.safetensors") == 0
    output, errors = capsys.readouterr()
    assert "logits of 9 windows" in output
    assert "2 questions of the file are blank or have no answer, 4 answers are not in their context" in errors


def test_limit_counts_questions_that_are_not_blank_and_have_an_answer(distill, tmp_path, capsys):
    squad(tmp_path / "squad.json", extra=[*BAD[4:], *BAD[:4], BAD[0] | {"id": "beyond"}])
    assert distill("--write-logits", tmp_path / "teacher.safetensors", "--limit", 13) == 0
    output, errors = capsys.readouterr()
    assert "logits of 9 windows" in output and "2 questions of the file are blank" in errors and "4 answers" in errors


def test_limited_questions_are_spread_over_the_file():
    assert data.spread("abcdefgh", 3) == ["a", "c", "f"]  # 0, 8/3, 16/3, rounded down
    assert data.spread("abc", 9) == data.spread("abc", None) == ["a", "b", "c"]
    assert data.spread("", 2) == []


def test_a_teacher_is_what_the_model_said(distill, tmp_path, shallow):
    assert distill("--write-logits", tmp_path / "teacher.safetensors") == 0
    questions = read_questions(tmp_path / "squad.json")
    ids, _, _ = data.training_windows(questions, shallow)
    logits = data.read_logits(tmp_path / "teacher.safetensors", ids)
    for window, one in zip(ids, logits, strict=True):
        output = shallow.model(window[None])
        np.testing.assert_allclose(one, [output.start_logits[0], output.end_logits[0]], atol=1e-5)


@pytest.mark.reference
def test_the_example_for_transformers_writes_such_a_teacher(distill, tmp_path, shallow_model):
    for name in ("torch", "transformers"):
        pytest.importorskip(name, reason="needs transformers with PyTorch")
    squad(tmp_path / "squad.json", extra=BAD)
    assert distill("--write-logits", tmp_path / "ours.safetensors") == 0
    folder = shallow_model
    call = [sys.executable, EXAMPLE, tmp_path / "squad.json", "--student", folder, "--teacher", folder]
    subprocess.run([*call, "-o", tmp_path / "theirs.safetensors"], check=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    ours, theirs = (load_file(tmp_path / f"{name}.safetensors") for name in ("ours", "theirs"))
    for name in ours:
        np.testing.assert_allclose(theirs[name], ours[name], atol=1e-4)
    assert distill("--out", tmp_path / "new", "--teacher", tmp_path / "theirs.safetensors") == 0


@pytest.mark.reference
def test_the_example_tells_bert_the_question_from_the_context_and_refuses_another_vocabulary(
    tmp_path, shallow_model, shallow
):
    for name in ("torch", "transformers"):
        pytest.importorskip(name, reason="needs transformers with PyTorch")
    import torch
    from transformers import BertConfig, BertForQuestionAnswering, BertTokenizer

    torch.manual_seed(0)
    student, teacher = shallow_model, tmp_path / "teacher"
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    bert = BertForQuestionAnswering(BertConfig(vocab_size=SHAPES["cased"]["vocab_size"], **sizes)).eval()
    torch.nn.init.normal_(bert.bert.embeddings.token_type_embeddings.weight)
    bert.save_pretrained(teacher)
    tokenizer = BertTokenizer.from_pretrained(student, do_lower_case=False)
    tokenizer.save_pretrained(teacher)
    questions = read_questions(squad(tmp_path / "squad.json"))
    call = [
        sys.executable,
        EXAMPLE,
        tmp_path / "squad.json",
        "--student",
        student,
        "--teacher",
        teacher,
        "--limit",
        "4",
    ]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    subprocess.run([*call, "-o", tmp_path / "logits.safetensors"], check=True, env=environment)
    ids, _, _ = data.training_windows(questions[:4], shallow)
    for question, logits in zip(questions[:4], data.read_logits(tmp_path / "logits.safetensors", ids), strict=True):
        with torch.no_grad():
            output = bert(**tokenizer(question.question, question.context, return_tensors="pt"))
        np.testing.assert_allclose(logits[0], output.start_logits[0], atol=1e-5)
        np.testing.assert_allclose(logits[1], output.end_logits[0], atol=1e-5)

    call[call.index(student)] = hub.find()
    refused = subprocess.run(
        [*call, "-o", tmp_path / "no.safetensors"], capture_output=True, env=environment, encoding="utf-8"
    )
    assert refused.returncode == 2 and "the teacher's vocabulary is not the student's" in refused.stderr
    assert not (tmp_path / "no.safetensors").exists()


def test_a_student_becomes_like_its_teacher(distill, tmp_path, shallow):
    assert distill("--out", tmp_path / "teacher", "--epochs", 20, "--dropout", 0) == 0
    teacher = QuestionAnswerer.from_pretrained(tmp_path / "teacher")
    ids, _, _ = data.training_windows(read_questions(tmp_path / "squad.json"), teacher)
    data.write_logits(tmp_path / "logits.safetensors", ids, teacher.logits(ids))
    options = [
        "--teacher",
        tmp_path / "logits.safetensors",
        tmp_path / "logits.safetensors",
        "--alpha",
        1,
        "--dropout",
        0,
    ]
    assert distill("--out", tmp_path / "student", "--epochs", 20, *options) == 0
    student = QuestionAnswerer.from_pretrained(tmp_path / "student")
    distance = [
        np.abs(softmax(a[0]) - softmax(b[0])).max()
        for a, b in zip(teacher.logits(ids), student.logits(ids), strict=True)
    ]
    assert (
        max(distance)
        < 0.2
        < max(
            np.abs(softmax(a[0]) - softmax(b[0])).max()
            for a, b in zip(teacher.logits(ids), shallow.logits(ids), strict=True)
        )
    )


def test_several_teachers_are_their_mean():
    a, b = given.random(2, 5), given.random(2, 5, seed=1)
    (window,) = data.with_teachers([np.arange(5)], [(1, 2)], [[a], [b]])
    np.testing.assert_allclose(window.teacher, (a + b) / 2)
    assert data.with_teachers([np.arange(5)], [(1, 2)], [])[0].teacher is None


def broken_teacher(path, metadata=None, **changes):
    tensors = load_file(path) | changes
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path, metadata)


def renamed_teacher(path, dtype, name):
    """With logits of a dtype that NumPy does not have, but of the size of this one."""
    tensors = {name: tensor.astype(dtype) for name, tensor in load_file(path).items()}
    save_file(tensors, path)
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    before = {np.float16: b'"F16"', np.uint8: b'"U8"'}[dtype]
    header = data[8:end].replace(before, name)
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[end:])


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_bytes(b"no logits"), "teacher.safetensors: not a readable file of logits"),
        (
            lambda path: renamed_teacher(path, np.float16, b'"BF16"'),
            "teacher.safetensors: not a readable file of logits",
        ),
        (
            lambda path: renamed_teacher(path, np.uint8, b'"F8_E4M3"'),
            "teacher.safetensors: not a readable file of logits",
        ),
        (
            lambda path: broken_teacher(path, end_logits=load_file(path)["end_logits"].astype(np.int32)),
            "need a finite float32 for each of",
        ),
        (
            lambda path: broken_teacher(path, end_logits=load_file(path)["end_logits"].astype(np.float64) * 1e300),
            "need a finite float32",
        ),
        (lambda path: broken_teacher(path, end_logits=None), "not a readable file of logits"),
        (
            lambda path: broken_teacher(path, lengths=np.array([3, 4])),
            "not of these questions, or cut into tokens otherwise",
        ),
        (
            lambda path: broken_teacher(path, {"tokens_sha256": "0"}),
            "not of these questions, or cut into tokens otherwise",
        ),
        (lambda path: broken_teacher(path, start_logits=np.zeros(3, np.float32)), "need a finite float32 for each of"),
        (
            lambda path: broken_teacher(path, end_logits=load_file(path)["end_logits"] * np.nan),
            "need a finite float32 for each",
        ),
    ],
)
def test_a_teacher_that_does_not_fit_is_named(change, message, distill, tmp_path, capsys):
    path = tmp_path / "teacher.safetensors"
    assert distill("--write-logits", path) == 0
    change(path)
    assert distill("--out", tmp_path / "new", "--teacher", path) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (["--lr", "0"], "lr must be more than 0, got 0"),
        (["--lr", "nan"], "lr must be more than 0, got nan"),
        (["--alpha", "1.5"], "alpha must be from 0 to 1, got 1.5"),
        (["--temperature", "0"], "temperature must be more than 0"),
        (["--dropout", "1"], "dropout must be from 0 to less than 1"),
        (["--epochs", "0"], "epochs must be at least 1"),
        (["--batch-tokens", "0"], "batch_tokens must be at least 1"),
        (["--negatives", "-1"], "negatives must be at least 0, got -1"),
        (["--negatives", "0.5"], "has no passage without the answer for --negatives. Leave it out."),
        (["--seed", "-1"], "seed must be at least 0"),
        (["--save-every", "0"], "--save-every must be at least 1"),
        (["--limit", "0"], "--limit must be at least 1"),
        (["--lr", "1e30"], "is not finite. Lower the learning rate"),
        (["--eval", "nowhere.json"], "nowhere.json: cannot be read"),
    ],
)
def test_settings_that_make_no_sense_are_named(options, message, distill, tmp_path, capsys):
    assert distill("--out", tmp_path / "new", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new" / "model.safetensors").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.index.json"])
def test_a_model_is_not_overwritten(distill, tmp_path, capsys, name):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / name).write_bytes(b"mine")
    assert distill("--out", tmp_path / "new") == 2
    assert "holds a model already" in capsys.readouterr().err
    assert [path.read_bytes() for path in (tmp_path / "new").iterdir()] == [b"mine"]


def test_a_file_that_only_has_the_name_of_ours_is_not_ours(distill, tmp_path, capsys):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "model.safetensors").write_bytes(b"mine")
    (tmp_path / "new" / "training.json").write_text("[]", encoding="utf-8")
    assert distill("--out", tmp_path / "new") == 2
    assert "holds a model already" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["--teacher", "--eval"])
def test_what_writing_logits_does_not_need_is_refused(distill, tmp_path, capsys, name):
    assert distill("--write-logits", tmp_path / "teacher.safetensors", name, tmp_path / "squad.json") == 2
    assert "--write-logits does not train. Leave --teacher and --eval out." in capsys.readouterr().err
    assert not (tmp_path / "teacher.safetensors").exists()


def test_what_cannot_be_written_is_said_before_anything_is_computed(distill, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli_training, "train", None)
    monkeypatch.setattr(QuestionAnswerer, "logits", None)
    assert distill("--out", tmp_path / "squad.json" / "new") == 2
    assert "new: cannot be made (Not a directory)" in capsys.readouterr().err
    assert distill("--write-logits", tmp_path / "nowhere" / "teacher.safetensors") == 2
    assert "teacher.safetensors: cannot be written (No such file" in capsys.readouterr().err


def test_weights_that_do_not_fit_their_dtype_are_not_written(tmp_path, embedded, capsys):
    squad(tmp_path / "squad.json")
    call = ["distill", str(tmp_path / "squad.json"), "--limit", "1", "--lr", "1e6", "--dropout", "0"]
    assert main([*call, "--out", str(tmp_path / "new")]) == 2
    assert "has become too large for float16. Lower the learning rate" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["state.safetensors"]


def test_a_float16_checkpoint_stays_one(tmp_path, embedded):
    squad(tmp_path / "squad.json")
    assert main(["distill", str(tmp_path / "squad.json"), "--limit", "3", "--out", str(tmp_path / "new")]) == 0
    tensors = load_file(tmp_path / "new" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float16)}
    assert tensors.keys() == load_file(hub.find() / "model.safetensors").keys()
    assert os.stat(tmp_path / "new" / "model.safetensors").st_size < 50e6
    assert "score" in QuestionAnswerer.from_pretrained(tmp_path / "new")(FACTS[0][0], STORY)
