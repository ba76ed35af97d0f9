"""A checkpoint is a folder: find it, read its files, and refuse by name what is not as it should be.

config.json              the shape of the model
model.safetensors        its weights
vocab.txt                one piece a line, the line number is the id
tokenizer_config.json    cased or uncased, and the longest input; may be absent
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
        raise CheckpointError(f"{path}: not UTF-8 text (byte {error.start}).") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises CheckpointError if it cannot be read or is not an object."""
    try:
        value = json.loads(_read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON ({error}).") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: holds {type(value).__name__}, needs a JSON object.")
    return value


def read_vocabulary(path: Path) -> dict[str, int]:
    """The pieces of a vocab.txt with their ids, from 0 in the order of the lines.

    Raises CheckpointError if the file cannot be read or is empty, or if a piece stands in it twice.
    """
    lines = _read_text(path).removesuffix("\n").split("\n")
    vocabulary: dict[str, int] = {}
    for number, piece in enumerate(lines):
        if piece in vocabulary:
            raise CheckpointError(
                f"{path}: line {number + 1} repeats {piece!r} of line {vocabulary[piece] + 1}. "
                "A vocabulary names each piece once."
            )
        vocabulary[piece] = number
    return vocabulary


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
