"""AdamW, its learning rate, and the state of training, which can be saved and resumed."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import Array
from ..checkpoint.tensors import open_tensors, write_tensors
from ..files import write_whole
from ..parameters import Parameters, tree_leaves, tree_map
from ..runtime.threads import Team, n_cores

BETA1, BETA2, EPSILON, DECAY = 0.9, 0.999, 1e-8, 0.01
WARMUP, CLIP = 0.06, 1.0
CURVE = 100  # steps
MAX_STATE_HEADER = 10**8  # bytes, which the library allows: the losses of all steps are in it


class State:
    """What training resumes from: the parameters, the running means of AdamW, and the losses of the steps done."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.mean: Parameters = tree_map(np.zeros_like, parameters)
        self.square: Parameters = tree_map(np.zeros_like, parameters)
        self.losses: list[float] = []  # of every step done
        self.threads = n_cores()  # when training began

    def recent_loss(self) -> float:
        """The mean loss of the last CURVE steps."""
        return float(np.mean(self.losses[-CURVE:]))

    def curve(self) -> list[float]:
        """The mean loss of every CURVE steps, and of the remaining ones."""
        return [float(np.mean(self.losses[i : i + CURVE])) for i in range(0, len(self.losses), CURVE)]

    def save(self, path: Path, about: dict[str, Any]) -> None:
        """Write the state, whole or not at all. about: the data and settings it may be resumed with."""
        metadata = {"about": json.dumps(about), "losses": json.dumps(self.losses), "threads": str(self.threads)}
        with write_whole(path, binary=True) as file:
            write_tensors(file, self._tensors(), metadata)

    def load(self, path: Path, about: dict[str, Any]) -> None:
        """Resume from a file that save() wrote, the model's parameters included. Raises ValueError if it cannot."""
        try:
            with open_tensors(path, MAX_STATE_HEADER) as file:
                metadata = file.metadata()
                if json.loads(metadata["about"]) != about:
                    problem = "it was made with other data or settings"
                    raise ValueError(f"{problem}. Use another folder, or the same as before")
                for name, array in self._tensors().items():
                    tensor = file.get_tensor(name)
                    if (tensor.shape, tensor.dtype) != (array.shape, array.dtype):
                        needed = f"{array.shape} {array.dtype}"
                        raise ValueError(f"{name} is {tensor.shape} {tensor.dtype}, needs {needed}")
                    if not np.isfinite(tensor).all() or (name.startswith("square") and tensor.min(initial=0) < 0):
                        raise ValueError(f"{name} holds a number that training cannot have written")
                    array[:] = tensor
                self.losses, self.threads = json.loads(metadata["losses"]), int(metadata["threads"])
                if not isinstance(self.losses, list) or not all(isinstance(loss, float) for loss in self.losses):
                    raise ValueError("losses must be a list of numbers")
        except (OSError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise ValueError(f"{path}: training cannot resume from it ({error}).") from error

    def _tensors(self) -> dict[str, Array]:
        trees = {"parameters": self.parameters, "mean": self.mean, "square": self.square}
        return {f"{name}.{i}": array for name, tree in trees.items() for i, array in enumerate(tree_leaves(tree))}


def learning_rate(step: int, steps: int, highest: float) -> float:
    """Linear warm-up over the first WARMUP of the steps, then linear decay to 0."""
    warmup = max(1, int(WARMUP * steps))
    return highest * min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))


def adamw(state: State, gradients: list[Parameters], lr: float, team: Team) -> None:
    """One step of AdamW on the sum of the gradients, clipped to norm CLIP; weight decay on matrices and tables alone.

    m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, p -= lr (m' / (sqrt(v') + eps) + decay p), where m' and v' are m and
    v divided by 1 - b^t. The gradients are set to 0. Raises ValueError if they are not finite.
    Source: Loshchilov and Hutter 2019, algorithm 2.
    """
    step = len(state.losses) + 1
    parts = list(zip(*map(tree_leaves, (state.parameters, state.mean, state.square, *gradients)), strict=True))
    squares = [0.0] * len(parts)

    def add_up(number: int) -> None:
        first, *others = parts[number][3:]
        for other in others:
            np.add(first, other, out=first)
        squares[number] = float(np.vdot(first, first))

    def update(number: int) -> None:
        p, m, v, g, *others = parts[number]
        g *= scale
        m *= BETA1
        m += (1 - BETA1) * g
        g *= g
        v *= BETA2
        g *= 1 - BETA2
        v += g
        change = np.sqrt(v / (1 - BETA2**step), out=g)
        change += EPSILON
        np.divide(m, change, out=change)
        change *= lr / (1 - BETA1**step)
        if p.ndim > 1:
            p *= 1 - lr * DECAY
        p -= change
        for gradient in (g, *others):
            gradient[:] = 0

    team.run(add_up, range(len(parts)))
    norm = math.sqrt(sum(squares))
    if not math.isfinite(norm):
        raise ValueError(f"the gradient of step {step - 1} is not finite. Lower the learning rate.")
    scale = min(1.0, CLIP / (norm + 1e-6))
    team.run(update, range(len(parts)))
