"""Record the activations of a forward pass over one question and its context.

A recording is a safetensors file of tensors under the names of the checkpoint's modules: NAME is the output of the
module of that name, NAME.input its input. Attention also has its scores, (batch, heads, queries, keys), scaled but
before the softmax, its probabilities and its context. Metadata holds the names in the order of computation ("order"),
the text, its tokens and their offsets, the configuration, the weights' sha256, and versions.
"""

import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .. import __version__
from ..checkpoint import Checkpoint
from ..checkpoint.files import check_regular
from ..checkpoint.tensors import STORED_AS, open_tensors, read_floats, read_header, write_tensors
from ..files import write_whole
from ..model import DistilBertForQuestionAnswering, Tensors
from ..parameters import Config
from ..tokenizer import Encoding, Tokenizer

MAX_TENSOR = 2**28  # bytes of one in an .npz, which is compressed: ten times the largest of 512 tokens


def record(
    question: str, context: str, checkpoint: Checkpoint, dtype: DTypeLike = "float32"
) -> tuple[Tensors, dict[str, str]]:
    """A model's activations on a question and context, and the metadata of a recording. Raises as one_window() does."""
    model = DistilBertForQuestionAnswering.from_pretrained(checkpoint, dtype=dtype)
    encoding = one_window(question, context, Tokenizer.from_pretrained(checkpoint), model.config)
    tensors = model([encoding.ids], output_tensors=True).tensors or {}
    about = {
        "tokens": encoding.tokens,
        "offsets": encoding.offsets,
        "sequence_ids": encoding.sequence_ids,
        "config": asdict(model.config),
        "sha256": checkpoint.sha256,
        "versions": {"numpy_distilbert": __version__, "numpy": np.__version__, "python": platform.python_version()},
        "order": list(tensors),
    }
    texts = {"question": question, "context": context}
    return tensors, texts | {name: json.dumps(value) for name, value in about.items()}


def one_window(question: str, context: str, tokenizer: Tokenizer, config: Config) -> Encoding:
    """Question and context in one window. Raises ValueError if they have more tokens than the model has positions."""
    encoding, positions = tokenizer(question, context), config.max_position_embeddings
    if len(encoding) > positions:
        counts = f"question and context have {len(encoding)} tokens, the model has {positions} positions"
        raise ValueError(f"{counts}. Shorten the context.")
    return encoding


def write_recording(path: str | PathLike[str], tensors: Tensors, metadata: dict[str, str]) -> None:
    """Write a recording. Raises ValueError if path does not end in .safetensors, else as write_whole()."""
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"{path}: a recording is a .safetensors file. Use a file name ending in .safetensors.")
    with write_whole(path, binary=True) as file:
        write_tensors(file, tensors, metadata)


class Recording(Mapping[str, NDArray[Any]]):
    """The tensors in a .safetensors or .npz file, in the order in which they were computed, if that is recorded.

    Each is read when it is asked for. Raises ValueError if the file or a tensor cannot be read, or is not numeric.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self._path = Path(path)
        with self._readable():
            check_regular(self._path)
            with open(self._path, "rb") as opened:
                if not opened.read(1):
                    raise EOFError("it is empty")
            if self._path.suffix == ".npz":
                with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as npz:
                    self._names: dict[str, Any] = dict.fromkeys(npz.files)
            else:
                places = dict(read_header(self._path))
                with open_tensors(path) as file:
                    order = json.loads((file.metadata() or {}).get("order", "[]"))
                self._names = {name: places[name] for name in [*order, *sorted(places)] if name in places}

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:  # Mapping's would read the tensor
        return name in self._names

    def __getitem__(self, name: str) -> NDArray[Any]:
        place = self._names[name]
        with self._readable():
            if place is None:
                with open(self._path, "rb") as opened, np.load(opened, allow_pickle=False) as npz:
                    size = npz.zip.getinfo(f"{name}.npy").file_size
                    if size > MAX_TENSOR:
                        raise ValueError(f"{name} has {size:,} bytes; the limit is {MAX_TENSOR:,}")
                    tensor: NDArray[Any] = npz[name]
            elif place.dtype in STORED_AS:
                tensor = read_floats(place)
            else:
                with open_tensors(self._path) as file:
                    tensor = file.get_tensor(name)
        if tensor.dtype.kind not in "biuf":
            raise ValueError(f"{self._path}: {name} is {tensor.dtype}, needs numbers.")
        return tensor

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except MemoryError:
            raise
        except Exception as error:  # a broken zip file alone raises a dozen kinds
            raise ValueError(f"{self._path}: not a readable .safetensors or .npz file ({error}).") from error
