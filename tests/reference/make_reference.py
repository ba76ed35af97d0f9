"""Write the outputs of the reference that the tests compare with. Run it only to make them anew:

    pip install torch==2.13.0 transformers==5.2.0
    python tests/reference/make_reference.py

It writes the data files beside itself, from texts.py, the embedded checkpoint and the random ones of checkpoints.py.
"""

import json
import tempfile
from pathlib import Path

import gradients
import numpy as np
import torch
import transformers
from repositories import IDS, OTHER_FORMATS, repository
from safetensors.numpy import save_file
from texts import (
    ANSWERS,
    AWKWARD,
    ISLAND,
    PAIRS,
    QUESTIONS,
    SHORT,
    around,
    character_blocks,
    digest,
    generated_strings,
    known,
)
from tokenizers import BertWordPieceTokenizer, Tokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from torch.nn.functional import cross_entropy, kl_div
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, DistilBertTokenizer, pipeline
from transformers.data.metrics.squad_metrics import compute_exact, compute_f1

from numpy_distilbert.lab.synthetic import SHAPES, write_checkpoint

HERE = Path(__file__).resolve().parent
EMBEDDED = HERE.parents[1] / "weights" / "distilbert-mini-uncased-squad"
LENGTHS = {"one_head": 24, "odd": 24, "cased": 96, "published": 384, "embedded": 384}


def write_cased_vocab() -> None:
    """A small cased vocabulary of our own: characters with gaps, and pieces cut from the words of texts.py."""
    text = " ".join([*AWKWARD, *(" ".join(pair) for pair in PAIRS + SHORT), ISLAND, *QUESTIONS])
    characters = sorted({c for c in text if c.isprintable() and not c.isspace() and (ord(c) < 128 or ord(c) % 7)})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{c}" for c in characters)]
    for number, word in enumerate(sorted({w for w in text.split() if w.isalpha() and len(w) > 3})):
        pieces += [word] if number % 3 == 0 else [word[:3], f"##{word[3:]}"]
    pieces = list(dict.fromkeys(pieces))
    assert len(pieces) <= SHAPES["cased"]["vocab_size"], len(pieces)
    (HERE / "cased_vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")


def write_cased_checkpoint(folder: Path) -> Path:
    write_checkpoint(folder, "cased")
    (folder / "vocab.txt").write_bytes((HERE / "cased_vocab.txt").read_bytes())
    (folder / "tokenizer_config.json").write_text(
        '{"do_lower_case": false, "tokenizer_class": "DistilBertTokenizer"}', encoding="utf-8"
    )
    return folder


def write_tokens(folders: dict[str, Path]) -> None:
    """Ids, offsets, word ids and sequence ids of texts, pairs and windows; texts also decoded."""
    cases = []

    def add(casing: str, kind: str, call: dict, encodings: list, **more) -> None:
        fields = ("ids", "tokens", "offsets", "word_ids", "sequence_ids")
        found = [{field: getattr(encoding, field) for field in fields} for encoding in encodings]
        cases.append({"casing": casing, "kind": kind, **call, "encodings": found, **more})

    def add_text(casing: str, backend: Tokenizer, text: str) -> None:
        encoding = backend.encode(known(text))
        decoded = [backend.decode(encoding.ids, skip_special_tokens=skip) for skip in (True, False)]
        add(casing, "text", {"text": text}, [encoding], decoded=decoded)

    for casing, folder in folders.items():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        backend = tokenizer.backend_tokenizer
        for text in [*AWKWARD, *generated_strings(150, seed=7)]:
            add_text(casing, backend, text)
        for text, pair in PAIRS:
            # not through transformers, which takes an empty pair for none
            add(casing, "text", {"text": text, "pair": pair}, [backend.encode(text, pair)])
        backend.encode_special_tokens = True
        for text in AWKWARD:
            if "[" in text:
                add(casing, "special tokens split", {"text": text}, [backend.encode(text)])
        backend.encode_special_tokens = False
        for max_length, stride in ((384, 128), (64, 20), (20, 0)):
            call = {"question": QUESTIONS[0], "context": ISLAND[:1200], "max_length": max_length, "stride": stride}
            options = {"truncation": "only_second", "max_length": max_length, "stride": stride}
            encoded = tokenizer(call["question"], call["context"], return_overflowing_tokens=True, **options)
            add(casing, "windows", call, encoded.encodings)
    for name in ("renamed", "template"):
        backend = Tokenizer.from_file(str(HERE / f"{name}_tokenizer.json"))
        every = list(range(backend.get_vocab_size()))
        decoded = [
            backend.decode(ids, skip_special_tokens=skip) for ids in (every, every[::-1]) for skip in (True, False)
        ]
        cases.append({"casing": name, "kind": "every id", "ids": every, "decoded": decoded})
        for text in (
            "A É 漢字 ab acc",
            "a[SEP]b <sep> <new>a [CLS]<cls> [UNK] <unk>",
            "a ! b , c . ? a's don't",
            "<new>bb<new> a ' bc do not a.",
            "a\u302e\u07fdb",
        ):
            add_text(name, backend, text)
    (HERE / "tokens.json").write_text(json.dumps(cases, separators=(",", ":")), encoding="utf-8")


def write_characters() -> None:
    """A digest for every block of 1,024 characters of what the reference makes of each in the texts of around()."""
    digests = {}
    for casing, lowercase in (("uncased", True), ("cased", False)):
        normalize, split = BertNormalizer(lowercase=lowercase).normalize_str, BertPreTokenizer().pre_tokenize_str
        digests[casing] = {
            start: digest(
                [word for text in around(code) for word, _ in split(normalize(known(text)))] for code in block
            )
            for start, block in character_blocks()
        }
    (HERE / "characters.json").write_text(json.dumps(digests, indent=0) + "\n", encoding="utf-8")


def write_tokenizer_files() -> None:
    """Two tokenizer.json as the tokenizers library and transformers write them, one with renamed special tokens."""
    pieces = ["[PAD]", "<unk>", "<cls>", "<sep>", "[MASK]", *"abcÉé漢字.'", "##b", "##c", "漢字", "n't", "'re", "##n't"]
    pieces += ["##\u302e", "##\u07fd"]  # the second is newer than the reference's tables
    vocab = {piece: i for i, piece in enumerate(pieces)}
    renamed = {"unk_token": "<unk>", "cls_token": "<cls>", "sep_token": "<sep>"}
    tokenizer = BertWordPieceTokenizer(vocab, lowercase=False, handle_chinese_chars=False, **renamed)
    tokenizer.add_special_tokens(["<new>", "<new>b", "a ' b", "do not", "."])
    tokenizer.save(str(HERE / "renamed_tokenizer.json"))
    vocab = {piece.translate({60: "[", 62: "]"}).upper() if piece[0] == "<" else piece: i for piece, i in vocab.items()}
    DistilBertTokenizer(vocab=vocab).backend_tokenizer.save(str(HERE / "template_tokenizer.json"))


def batch(vocab_size: int, length: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Five rows: whole, padded right, padded left, with holes, and a single token."""
    random = np.random.RandomState(seed)
    ids = random.randint(0, vocab_size, (5, length))
    mask = np.ones((5, length), dtype=np.int64)
    mask[1, length // 3 :] = 0
    mask[2, : length // 2] = 0
    mask[3] = random.randint(0, 2, length)
    mask[4, 1:] = 0
    return ids, mask


def write_logits(folders: dict[str, Path]) -> None:
    """Hidden states after every layer (of the large models, of a few positions) and the logits of one batch."""
    tensors = {}
    for number, (name, folder) in enumerate(folders.items()):
        model = AutoModelForQuestionAnswering.from_pretrained(folder, dtype=torch.float32).eval()
        length = LENGTHS[name]
        ids, mask = batch(model.config.vocab_size, length, number)
        with torch.no_grad():
            out = model(torch.tensor(ids), torch.tensor(mask), output_hidden_states=True)
        positions = np.unique(np.linspace(0, length - 1, 6).astype(int)) if model.config.dim > 64 else np.arange(length)
        hidden = torch.stack(out.hidden_states).numpy()[:, :, positions]
        tensors |= {
            f"{name}.input_ids": ids,
            f"{name}.attention_mask": mask,
            f"{name}.positions": positions,
            f"{name}.hidden_states": np.ascontiguousarray(hidden),
            f"{name}.start_logits": out.start_logits.numpy(),
            f"{name}.end_logits": out.end_logits.numpy(),
        }
    save_file(tensors, HERE / "logits.safetensors")


def write_answers(folders: dict[str, Path]) -> None:
    """Answers of the question-answering pipeline."""
    settings = [
        {},
        {"top_k": 4},
        {"max_seq_len": 72, "doc_stride": 24},
        {"max_seq_len": 90, "top_k": 3, "max_answer_len": 30},
        {"align_to_words": False, "top_k": 3},
        {"handle_impossible_answer": True},
    ]
    cases = []
    for casing, folder in folders.items():
        model = AutoModelForQuestionAnswering.from_pretrained(folder, dtype=torch.float32)
        reference = pipeline("question-answering", model=model, tokenizer=AutoTokenizer.from_pretrained(folder))
        limit = {"max_seq_len": 96} if casing == "cased" else {}
        for options in settings:
            for context, questions in [*((c, [q]) for q, c in SHORT), (ISLAND, QUESTIONS)]:
                for question in questions:
                    options = limit | options
                    answers = reference(question=question, context=context, **options)
                    cases.append(
                        {
                            "casing": casing,
                            "question": question,
                            "context": "ISLAND" if context is ISLAND else context,
                            "options": options,
                            "answers": answers if isinstance(answers, list) else [answers],
                        }
                    )
    (HERE / "answers.json").write_text(json.dumps({"ISLAND": ISLAND, "cases": cases}, indent=0), encoding="utf-8")


def write_repositories(temporary: Path) -> None:
    """The pipeline's answers from each rebuilt repository."""
    cases = []
    for name in IDS:
        (folder := temporary / "repositories" / name).mkdir(parents=True)  # SHAPES has a "published" too
        for file, content in repository(name).items():
            if file not in OTHER_FORMATS:
                (folder / file).write_bytes(content)
        model = AutoModelForQuestionAnswering.from_pretrained(folder, dtype=torch.float32)
        reference = pipeline("question-answering", model=model, tokenizer=AutoTokenizer.from_pretrained(folder))
        for question, context in [*SHORT[:5], *((question, "ISLAND") for question in QUESTIONS[:2])]:
            answer = reference(question=question, context=ISLAND if context == "ISLAND" else context)
            cases.append({"name": name, "question": question, "context": context, "answer": answer})
    (HERE / "repositories.json").write_text(json.dumps(cases, indent=1), encoding="utf-8")


def write_squad_scores() -> None:
    """Exact match and F1 of answers compared with each other: the v2.0 script, which for these is that of v1.1."""
    pairs = [(one, other) for one in ANSWERS for other in ANSWERS]
    cases = [[one, other, compute_exact(other, one), compute_f1(other, one)] for one, other in pairs]
    (HERE / "squad_scores.json").write_text(json.dumps(cases, indent=0), encoding="utf-8")


def write_gradients(folders: dict[str, Path]) -> None:
    """PyTorch's autograd: of each operation for given dy, and of the loss of whole models for every parameter."""
    tensors = {}
    for name, (inputs, dy) in gradients.operations().items():
        variables = [torch.tensor(array, requires_grad=True) for array in inputs]
        TORCH[name](*variables).backward(torch.tensor(dy))
        tensors |= {f"{name}.{i}": variable.grad.numpy() for i, variable in enumerate(variables)}
    for shape in gradients.MODELS:
        model = AutoModelForQuestionAnswering.from_pretrained(folders[shape], dtype=torch.float32).eval()
        total = 0.0
        for ids, answer, teacher in (windows := gradients.windows(SHAPES[shape])):
            output = model(torch.tensor(ids[None]))
            logits, teacher = torch.cat([output.start_logits, output.end_logits]), torch.tensor(teacher)
            hard = cross_entropy(logits, torch.tensor(answer))
            soft = kl_div(
                (logits / gradients.TEMPERATURE).log_softmax(-1),
                (teacher / gradients.TEMPERATURE).softmax(-1),
                reduction="batchmean",
            )
            soft = soft * gradients.TEMPERATURE**2
            total = total + (gradients.ALPHA * soft + (1 - gradients.ALPHA) * hard) / len(windows)
        total.backward()
        tensors |= {f"{shape}.{name}": parameter.grad.numpy() for name, parameter in model.named_parameters()}
        tensors[f"{shape}.loss"] = total.detach().numpy()
    save_file(tensors, HERE / "gradients.safetensors")


TORCH = {
    "linear": lambda x, weight, bias: (weight @ x) + bias[:, None],
    "gelu": torch.nn.functional.gelu,
    "softmax": lambda x: x.softmax(-1),
    "layer_norm": lambda x, w, b: torch.nn.functional.layer_norm(x.T, x.shape[:1], w, b, 1e-12).T,
    "attention": lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(q.mT, k.mT, v.mT).mT,
    "embeddings": lambda words, places: (words[list(gradients.IDS)] + places[list(gradients.POSITIONS)]).T,
    "cross_entropy": lambda logits: cross_entropy(logits, torch.tensor(gradients.TARGET)),
    "distillation": lambda logits, teacher: (
        kl_div(
            (logits / gradients.TEMPERATURE).log_softmax(-1),
            (teacher.detach() / gradients.TEMPERATURE).softmax(-1),
            reduction="sum",
        )
        * gradients.TEMPERATURE**2
        + 0 * teacher.sum()
    ),
    "dropout": lambda q, k, v, kept: v @ ((k.mT @ q / q.shape[-2] ** 0.5).softmax(-2) * kept),
}


def main() -> None:
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    write_cased_vocab()
    with tempfile.TemporaryDirectory() as temporary:
        folders = {name: write_checkpoint(Path(temporary) / name, name) for name in SHAPES}
        folders["embedded"] = EMBEDDED
        folders["cased"] = write_cased_checkpoint(Path(temporary) / "cased")
        tokenizers = {"uncased": EMBEDDED, "cased": folders["cased"]}
        write_tokenizer_files()
        write_tokens(tokenizers)
        write_characters()
        write_logits(folders)
        write_answers(tokenizers)
        write_repositories(Path(temporary))
        write_squad_scores()
        write_gradients(folders)


if __name__ == "__main__":
    main()
