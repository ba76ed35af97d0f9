"""A checkpoint is a folder: find it, read its files, and refuse by name what is not as it should be.

config.json              the shape of the model
model.safetensors        its weights
vocab.txt                one piece a line, the line number is the id
tokenizer.json           the pieces and how to cut them, as the tokenizers library writes it; goes before vocab.txt
tokenizer_config.json    cased or uncased, special tokens, the longest input; goes before both; may be absent
"""

import json
import os
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

DEFAULT = "distilbert-mini-uncased-squad"
PACKAGE = Path(__file__).resolve().parent


class CheckpointError(ValueError):
    """A checkpoint that is missing, unreadable or not what it says it is."""


def find(path: str | PathLike[str] | None = None) -> Path:
    """The folder of a checkpoint: the one named, or with None the embedded default.

    Raises CheckpointError if there is no such folder, TypeError if path is not a path.
    """
    if path is not None:
        if not isinstance(path, (str, PathLike)):
            raise TypeError(f"path must be a str or a path, got {type(path).__name__}.")
        if not os.path.isdir(path):
            raise CheckpointError(
                f"{path or repr(path)}: no such folder. Name the folder that holds config.json and model.safetensors."
            )
        return Path(path)
    for weights in (PACKAGE / "weights", PACKAGE.parent / "weights"):  # in a wheel; beside the package in a clone
        if (weights / DEFAULT).is_dir():
            return weights / DEFAULT
    raise CheckpointError(f"The embedded checkpoint {DEFAULT} is not beside {PACKAGE}. Install the package again.")


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise CheckpointError(f"{path}: not UTF-8 text (line {line}, byte {error.start}).") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises CheckpointError if it cannot be read or is not an object."""
    text = _read_text(path)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # a JSONDecodeError, or an integer of thousands of digits
        raise CheckpointError(f"{path}: not JSON ({error}).") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: holds {type(value).__name__}, needs a JSON object.")
    return value


def read_vocabulary(path: Path) -> dict[str, int]:
    """The pieces of a vocab.txt with their ids, from 0 in the order of the lines.

    Raises CheckpointError if the file cannot be read or is empty, or if a piece stands in it twice.
    """
    text = _read_text(path)
    if not text:
        raise CheckpointError(f"{path}: is empty, needs one piece on each line.")
    vocabulary: dict[str, int] = {}
    for number, piece in enumerate(text.removesuffix("\n").split("\n")):
        if piece in vocabulary:
            raise CheckpointError(
                f"{path}: line {number + 1} repeats {piece!r} of line {vocabulary[piece] + 1}. "
                "A vocabulary names each piece once."
            )
        vocabulary[piece] = number
    return vocabulary


def read_tokenizer(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The arguments of Tokenizer that a folder's files hold, and the file that the pieces are from.

    tokenizer.json where there is one, else vocab.txt, with tokenizer_config.json over either.
    Raises CheckpointError for a file that cannot be read, or says what a BERT tokenizer does not do.
    """
    path = folder / "tokenizer.json"
    if path.exists():
        settings = _tokenizer_json(path)
    else:
        path = folder / "vocab.txt"
        settings = {"vocab": read_vocabulary(path)}
    config = folder / "tokenizer_config.json"
    if config.exists():
        _override(settings, config)
    return path, settings


def _tokenizer_json(path: Path) -> dict[str, Any]:
    """The settings in a file of the tokenizers library: a pipeline of parts, each of which must be BERT's."""
    file = read_json(path)
    try:
        model, normalizer, post_processor = file["model"], file["normalizer"], file["post_processor"]
        _need(path, "model.type", model.get("type", "WordPiece"), "WordPiece")
        _need(path, "model.continuing_subword_prefix", model["continuing_subword_prefix"], "##")
        _need(path, "model.max_input_chars_per_word", model["max_input_chars_per_word"], 100)
        _need(path, "normalizer.type", normalizer["type"], "BertNormalizer")
        _need(path, "normalizer.clean_text", normalizer["clean_text"], True)
        _need(path, "pre_tokenizer.type", file["pre_tokenizer"]["type"], "BertPreTokenizer")
        _need(path, "post_processor.type", post_processor["type"], "BertProcessing", "TemplateProcessing")
        if post_processor["type"] == "BertProcessing":
            cls_token, sep_token = post_processor["cls"][0], post_processor["sep"][0]
        else:
            cls_token, _, sep_token = (list(item.values())[0]["id"] for item in post_processor["single"])
        return {
            "vocab": {str(piece): int(number) for piece, number in model["vocab"].items()},
            "lowercase": _need(path, "normalizer.lowercase", normalizer["lowercase"], True, False),
            "strip_accents": _need(path, "normalizer.strip_accents", normalizer["strip_accents"], True, False, None),
            "tokenize_chinese_chars": _need(
                path, "normalizer.handle_chinese_chars", normalizer["handle_chinese_chars"], True, False
            ),
            "unk_token": str(model["unk_token"]),
            "cls_token": str(cls_token),
            "sep_token": str(sep_token),
            "added_tokens": dict(_special_token(path, token, token["id"]) for token in file["added_tokens"]),
        }
    except CheckpointError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: not as the tokenizers library writes it ({error!r}).") from error


def _override(settings: dict[str, Any], path: Path) -> None:
    """Put what tokenizer_config.json says in the place of what settings had."""
    config = read_json(path)
    for name, argument, *allowed in (
        ("do_lower_case", "lowercase", True, False),
        ("strip_accents", "strip_accents", True, False, None),
        ("tokenize_chinese_chars", "tokenize_chinese_chars", True, False),
        ("split_special_tokens", "split_special_tokens", True, False),
    ):
        if name in config:
            settings[argument] = _need(path, name, config[name], *allowed)
    for name in ("unk_token", "cls_token", "sep_token", "pad_token", "mask_token"):
        token = config.get(name)
        if token is not None:
            content = token.get("content") if isinstance(token, dict) else token
            if not isinstance(content, str) or not content:
                raise CheckpointError(f"{path}: {name} is {token!r}, needs a token.")
            settings[name] = content
    added = config.get("added_tokens_decoder", {})
    if not isinstance(added, dict) or not all(number.isdecimal() for number in added):
        raise CheckpointError(f"{path}: added_tokens_decoder is {added!r}, needs an object of tokens by their ids.")
    settings["added_tokens"] = settings.get("added_tokens", {}) | dict(
        _special_token(path, token, int(number)) for number, token in added.items()
    )
    limit = config.get("model_max_length")
    # transformers writes "no limit" as an integer near 1e30
    if limit is not None and (type(limit) is not int or limit < 4):
        raise CheckpointError(f"{path}: model_max_length is {limit!r}, needs an integer from 4 up.")
    settings["model_max_length"] = limit


def _special_token(path: Path, token: Any, number: Any) -> tuple[str, int]:
    """Content and id of an added token, which must be special and without further rules of where it is found."""
    try:
        rules = [rule for rule in ("single_word", "lstrip", "rstrip", "normalized") if token[rule]]
        if rules or not token["special"]:
            raise CheckpointError(
                f"{path}: added token {token['content']!r} is {' and '.join(rules) or 'not special'}. "
                "Only special tokens that are found as they stand can be read."
            )
        content = token["content"]
        if type(content) is not str or not content or type(number) is not int:
            raise TypeError
        return content, number
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: added token {token!r} is not as the tokenizers library writes it.") from error


def _need(path: Path, name: str, value: Any, *allowed: Any) -> Any:
    """value, or CheckpointError if it is not one of the allowed."""
    if not any(type(value) is type(one) and value == one for one in allowed):
        needed = " or ".join(json.dumps(one) for one in allowed)
        raise CheckpointError(f"{path}: {name} is {json.dumps(value)}, needs {needed}.")
    return value


def read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """The tensors of a safetensors file under their published names, F32 or F16 in the file, float32 in memory.

    LayerNorm.gamma and LayerNorm.beta, as transformers 5.2.0 saves a model it had loaded, become weight and bias.

    Raises CheckpointError if the file cannot be read, is not safetensors or holds another dtype.
    """
    weights = {}
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():
                dtype = file.get_slice(name).get_dtype()
                if dtype not in ("F32", "F16"):
                    raise CheckpointError(
                        f"{path}: tensor {name} is {dtype}, needs F32 or F16. Save the model in float32."
                    )
                weights[_current_name(name)] = file.get_tensor(name).astype(np.float32, copy=False)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error}).") from error
    return weights


def _current_name(name: str) -> str:
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
