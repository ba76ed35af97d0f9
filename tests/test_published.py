"""The published checkpoint itself, which this project reproduces; docs/published.md says what to expect.

    numpy-distilbert download distilbert/distilbert-base-cased-distilled-squad
    pytest -m published

Without the first line the tests skip, unless NUMPY_DISTILBERT_PUBLISHED=1 lets them fetch it. Where transformers 5.2.0
and PyTorch are installed they compare with those; NUMPY_DISTILBERT_SQUAD=dev-v1.1.json.gz has them score that file.
"""

import hashlib
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from reference.repositories import CARD
from reference.texts import ISLAND, QUESTIONS

from numpy_distilbert import DistilBertForQuestionAnswering, QuestionAnswerer
from numpy_distilbert.checkpoint import hub
from numpy_distilbert.cli import main

ID = "distilbert/distilbert-base-cased-distilled-squad"
REVISIONS = "main", "564e9b5"  # the second is the default of transformers' pipeline
VOCABULARY = "eeaa9875b23b04b4c54ef759d03db9d1ba1554838f8fb26c5d96fa551df93d02"
SENTENCES = re.findall(r"\S.*?[.!?](?=\s|$)", ISLAND, re.DOTALL)
published = pytest.mark.published


@pytest.fixture(scope="module")
def folder():
    client = pytest.importorskip("huggingface_hub", reason="needs the extra 'hub'")
    if os.environ.get("NUMPY_DISTILBERT_PUBLISHED") == "1":
        return hub.fetch(ID)
    found = [client.try_to_load_from_cache(ID, "model.safetensors", revision=revision) for revision in REVISIONS]
    paths = [path for path in found if isinstance(path, str)]
    if not paths:
        pytest.skip(f"{ID} is not in the hub's cache; NUMPY_DISTILBERT_PUBLISHED=1 fetches it (261 MB)")
    return Path(paths[0]).parent


@pytest.fixture(scope="module")
def qa(folder):
    return QuestionAnswerer.from_pretrained(folder)


@pytest.fixture(scope="module")
def reference(folder):
    """transformers 5.2.0's model and tokenizer."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    transformers = pytest.importorskip("transformers", reason="compares with transformers 5.2.0")
    if transformers.__version__ != "5.2.0":
        pytest.skip(f"compares with transformers 5.2.0, this is {transformers.__version__}")
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), transformers.AutoTokenizer.from_pretrained(folder)


def example(card):
    """Question and context of the example in a model card, and the answer that it prints, or None if it has none.

    The card's context has a run of spaces, which the model does not see, but the printed start and end do not count.
    """
    question = re.search(r'question="(.+?)"', card)
    lines = re.search(r'>>> context = r"""\n(.*?)\.\.\. """', card, re.DOTALL)
    printed = re.search(r"^Answer: '(.+)', score: ([\d.]+), start: (\d+), end: (\d+)$", card, re.MULTILINE)
    if not (question and lines and printed):
        return None
    context = "\n" + re.sub("^[.]{3} ", "", lines[1], flags=re.MULTILINE)
    answer, score, start, end = printed.groups()
    expected = {"answer": answer, "score": float(score), "start": int(start), "end": int(end)}
    return question[1], re.sub(" +", " ", context), expected


def test_the_example_of_a_card_is_read():
    question, context, expected = example(CARD)
    assert (question, context) == ("Who kept the log?", "\nThe tower is old. Maren Holt kept\nits log.\n")
    assert expected == {"answer": "Maren Holt", "score": 0.9831, "start": 19, "end": 29}
    assert context[19:29] == "Maren Holt"
    assert example("A card without one") is None


@published
def test_it_has_the_published_size(folder, capsys):
    assert main(["info", "--model", str(folder), "--json"]) == 0  # 2 if the weights have another sha256
    known = json.loads(capsys.readouterr().out)
    assert (known["parameters"]["total"], known["tokenizer"]["pieces"]) == (65_192_450, 28_996)
    assert not known["tokenizer"]["lowercase"]


@published
def test_it_has_the_vocabulary_of_bert_base_cased(folder):
    if not (folder / "vocab.txt").exists():
        pytest.skip("transformers did not fetch vocab.txt; `numpy-distilbert download` does")
    assert hashlib.sha256((folder / "vocab.txt").read_bytes()).hexdigest() == VOCABULARY


@published
def test_the_example_of_its_model_card_is_answered_as_printed(folder, qa):
    if not (folder / "README.md").exists():
        pytest.skip("transformers did not fetch the model card; `numpy-distilbert download` does")
    found = example((folder / "README.md").read_text(encoding="utf-8"))
    if found is None:
        pytest.skip("the model card of this revision has no example")
    question, context, expected = found
    answer = qa(question=question, context=context)
    assert {name: answer[name] for name in ("answer", "start", "end")} == {
        name: expected[name] for name in ("answer", "start", "end")
    }
    # the card is older than the sum over spans that become the same words: its score is that of the best span
    best = qa(question=question, context=context, align_to_words=False)
    assert best["score"] == pytest.approx(expected["score"], abs=1e-4)


@published
def test_its_logits_are_those_of_pytorch(folder, reference):
    torch = pytest.importorskip("torch")
    theirs, tokenizer = reference
    ours = DistilBertForQuestionAnswering.from_pretrained(folder)
    cut = {"truncation": "only_second", "max_length": 384, "stride": 128, "return_overflowing_tokens": True}
    for question in QUESTIONS:
        for ids in tokenizer(question, ISLAND, **cut)["input_ids"]:
            with torch.no_grad():
                expected = theirs(input_ids=torch.tensor([ids]))
            output = ours([ids])
            for name in ("start_logits", "end_logits"):
                logits = getattr(expected, name).numpy()
                scale = max(1, np.abs(logits).max())
                np.testing.assert_allclose(getattr(output, name) / scale, logits / scale, rtol=0, atol=2e-5)


@published
def test_its_answers_are_those_of_the_pipeline(qa, reference):
    transformers = pytest.importorskip("transformers")
    model, tokenizer = reference
    theirs = transformers.pipeline("question-answering", model=model, tokenizer=tokenizer, device="cpu")
    asked = [
        {"question": question, "context": " ".join(SENTENCES[first : first + 1 + first % 9])}
        for question in QUESTIONS
        for first in range(len(SENTENCES))
    ]
    asked = [*asked[:199], {"question": QUESTIONS[0], "context": ISLAND}]
    assert len(asked) == 200
    for pair, ours in zip(asked, qa(asked), strict=True):
        expected = theirs(**pair)
        assert ours == expected | {"score": pytest.approx(expected["score"], abs=1e-4)}


@published
def test_it_scores_on_squad_what_the_evaluate_library_found(folder, capsys):
    path = os.environ.get("NUMPY_DISTILBERT_SQUAD")
    if path is None:
        pytest.skip("NUMPY_DISTILBERT_SQUAD, SQuAD's dev-v1.1.json or its .gz, is not set")
    assert main(["evaluate", path, "--model", str(folder), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["exact_match"] == pytest.approx(79.546, abs=0.05)
    assert scores["f1"] == pytest.approx(86.812, abs=0.05)
