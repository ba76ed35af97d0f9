"""Repositories of the hub, rebuilt file by file, with random weights and a vocabulary of our own.

Their files have the form of the published ones: of distilbert/distilbert-base-cased-distilled-squad at revision
564e9b5, and as it was in March 2023 (with the position_ids that transformers 4 saved too); of its uncased sibling; and
what save_pretrained() of transformers 5.2.0 writes for a fine-tune. Layers, heads, positions, numbers of pieces and all
names are the published ones, only the widths are small.
"""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from numpy_distilbert.lab.synthetic import SHAPES, random_weights

IDS = {
    "published": "distilbert/distilbert-base-cased-distilled-squad",
    "of 2023": "distilbert/distilbert-base-cased-distilled-squad",
    "uncased": "distilbert/distilbert-base-uncased-distilled-squad",
    "fine-tune": "someone/fine-tuned",
}
OTHER_FORMATS = [".gitattributes", "pytorch_model.bin", "rust_model.ot", "tf_model.h5", "openvino_model.bin"]
SPECIAL = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
CARD = """\
---
language: en
license: apache-2.0
---

# A checkpoint with random weights

```python
>>> from transformers import pipeline
>>> question_answerer = pipeline("question-answering", model='{id}')

>>> context = r\"\"\"
... The tower is old. Maren Holt     kept
... its log.
... \"\"\"

>>> result = question_answerer(question="Who kept the log?",     context=context)
>>> print(
... f"Answer: '{{result['answer']}}', score: {{round(result['score'], 4)}}, start: {{result['start']}}"
...)

Answer: 'Maren Holt', score: 0.9831, start: 19, end: 29
```
"""


def vocabulary(lowercase: bool) -> list[str]:
    """As many pieces as the published vocabulary has, special and unused ones in its places, and then ours."""
    own = (Path(__file__).parent / "cased_vocab.txt").read_text(encoding="utf-8").splitlines()[5:]
    unused = [f"[unused{i}]" for i in range(1, 100)]
    pieces = ["[PAD]", *unused, *list(SPECIAL)[1:], *(piece.lower() if lowercase else piece for piece in own)]
    pieces = list(dict.fromkeys(pieces))
    return pieces + [f"##{i}" for i in range(10**5, 10**5 + (30522 if lowercase else 28996) - len(pieces))]


def tokenizer_json(pieces: list[str], lowercase: bool, old: bool) -> str:
    """The tokenizers library's file; in 2020 its model had no type."""
    rules = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    cls, sep = ({"SpecialToken": {"id": token, "type_id": 0}} for token in ("[CLS]", "[SEP]"))
    single = [cls, {"Sequence": {"id": "A", "type_id": 0}}, sep]
    second = [{"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}]
    special = {token: {"id": token, "ids": [SPECIAL[token]], "tokens": [token]} for token in ("[CLS]", "[SEP]")}
    normalizer = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": lowercase}
    model = {"unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    file = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "special": True, "content": token} | rules for token, i in SPECIAL.items()],
        "normalizer": {"type": "BertNormalizer"} | normalizer,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": single + second,
            "special_tokens": special,
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": ({} if old else {"type": "WordPiece"}) | model | {"vocab": {p: i for i, p in enumerate(pieces)}},
    }
    return json.dumps(file, ensure_ascii=False)


def repository(name: str) -> dict[str, bytes]:
    """The content of every file by its name."""
    fine_tune, lowercase = name == "fine-tune", name == "uncased"
    pieces = vocabulary(lowercase)
    shape = SHAPES["published"] | {"dim": 48, "hidden_dim": 96, "vocab_size": len(pieces)}
    config = {
        "activation": "gelu",
        "architectures": ["DistilBertForQuestionAnswering"],
        "attention_dropout": 0.1,
        "dropout": 0.1,
        "initializer_range": 0.02,
        "model_type": "distilbert",
        "pad_token_id": 0,
        "qa_dropout": 0.1,
        "seq_classif_dropout": 0.2,
        "sinusoidal_pos_embds": not lowercase,
        "tie_weights_": True,
    }
    tokenizer_config = {"do_lower_case": lowercase}
    weights = random_weights(shape, seed=list(IDS).index(name))
    if not lowercase:
        config["output_past"] = True
    if name != "of 2023":
        tokenizer_config["model_max_length"] = 512
    else:
        weights["distilbert.embeddings.position_ids"] = np.arange(512)[None]
    if fine_tune:
        config |= {"bos_token_id": None, "dtype": "float32", "eos_token_id": None, "tie_word_embeddings": True}
        config["transformers_version"] = "5.2.0"
        tokenizer_config |= {f"{token[1:-1].lower()}_token": token for token in SPECIAL}
        tokenizer_config |= {"backend": "tokenizers", "is_local": True, "tokenizer_class": "BertTokenizer"}
        tokenizer_config |= {"strip_accents": None, "tokenize_chinese_chars": True}
        old_names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        for new, old in old_names.items():
            weights[f"distilbert.embeddings.{old}"] = weights.pop(f"distilbert.embeddings.{new}")
    texts = {
        "config.json": json.dumps(shape | config, indent=2),
        "tokenizer_config.json": json.dumps(tokenizer_config),
        "tokenizer.json": tokenizer_json(pieces, lowercase, old=not fine_tune),
    }
    if not fine_tune:
        texts |= {"vocab.txt": "\n".join(pieces) + "\n", "README.md": CARD.format(id=IDS[name])}
        texts |= dict.fromkeys(OTHER_FORMATS, "not for us")
    files = {file: text.encode() for file, text in texts.items()}
    return files | {"model.safetensors": save(weights, {"format": "pt"})}
