"""Read the files in a checkpoint's folder, with errors that name the file and what is wrong with it.

config.json              the shape of the model
model.safetensors        its weights, read by tensors.py
vocab.txt                one piece per line, the line number is the id
tokenizer.json           vocabulary and pipeline, as the tokenizers library writes it; takes precedence over vocab.txt
tokenizer_config.json    cased or uncased, special tokens, the longest input; overrides both; may be absent
calibration.json         how scores of documents.py become probabilities; may be absent
"""

import errno
import json
import math
import os
import reprlib
import stat
from pathlib import Path
from typing import Any


class CheckpointError(ValueError):
    """A checkpoint that is missing, unreadable or not what it claims to be."""


MAX_BYTES = 2**25  # of a file of text, many times the longest vocabulary in use


def check_regular(path: Path) -> None:
    """Raise OSError for a file that is missing, or may never end, such as a pipe."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # opening a folder fails at once
        raise OSError(errno.EINVAL, "not a regular file; put a regular file in its place")


def check_inside(path: Path, folder: Path) -> Path:
    """Return a path that may be copied. Raises CheckpointError if it leads out of the checkpoint's folder; but in the
    hub's cache, where all files are links, they may lead to the files that were fetched for the same checkpoint.
    """
    target, folder = path.resolve(), folder.resolve()
    fetched = folder.parent.name == "snapshots" and target.parent == folder.parents[1] / "blobs"
    if not fetched and not target.is_relative_to(folder):
        raise CheckpointError(f"{path}: is a link out of its folder, to {target}. Replace the link with the file.")
    return path


def read_bytes(path: Path) -> bytes:
    """The content of a file other than weights. Raises CheckpointError if it cannot be read, see check_regular(), or is
    too long.
    """
    try:
        check_regular(path)
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)  # a file in /proc says that it has no bytes
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}).") from error
    if len(content) > MAX_BYTES:
        raise CheckpointError(f"{path}: has more than {MAX_BYTES:,} bytes. Is it the right file?")
    return content


def _read_text(path: Path) -> str:
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise CheckpointError(f"{path}: not UTF-8 text (line {line}, byte {error.start}).") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises CheckpointError if it cannot be read, is no object or repeats a key."""
    text = _read_text(path)
    try:
        value = json.loads(text, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:  # a JSONDecodeError, or an integer of thousands of digits
        raise CheckpointError(f"{path}: not JSON ({error}).") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: holds {type(value).__name__}, needs a JSON object.")
    return value


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, of in pairs:
        if key in value:
            raise ValueError(f"{_shown(key)} is twice in one object")
        value[key] = of
    return value


def read_vocabulary(path: Path) -> dict[str, int]:
    """The ids of the pieces in vocab.txt. Raises CheckpointError if it cannot be read, is empty or repeats a piece."""
    text = _read_text(path)
    if not text:
        raise CheckpointError(f"{path}: is empty, needs one piece on each line.")
    vocabulary: dict[str, int] = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n")):
        piece = line.removesuffix("\r")
        if piece in vocabulary:
            lines = f"line {number + 1} repeats {_shown(piece)} of line {vocabulary[piece] + 1}"
            raise CheckpointError(f"{path}: {lines}. A vocabulary names each piece once.")
        vocabulary[piece] = number
    return vocabulary


def read_tokenizer(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The file that holds the vocabulary, and the arguments for Tokenizer from all files in a folder.

    tokenizer.json if present, else vocab.txt; special_tokens_map.json (of transformers 4) and tokenizer_config.json
    override either. Raises CheckpointError for a file that cannot be read, or asks for what BERT's tokenizer cannot do.
    """
    path = folder / "tokenizer.json"
    if os.path.exists(path):
        settings = _tokenizer_json(path)
    else:
        path = folder / "vocab.txt"
        settings = {"vocab": read_vocabulary(path), "added_tokens": {}}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if os.path.exists(folder / name):
            _override(settings, folder / name)
    return path, settings


def read_calibration(folder: Path) -> dict[str, float]:
    """temperature and offset in calibration.json, or nothing if it is absent. Raises CheckpointError as read_json(),
    and if one is not a number or the temperature is not above 0.
    """
    path = folder / "calibration.json"
    if not os.path.exists(path):
        return {}
    file = read_json(path)
    for name, lowest in (("temperature", 0.0), ("offset", -math.inf)):
        value: Any = file.get(name)
        if type(value) not in (int, float) or not lowest < value < math.inf:
            raise CheckpointError(f"{path}: {name} is {_shown(value)}, needs a number{' above 0' * (lowest == 0)}.")
    return {name: float(file[name]) for name in ("temperature", "offset")}


def _tokenizer_json(path: Path) -> dict[str, Any]:
    """The settings in a file of the tokenizers library, whose pipeline must be BERT's in every part."""
    file = read_json(path)
    try:
        model, normalizer = file["model"], file["normalizer"]
        model.setdefault("type", "WordPiece")
        for part, name, *allowed in (
            ("model", "type", "WordPiece"),
            ("model", "continuing_subword_prefix", "##"),
            ("model", "max_input_chars_per_word", 100),
            ("normalizer", "type", "BertNormalizer"),
            ("normalizer", "clean_text", True),
            ("normalizer", "lowercase", True, False),
            ("normalizer", "strip_accents", True, False, None),
            ("normalizer", "handle_chinese_chars", True, False),
            ("pre_tokenizer", "type", "BertPreTokenizer"),
            ("decoder", "type", "WordPiece"),
            ("decoder", "prefix", "##"),
            ("decoder", "cleanup", True),
        ):
            _need(path, f"{part}.{name}", file[part][name], *allowed)
        cls_token, sep_token = _frame(path, file["post_processor"], model["vocab"])
        return {
            "vocab": model["vocab"],
            "lowercase": normalizer["lowercase"],
            "strip_accents": normalizer["strip_accents"],
            "tokenize_chinese_chars": normalizer["handle_chinese_chars"],
            "unk_token": model["unk_token"],
            "cls_token": cls_token,
            "sep_token": sep_token,
            "added_tokens": dict(_special_token(path, token, token["id"]) for token in file["added_tokens"]),
        }
    except CheckpointError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: not as the tokenizers library writes it ({error!r}).") from error


def _frame(path: Path, post_processor: dict[str, Any], vocab: dict[str, int]) -> tuple[str, str]:
    """The [CLS] and the [SEP] of a post-processor, which must frame two texts as BERT does: [CLS] A [SEP] B [SEP]."""
    _need(path, "post_processor.type", post_processor["type"], "BertProcessing", "TemplateProcessing")
    if post_processor["type"] == "BertProcessing":
        (cls, cls_id), (sep, sep_id) = post_processor["cls"], post_processor["sep"]
    else:
        templates = (post_processor["single"], post_processor["pair"])
        single, pair = ([(kind, part["id"]) for item in items for kind, part in item.items()] for items in templates)
        cls, sep = single[0][1], single[-1][1]
        bert = [("SpecialToken", cls), ("Sequence", "A"), ("SpecialToken", sep)]
        if single != bert or pair != [*bert, ("Sequence", "B"), ("SpecialToken", sep)]:
            raise CheckpointError(f"{path}: post_processor.single and .pair are not [CLS] A [SEP] B [SEP].")
        ((cls_id,), (sep_id,)) = (post_processor["special_tokens"][token]["ids"] for token in (cls, sep))
    for token, number in ((cls, cls_id), (sep, sep_id)):
        if (known := vocab.get(token, number)) != number:
            raise CheckpointError(f"{path}: {_shown(token)} has id {number} in post_processor, {known} in model.vocab.")
    return cls, sep


def _override(settings: dict[str, Any], path: Path) -> None:
    """Override settings with what a tokenizer_config.json or a special_tokens_map.json says."""
    config = read_json(path)
    for name, argument, *allowed in (
        ("do_lower_case", "lowercase", True, False),
        ("strip_accents", "strip_accents", True, False, None),
        ("tokenize_chinese_chars", "tokenize_chinese_chars", True, False),
        ("split_special_tokens", "split_special_tokens", True, False),
    ):
        if name in config:
            settings[argument] = _need(path, name, config[name], *allowed)
    if (limit := config.get("model_max_length")) is not None:
        if type(limit) is not int or limit < 4:  # "no limit" is written as an integer near 1e30
            raise CheckpointError(f"{path}: model_max_length is {_shown(limit)}, needs an integer from 4 up.")
        settings["model_max_length"] = limit
    added, by_id = settings["added_tokens"], config.get("added_tokens_decoder", {})
    if not isinstance(by_id, dict) or not all(number.isdecimal() and len(number) < 10 for number in by_id):
        raise CheckpointError(f"{path}: added_tokens_decoder is {_shown(by_id)}, needs an object of tokens by ids.")
    added.update(_special_token(path, token, int(number)) for number, token in by_id.items())
    for name in ("unk_token", "cls_token", "sep_token", "pad_token", "mask_token"):
        if config.get(name) is not None:
            settings[name] = _content(path, name, config[name])
    for name in ("additional_special_tokens", "extra_special_tokens"):
        extra = config.get(name) or []
        if not isinstance(extra, (dict, list)):
            raise CheckpointError(f"{path}: {name} is {_shown(extra)}, needs a list of tokens.")
        for token in extra.values() if isinstance(extra, dict) else extra:
            content = _content(path, name, token)
            if content not in added and content not in settings["vocab"]:
                problem = f"{name} has {_shown(content)}, which has no id"
                raise CheckpointError(f"{path}: {problem}. Add it to the vocabulary.")
            added.setdefault(content, settings["vocab"].get(content))


def _content(path: Path, name: str, token: Any) -> str:
    """The text of a token, which is a string or an object with "content"."""
    content = token.get("content") if isinstance(token, dict) else token
    if not isinstance(content, str) or not content:
        raise CheckpointError(f"{path}: {name} is {_shown(token)}, needs a token.")
    return content


def _special_token(path: Path, token: Any, number: int) -> tuple[str, int]:
    """Content and id of an added token, which must be special and matched without further rules."""
    if not isinstance(token, dict):
        raise CheckpointError(f"{path}: an added token is {_shown(token)}, needs an object.")
    content = _content(path, "an added token", token)
    for rule in ("special", "single_word", "lstrip", "rstrip", "normalized"):
        _need(path, f"{rule} of the added token {_shown(content)}", token.get(rule), rule == "special")
    return content, number


def _need(path: Path, name: str, value: Any, *allowed: Any) -> Any:
    """Value, if it is one of the allowed. Raises CheckpointError otherwise."""
    if not any(type(value) is type(choice) and value == choice for choice in allowed):
        raise CheckpointError(f"{path}: {name} is {_shown(value)}, needs {' or '.join(map(json.dumps, allowed))}.")
    return value


def _shown(value: Any) -> str:
    """A value from a file, shortened to fit an error message."""
    if isinstance(value, (dict, list)):
        return reprlib.repr(value)
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
