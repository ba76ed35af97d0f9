"""The parity lab: record what flows through the model, and compare two recordings.

A recording is a safetensors file of the tensors of one question and context, under the names of the checkpoint's
modules: NAME is what the module of that name gives, NAME.input what it is given. Between the modules of attention stand
its scores, (batch, heads, queries, keys) and scaled but before the softmax, probabilities and context. Metadata holds
the names in the order they were computed ("order"), the text, the tokens and where they stand in it, the configuration,
the sha256 of the weights, and versions.
"""

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from itertools import permutations
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray
from safetensors import safe_open

from . import __version__
from .checkpoint import Checkpoint
from .checkpoint.tensors import STORED_AS, read_floats, read_header, write_tensors
from .files import write_whole
from .model import DistilBertForQuestionAnswering
from .parameters import Config
from .tokenizer import Encoding, Tokenizer

RTOL, ATOL = 1e-4, 2e-5
MAX_PERMUTED = 5  # axes; of more there are too many orders to try
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
            with safe_open(path, framework="numpy") as file:
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


class Comparison(NamedTuple):
    """One tensor in two recordings.

    shape: ours; same: within the tolerance; layout: how theirs lies if not as ours; max_abs, max_rel: the largest
    difference, and the largest as a share of the larger number; ulp: the largest in units in the last place of the
    coarser dtype; cosine: of the angle between both. None where it has no meaning.
    """

    name: str
    shape: tuple[int, ...]
    same: bool
    layout: str = ""
    max_abs: float | None = None
    max_rel: float | None = None
    ulp: float | None = None
    cosine: float | None = None


def compare(
    ours: Tensors, theirs: Tensors, names: Mapping[str, str] | None = None, rtol: float = RTOL, atol: float = ATOL
) -> list[Comparison]:
    """Compare every tensor of ours that theirs has too, in the order of ours.

    names: what theirs calls a tensor, by our name, where that is not the same. Two tensors are the same if
    |ours - theirs| <= atol + rtol |theirs| everywhere, and of integers if they are equal, whatever order theirs has its
    axes in.
    """
    names = names or {}
    return [
        _compare(name, tensor, theirs[names.get(name, name)], rtol, atol)
        for name, tensor in ours.items()
        if names.get(name, name) in theirs
    ]


def _compare(name: str, ours: NDArray[Any], theirs: NDArray[Any], rtol: float, atol: float) -> Comparison:
    if ours.size != theirs.size:
        return Comparison(name, ours.shape, False, f"shape {theirs.shape}")
    coarser = min((t.dtype for t in (ours, theirs) if t.dtype.kind == "f"), key=lambda d: d.itemsize, default=None)
    if coarser is None:
        rtol = atol = 0
    a, (b, layout) = ours.astype(np.float64), _laid_out_as(ours, theirs.astype(np.float64), rtol, atol)
    with np.errstate(all="ignore"):
        same = bool(np.allclose(a, b, rtol, atol))
        difference, larger = np.abs(a - b), np.maximum(np.abs(a), np.abs(b))
        relative = np.divide(difference, larger, out=np.zeros_like(larger), where=difference != 0)
        units = None if coarser is None else difference / np.spacing(larger.astype(coarser)).astype(np.float64)
        cosine = (a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b))
    figures = [None if x is None else float(np.max(x, initial=0)) for x in (difference, relative, units)] + [
        float(cosine)
    ]
    return Comparison(
        name, ours.shape, same, layout, *(x if x is not None and np.isfinite(x) else None for x in figures)
    )


def _laid_out_as(ours: NDArray[Any], theirs: NDArray[Any], rtol: float, atol: float) -> tuple[NDArray[Any], str]:
    """theirs in the shape of ours, with its axes in the order in which the numbers agree best; and that in words."""
    if theirs.shape == ours.shape and np.allclose(ours, theirs, rtol, atol):
        return theirs, ""
    squeezed = theirs.squeeze()
    best, layout, smallest = (
        theirs.reshape(ours.shape),
        "" if theirs.shape == ours.shape else f"as {theirs.shape}",
        np.inf,
    )
    for axes in permutations(range(squeezed.ndim)) if squeezed.ndim <= MAX_PERMUTED and squeezed.size else ():
        moved = squeezed.transpose(axes).reshape(ours.shape)
        with np.errstate(all="ignore"):
            difference = np.nanmean(np.abs(ours - moved))
        if difference < smallest / 2:  # not by chance
            best, smallest = moved, difference
            if list(axes) != sorted(axes):
                layout = f"as {theirs.shape}, needs .squeeze().transpose{axes}"
    return best, layout
