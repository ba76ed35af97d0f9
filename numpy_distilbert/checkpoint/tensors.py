"""The weights of a checkpoint: safetensors files, each tensor read when it is asked for and checked before it is used.

Source: the safetensors format, 8 bytes of length, a JSON header, the data of all tensors. The library checks the header
against the file; the data is read here, as mapped pages count as memory of the process and NumPy has no bfloat16.
"""

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from .files import CheckpointError, check_regular, read_json

STORED_AS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
WRITTEN_AS = {"<f8": "F64", "<f4": "F32", "<f2": "F16", "<i8": "I64", "<i4": "I32"}
FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
MAX_AXES, MAX_SIZE = 8, 2**60  # far beyond any model's, and small enough for NumPy
MAX_HEADER = 2**22  # bytes, for some ten thousand tensors
CHECKED_AT_ONCE = 2**18  # elements


class Place(NamedTuple):
    """Where a tensor is stored."""

    path: Path
    dtype: str  # as the file calls it
    shape: tuple[int, ...]
    offset: int  # bytes


class Weights(Mapping[str, NDArray[np.floating]]):
    """The tensors in a folder by their published names, each read from its file when it is asked for.

    They have the dtype they are stored in, but bfloat16 becomes float32. Getting one raises CheckpointError if it
    cannot be read, is not a floating-point tensor, or is not finite.
    path: the file to name in errors; files: those with the tensors; unread: the names not asked for yet.
    """

    def __init__(self, folder: Path, dtype: type[np.floating] = np.float32) -> None:
        """Read the files' headers. dtype: for tensors stored in float64. Raises CheckpointError if one is not valid."""
        self._dtype = dtype
        self.path, self.files = _files(folder)
        self._places: dict[str, Place] = {}
        for path in self.files:
            for stored_name, place in read_header(path):
                if (name := published_name(stored_name)) in self._places:
                    raise CheckpointError(f"{path}: tensor {name} is here and in {self._places[name].path} too.")
                self._places[name] = place
        self.unread = set(self._places)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, name: str) -> NDArray[np.floating]:
        place = self._places[name]
        label = f"tensor {name} in {place.path.name}"
        self.unread.discard(name)
        if place.dtype not in STORED_AS:
            raise CheckpointError(f"{label} is {place.dtype}, needs {', '.join(STORED_AS)}. Save the model in float32.")
        tensor = read_floats(place)
        if place.dtype == "F64":
            with np.errstate(over="ignore"):
                tensor = tensor.astype(self._dtype, copy=False)
        blocks = (tensor.ravel()[i : i + CHECKED_AT_ONCE] for i in range(0, tensor.size, CHECKED_AT_ONCE))
        if not all(np.isfinite(block).all() for block in blocks):
            raise CheckpointError(f"{label} holds NaN or infinity in {tensor.dtype}. The weights are broken.")
        return tensor


@contextmanager
def open_tensors(path: str | PathLike[str], max_header: int = MAX_HEADER) -> Iterator[Any]:
    """safetensors.safe_open(). Raises OSError if the file cannot be read, ValueError if its header has more than
    max_header bytes, it is invalid, or lacks a tensor.
    """
    with open(path, "rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
    if length > max_header:
        raise ValueError(f"its header has {length:,} bytes; the limit is {max_header:,}")
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def read_floats(place: Place) -> NDArray[np.floating]:
    """A tensor of one of the dtypes in STORED_AS, bfloat16 as float32. Raises CheckpointError if it cannot be read."""
    size = math.prod(place.shape)
    try:
        tensor = np.fromfile(place.path, STORED_AS[place.dtype], size, offset=place.offset)
    except OSError as error:
        raise CheckpointError(f"{place.path.name} cannot be read any more ({error.strerror}).") from error
    if tensor.size < size:
        raise CheckpointError(f"{place.path.name} was cut while it was read.")
    if place.dtype == "BF16":  # the upper half of a float32
        tensor = (tensor.astype(np.uint32) << 16).view(np.float32)
    return tensor.reshape(place.shape)


def read_header(path: Path) -> Iterator[tuple[str, Place]]:
    """The name of every tensor in a safetensors file, and where it is. Raises CheckpointError if it is not valid."""
    try:
        check_regular(path)
        with open_tensors(path):  # it refuses a broken header, gaps in the data and a file of another length
            pass
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error}).") from error
    header.pop("__metadata__", None)
    for name, tensor in header.items():
        if name.endswith("embeddings.position_ids"):  # 0, 1, 2, ..., which transformers 4 once saved too
            continue
        try:
            dtype, shape, offset = tensor["dtype"], tuple(tensor["shape"]), tensor["data_offsets"][0]
        except TypeError:  # the library accepts a list in place of an object
            dtype = None
        if not isinstance(dtype, str) or len(shape) > MAX_AXES or math.prod(n or 1 for n in shape) > MAX_SIZE:
            raise CheckpointError(f"{path}: tensor {name} is {tensor!r:.80}, which is no tensor of a model.")
        yield name, Place(path, dtype, shape, 8 + length + offset)


def write_tensors(file: IO[bytes], tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, without a second copy of all tensors in memory. Their dtypes must be in WRITTEN_AS."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    by_size = sorted(tensors.items(), key=lambda item: -item[1].itemsize)  # so that each is aligned
    tensors = {name: tensor.astype(tensor.dtype.newbyteorder("<"), copy=False) for name, tensor in by_size}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": WRITTEN_AS[tensor.dtype.str], "shape": tensor.shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the data is aligned to 8 bytes, as the library writes it
    file.write(len(text).to_bytes(8, "little") + text)
    for tensor in tensors.values():
        file.write(np.ascontiguousarray(tensor).data)


def _files(folder: Path) -> tuple[Path, list[Path]]:
    """The file to name in errors, and those with the tensors: model.safetensors, or what its index names."""
    path, index = folder / FILE, folder / INDEX
    if os.path.lexists(path):
        return path, [path]
    if not os.path.lexists(index):
        raise CheckpointError(
            f"{path}: missing. Weights in pytorch_model.bin are a pickle, which can run code and is never read: "
            "convert it where transformers is installed, AutoModelForQuestionAnswering.from_pretrained(FOLDER)"
            ".save_pretrained(NEW_FOLDER)."
        )
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: weight_map is {weight_map!r:.80}, needs the name of a file for each tensor.")
    for name in weight_map.values():
        if not isinstance(name, str) or not re.fullmatch(r"[\w-][\w.-]*\.safetensors", name):
            raise CheckpointError(f"{index}: {name!r:.80} is not the name of a safetensors file in the same folder.")
    return index, [folder / name for name in dict.fromkeys(weight_map.values())]


def published_name(name: str) -> str:
    """The name of a tensor in the published checkpoint: with the prefix that an encoder saved alone lacks, and weight
    and bias for gamma and beta, the names in the first BERT's layer norms, which transformers 5.2.0 may save.
    """
    name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
    return f"distilbert.{name}" if name.startswith(("embeddings.", "transformer.")) else name
