"""The folder that training writes: its state while it runs, then the checkpoint."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoint import Checkpoint, hub
from ..checkpoint.files import check_inside, read_bytes
from ..checkpoint.tensors import FILE, INDEX, write_tensors
from ..files import read_json, write_whole
from ..model import DistilBertForQuestionAnswering
from ..parameters import state_dict

STATE, ABOUT, CALIBRATION = "state.safetensors", "training.json", "calibration.json"


def is_trained(folder: Path, about: dict[str, Any]) -> bool:
    """Whether the folder holds the model trained with these settings. Raises ValueError if it holds another model."""
    if not any((folder / name).exists() for name in (FILE, INDEX)):
        return False
    trained = read_json(folder / ABOUT) if (folder / ABOUT).exists() else None
    if not isinstance(trained, dict) or not trained.items() >= about.items():
        raise ValueError(f"{folder}: holds a model already. Choose another folder with --out.")
    return True


def remove_leftovers(folder: Path) -> None:
    """Remove the state of training, and partly written files of runs that were killed."""
    for leftover in folder.glob("[0-9a-f]" * 16 + ".part"):  # see files.write_whole()
        leftover.unlink()
    (folder / STATE).unlink(missing_ok=True)


def other_files(source: Checkpoint) -> list[Path]:
    """The files of a checkpoint to copy beside new weights: not its calibration or card, which fit the old ones.

    Raises CheckpointError, see check_inside().
    """
    paths = [source.folder / name for name in hub.FETCHED if not name.startswith(("model", CALIBRATION, "README"))]
    return [check_inside(path, source.folder) for path in paths if path.is_file()]


def write_checkpoint(
    folder: Path, model: DistilBertForQuestionAnswering, source: Checkpoint, about: dict[str, Any]
) -> None:
    """Write the model and copies of the other files of the checkpoint it came from, each whole or not at all.

    Weights are stored under their published names, in float16 if those of source are, else in float32.
    Raises ValueError, before anything is written, if they are not finite in that dtype.
    """
    dtype, weights = next(iter(source.weights().values())).dtype, state_dict(model.parameters, model.config)
    with np.errstate(over="ignore"):
        tensors = {name: np.ascontiguousarray(tensor, dtype) for name, tensor in weights.items()}
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise ValueError(f"tensor {name} has become too large for {dtype}. Lower the learning rate.")
    for path in other_files(source):
        with write_whole(folder / path.name, binary=True) as file:
            file.write(read_bytes(path))
    with write_whole(folder / ABOUT) as file:
        json.dump(about, file, indent=1)
    with write_whole(folder / FILE, binary=True) as file:
        write_tensors(file, tensors, {"format": "pt"})
