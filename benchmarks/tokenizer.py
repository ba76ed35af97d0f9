"""The tokenizer against the Hugging Face tokenizers library: how many strings differ, and how fast each is.

    pip install tokenizers==0.22.2
    python benchmarks/tokenizer.py --vocab uncased.txt cased.txt --squad dev-v1.1.json.gz [--generated 1000000]

A vocabulary without a capital A is taken to be uncased. It compares ids, tokens, offsets, word ids and sequence ids of:
every Unicode scalar value alone, doubled, between letters and after a combining mark, also with a vocabulary of all
characters, in which no difference can hide behind [UNK]; the contexts and questions of SQuAD, as texts, pairs and
windows; and strings generated from awkward parts. It times one thread on the contexts, ids and offsets, one text after
the other; cold is a new tokenizer, warm the same one the second time; medians of --rounds.
"""

import argparse
import gzip
import json
import os
import platform
import random
import runpy
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import tokenizers
from tokenizers import BertWordPieceTokenizer

from numpy_distilbert import Tokenizer

texts = runpy.run_path(str(Path(__file__).resolve().parents[1] / "tests" / "reference" / "texts.py"))
generated_strings, known = texts["generated_strings"], texts["known"]

SURROGATES = range(0xD800, 0xE000)
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def scalars() -> Iterator[str]:
    for code in range(sys.maxunicode + 1):
        if code not in SURROGATES:
            yield from (chr(code), chr(code) * 2, f"a{chr(code)}b", f"e\u0301{chr(code)}")


def fields(encoding) -> tuple:
    return encoding.ids, encoding.tokens, encoding.offsets, encoding.word_ids, encoding.sequence_ids


class Report:
    """Lines of what was compared, and the totals."""

    def __init__(self, title: str) -> None:
        self.lines, self.compared, self.differ = [title], 0, 0

    def compare(self, name: str, results: Iterable[tuple]) -> None:
        """Count (input, ours, theirs) that differ, and show the first of them."""
        count, different = 0, []
        for text, ours, theirs in results:
            count += 1
            if ours != theirs:
                different.append(f"    {text!r}\n      ours   {ours}\n      theirs {theirs}")
        self.lines += [f"  {name:<44} {count:>10,} compared {len(different):>10,} differ", *different[:3]]
        self.compared += count
        self.differ += len(different)


def texts(ours: Tokenizer, theirs: BertWordPieceTokenizer, items: Iterable[str]) -> Iterator[tuple]:
    for text in items:
        yield text, fields(ours(text)), fields(theirs.encode(known(text)))


def text_pairs(ours: Tokenizer, theirs: BertWordPieceTokenizer, items: Iterable[tuple[str, str]]) -> Iterator[tuple]:
    for pair in items:
        yield pair, fields(ours(*pair)), fields(theirs.encode(*map(known, pair)))


def windows(ours: Tokenizer, theirs: BertWordPieceTokenizer, items: Iterable[tuple[str, str]]) -> Iterator[tuple]:
    choose = random.Random(0)
    for question, context in items:
        room = choose.randint(8, 384)
        stride = choose.randint(0, room - 1)
        max_length = room + len(ours(question)) + 1
        theirs.enable_truncation(max_length, stride=stride, strategy="only_second")
        first = theirs.encode(question, context)
        theirs.no_truncation()
        mine = ours.windows(question, context, max_length, stride)
        yield (question, context), [fields(w) for w in mine], [fields(w) for w in (first, *first.overflowing)]


def decoded(ours: Tokenizer, theirs: BertWordPieceTokenizer, items: Iterable[str]) -> Iterator[tuple]:
    for text in items:
        ids = ours(text).ids
        for skip in (True, False):
            yield text, ours.decode(ids, skip), theirs.decode(ids, skip_special_tokens=skip)


def through_json(theirs: BertWordPieceTokenizer) -> Tokenizer:
    """The reference's tokenizer.json, read by our tokenizer."""
    with tempfile.TemporaryDirectory() as folder:
        theirs.save(str(Path(folder) / "tokenizer.json"))
        return Tokenizer.from_pretrained(folder)


def throughput(vocab: dict[str, int], lowercase: bool, contexts: list[str], rounds: int) -> None:
    def run(encode) -> float:
        begin = time.perf_counter()
        for text in contexts:
            encoding = encode(text)
            _ = encoding.ids, encoding.offsets
        return time.perf_counter() - begin

    theirs = BertWordPieceTokenizer(vocab, lowercase=lowercase)
    count = sum(len(theirs.encode(text).ids) for text in contexts)
    cold, warm, reference = [], [], []
    for _ in range(rounds):
        ours = Tokenizer(vocab, lowercase=lowercase)
        cold.append(run(ours))
        reference.append(run(theirs.encode))
        warm.append(run(ours))
    print(f"  {'':<24} {'million tokens/s':>16} {'times the reference':>20}")
    for name, times in (("tokenizers, one by one", reference), ("ours, cold", cold), ("ours, warm", warm)):
        ratio = statistics.median(r / t for r, t in zip(reference, times, strict=True))
        print(f"  {name:<24} {count / statistics.median(times) / 1e6:>16.2f} {ratio:>20.2f}")


def with_vocabulary(vocab: dict[str, int], questions: list[tuple[str, str]], generated: int, seed: int) -> Report:
    lowercase = "A" not in vocab
    theirs = BertWordPieceTokenizer(vocab, lowercase=lowercase)
    ours = through_json(theirs)
    contexts = list(dict.fromkeys(context for _, context in questions))
    report = Report(f"{len(vocab):,} pieces, {'lower case' if lowercase else 'cased'}")
    report.compare("every scalar value, four ways", texts(ours, theirs, scalars()))
    report.compare("SQuAD contexts and questions", texts(ours, theirs, (*contexts, *(q for q, _ in questions))))
    report.compare("SQuAD pairs", text_pairs(ours, theirs, questions))
    report.compare("SQuAD windows of random length and stride", windows(ours, theirs, questions))
    report.compare("SQuAD contexts decoded", decoded(ours, theirs, contexts))
    report.compare("generated strings", texts(ours, theirs, generated_strings(generated, seed)))
    return report


def with_all_characters(lowercase: bool, strip_accents: bool, generated: int, seed: int) -> Report:
    every = [chr(code) for code in range(sys.maxunicode + 1) if code not in SURROGATES]
    vocab = {piece: i for i, piece in enumerate([*SPECIAL, *every, *(f"##{c}" for c in every)])}
    settings = {"lowercase": lowercase, "strip_accents": strip_accents}
    ours, theirs = Tokenizer(vocab, **settings), BertWordPieceTokenizer(vocab, **settings)
    report = Report(f"all characters, {settings}")
    report.compare("every scalar value, four ways", texts(ours, theirs, scalars()))
    report.compare("generated strings", texts(ours, theirs, generated_strings(generated, seed)))
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vocab", nargs="+", required=True, type=Path, metavar="FILE", help="vocab.txt of BERT models")
    parser.add_argument("--squad", required=True, metavar="FILE", help="SQuAD v1.1, .json or .json.gz")
    parser.add_argument("--generated", type=int, default=1_000_000, help="how many strings to generate")
    parser.add_argument("--rounds", type=int, default=7, help="how often to time")
    arguments = parser.parse_args()
    with (gzip.open if arguments.squad.endswith(".gz") else open)(arguments.squad, "rt", encoding="utf-8") as file:
        paragraphs = [p for article in json.load(file)["data"] for p in article["paragraphs"]]
    contexts = [p["context"] for p in paragraphs]
    questions = [(qa["question"], p["context"]) for p in paragraphs for qa in p["qas"]]
    vocabularies = [
        {piece: i for i, piece in enumerate(path.read_text(encoding="utf-8").removesuffix("\n").split("\n"))}
        for path in arguments.vocab
    ]
    print(f"tokenizers {tokenizers.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores")
    for path, vocab in zip(arguments.vocab, vocabularies, strict=True):
        print(
            f"{path.name}, {len(vocab):,} pieces, {len(contexts):,} contexts, one thread, medians of {arguments.rounds}"
        )
        throughput(vocab, "A" not in vocab, contexts, arguments.rounds)
    each = -(-arguments.generated // (len(vocabularies) + 4))
    with ProcessPoolExecutor() as pool:
        jobs = [pool.submit(with_vocabulary, v, questions, each, seed) for seed, v in enumerate(vocabularies)]
        for settings in ((True, True), (True, False), (False, True), (False, False)):
            jobs.append(pool.submit(with_all_characters, *settings, each, seed=len(jobs)))
        reports = [job.result() for job in jobs]
    for report in reports:
        print("\n".join(report.lines))
    differ = sum(report.differ for report in reports)
    print(f"{sum(report.compared for report in reports):,} compared, {differ:,} differ")
    return differ > 0


if __name__ == "__main__":
    sys.exit(main())
