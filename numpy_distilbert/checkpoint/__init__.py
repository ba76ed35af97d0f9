"""Checkpoints on disk: found by name, their files checked and read, each tensor only when it is asked for."""

from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from . import hub
from .files import CheckpointError, read_calibration, read_json, read_tokenizer
from .tensors import Weights

__all__ = ["Checkpoint", "CheckpointError"]


class Checkpoint:
    """A folder with the files of a checkpoint. A model and its tokenizer may be loaded from the same Checkpoint."""

    def __init__(self, path: "str | PathLike[str] | Checkpoint | None" = None, revision: str | None = None) -> None:
        """path, revision: see hub.find(), also for what is raised; path may be a Checkpoint, which is used as it is."""
        if isinstance(path, Checkpoint) and revision is not None:
            raise ValueError(f"revision must be None, got {revision!r}: the checkpoint is found already.")
        self.folder: Path = path.folder if isinstance(path, Checkpoint) else hub.find(path, revision)

    def __repr__(self) -> str:
        return f"Checkpoint({str(self.folder)!r})"

    @cached_property
    def config(self) -> dict[str, Any]:
        """The object in config.json. Raises CheckpointError if it cannot be read."""
        return read_json(self.folder / "config.json")

    def weights(self, dtype: type[np.floating] = np.float32) -> Weights:
        """The tensors by their published names, none wider than dtype. Raises CheckpointError, see Weights."""
        return Weights(self.folder, dtype)

    @property
    def tokenizer(self) -> tuple[Path, dict[str, Any]]:
        """The file that holds the vocabulary, and the arguments for Tokenizer; see files.read_tokenizer()."""
        return read_tokenizer(self.folder)

    @property
    def calibration(self) -> dict[str, float]:
        """The arguments for documents.Calibration, if it has any; see files.read_calibration()."""
        return read_calibration(self.folder)

    @cached_property
    def sha256(self) -> dict[str, str]:
        """The hexadecimal digest of each weights file, by its name. Raises CheckpointError if there is none."""
        return {path.name: hub.sha256(path) for path in self.weights().files}
