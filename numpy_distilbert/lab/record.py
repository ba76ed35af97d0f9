"""Record the activations of a forward pass over one question and its context.

A recording is a safetensors file of tensors under the names of the checkpoint's modules: NAME is the output of the
module of that name, NAME.input its input. Attention also has its scores, (batch, heads, queries, keys), scaled but
before the softmax, its probabilities and its context. Metadata holds the names in the order of computation ("order"),
the text, its tokens and their offsets, the configuration, the weights' sha256, and versions.
"""

import json
import platform
from dataclasses import asdict
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from .. import __version__
from ..checkpoint import Checkpoint
from ..checkpoint.tensors import STORED_AS, open_tensors, read_floats, read_header, write_tensors
from ..files import write_whole
from ..model import DistilBertForQuestionAnswering, Tensors
from ..parameters import Config
from ..tokenizer import Encoding, Tokenizer


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


def read_recording(path: str | PathLike[str]) -> Tensors:
    """The tensors in a .safetensors or .npz file, in the order in which they were computed, if that is recorded.

    Raises ValueError if it cannot be read, or holds a tensor that is not numeric.
    """
    try:
        if Path(path).suffix == ".npz":
            with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                tensors = {name: file[name] for name in file.files}
        else:
            places = dict(read_header(Path(path)))
            with open_tensors(path) as file:
                order = json.loads((file.metadata() or {}).get("order", "[]"))
                stored = {name: places[name] for name in [*order, *sorted(places)] if name in places}
                tensors = {n: read_floats(p) if p.dtype in STORED_AS else file.get_tensor(n) for n, p in stored.items()}
    except Exception as error:  # a broken zip file alone raises a dozen kinds
        raise ValueError(f"{path}: not a readable .safetensors or .npz file ({error}).") from error
    for name, tensor in tensors.items():
        if tensor.dtype.kind not in "biuf":
            raise ValueError(f"{path}: {name} is {tensor.dtype}, needs numbers.")
    return tensors
