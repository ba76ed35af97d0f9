"""Record what flows through the model while it reads one question and its context.

A recording is a safetensors file of tensors under the names of the checkpoint's modules: NAME is what the module of
that name gives, NAME.input what it is given. Between the modules of attention are its scores, (batch, heads, queries,
keys) and scaled but before the softmax, probabilities and context. Metadata holds the names in the order they were
computed ("order"), the text, the tokens and their offsets in it, the configuration, the sha256 of the weights, and
versions.
"""

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .. import __version__
from ..checkpoint import Checkpoint
from ..checkpoint.tensors import STORED_AS, open_tensors, read_floats, read_header, write_tensors
from ..files import write_whole
from ..model import DistilBertForQuestionAnswering
from ..parameters import Config
from ..tokenizer import Encoding, Tokenizer

Tensors = Mapping[str, NDArray[Any]]


def record(
    question: str, context: str, checkpoint: Checkpoint, dtype: DTypeLike = "float32"
) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The tensors of one question and context through a checkpoint, and the metadata of a recording.

    Raises ValueError if they have more tokens than the model has positions, else as the model and the tokenizer do.
    """
    model = DistilBertForQuestionAnswering.from_pretrained(checkpoint, dtype=dtype)
    tokenizer = Tokenizer.from_pretrained(checkpoint)
    encoding = one_window(question, context, tokenizer, model.config)
    tensors = model([encoding.ids], output_tensors=True).tensors or {}
    return tensors, _metadata(question, context, encoding, model, checkpoint) | {"order": json.dumps(list(tensors))}


def one_window(question: str, context: str, tokenizer: Tokenizer, config: Config) -> Encoding:
    """Both as the model reads them at once. Raises ValueError if they have more tokens than it has positions."""
    encoding, positions = tokenizer(question, context), config.max_position_embeddings
    if len(encoding) > positions:
        raise ValueError(
            f"question and context have {len(encoding)} tokens, the model has {positions} positions. "
            "Shorten the context."
        )
    return encoding


def _metadata(
    question: str, context: str, encoding: Encoding, model: DistilBertForQuestionAnswering, checkpoint: Checkpoint
) -> dict[str, str]:
    values = {
        "tokens": encoding.tokens,
        "offsets": encoding.offsets,
        "sequence_ids": encoding.sequence_ids,
        "config": asdict(model.config),
        "sha256": checkpoint.sha256,
        "versions": {"numpy_distilbert": __version__, "numpy": np.__version__, "python": platform.python_version()},
    }
    return {"question": question, "context": context} | {name: json.dumps(value) for name, value in values.items()}


def write_recording(path: str | PathLike[str], tensors: Tensors, metadata: dict[str, str]) -> None:
    """Write a recording, whole or not at all.

    Raises ValueError if it cannot stand there or is not called .safetensors, OSError if writing fails.
    """
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"{path}: a recording is a .safetensors file. Name it so.")
    with write_whole(path, binary=True) as file:
        write_tensors(file, tensors, metadata)


def read_recording(path: str | PathLike[str]) -> dict[str, NDArray[Any]]:
    """The tensors in a .safetensors or .npz file, in the order that it says they were computed, if it says so.

    Raises ValueError if it cannot be read, or holds what is not numbers.
    """
    tensors: dict[str, NDArray[Any]] = {}
    try:
        if Path(path).suffix == ".npz":
            with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                tensors = {name: file[name] for name in file.files}
        else:
            places = dict(read_header(Path(path)))
            with open_tensors(path) as file:
                order = dict.fromkeys(json.loads((file.metadata() or {}).get("order", "[]")))
                for name in [*(n for n in order if n in places), *sorted(places.keys() - order)]:
                    place = places[name]
                    tensors[name] = read_floats(place) if place.dtype in STORED_AS else file.get_tensor(name)
    except Exception as error:  # a broken zip file alone has a dozen kinds
        raise ValueError(f"{path}: not a readable .safetensors or .npz file ({error}).") from error
    for name, tensor in tensors.items():
        if tensor.dtype.kind not in "biuf":
            raise ValueError(f"{path}: {name} is {tensor.dtype}, needs numbers.")
    return tensors
