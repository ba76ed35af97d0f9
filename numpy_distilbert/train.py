"""Training: the second step of distillation, on SQuAD, with the gradients of gradients.py.

A step takes a batch of windows, divided among the threads; each thread takes its own through the forward and backward
pass and adds up gradients of its own, which are summed in a fixed order. So the same seed gives the same weights on the
same number of threads (without threadpoolctl, of BLAS), however often the work was interrupted: what is random in a
step depends on its number alone.

Source: Sanh et al. 2019, section 3 ("a second step of distillation"), and the script of their SQuAD experiment.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from .arguments import Array, Ids, check_integer
from .checkpoint import Checkpoint, hub
from .checkpoint.tensors import FILE, INDEX, write_tensors
from .files import read_json, write_whole
from .gradients import Loss, Window, loss_and_gradient
from .model import DistilBertForQuestionAnswering
from .parameters import Parameters, state_dict, tree_leaves, tree_map
from .qa import QuestionAnswerer
from .runtime.threads import Team, balance, n_cores, threads
from .squad import Question
from .tokenizer import Encoding

PACK_TOKENS = 1024  # of about which a thread keeps all that is computed on the way forth
BETA1, BETA2, EPSILON, DECAY = 0.9, 0.999, 1e-8, 0.01
WARMUP, CLIP = 0.06, 1.0
CURVE = 100  # steps
STATE, ABOUT = "state.safetensors", "training.json"


class Settings(NamedTuple):
    """How to train.

    epochs: how often every window is seen; lr: the highest learning rate, reached after a warm-up and followed by a
    linear decay to 0; batch_tokens: of a step; dropout: its rate; freeze_words: leave the word embeddings as they are.
    """

    epochs: int = 1
    lr: float = 5e-5
    batch_tokens: int = 4096
    seed: int = 0
    alpha: float = 0.5
    temperature: float = 2.0
    dropout: float = 0.1
    freeze_words: bool = False

    def check(self) -> None:
        """Raises ValueError or TypeError that names the setting and what it must be."""
        for name in ("epochs", "batch_tokens"):
            check_integer(name, getattr(self, name), 1)
        check_integer("seed", self.seed, 0)
        for name, fits, needed in (
            ("lr", 0 < self.lr < math.inf, "more than 0"),
            ("alpha", 0 <= self.alpha <= 1, "from 0 to 1"),
            ("temperature", 0 < self.temperature < math.inf, "more than 0"),
            ("dropout", 0 <= self.dropout < 1, "from 0 to less than 1"),
        ):
            if not fits:
                raise ValueError(f"{name} must be {needed}, got {getattr(self, name):g}.")


def trainable(model: DistilBertForQuestionAnswering, freeze_words: bool) -> Parameters:
    """The parameters of a model that are trained: its own arrays, without those of the words if they are frozen.

    Word embeddings stored in float16 become the model's dtype first if they are trained.
    """
    embeddings = model.parameters.embeddings
    if freeze_words:
        none = embeddings._replace(word_embeddings=embeddings.word_embeddings[:0])
        return model.parameters._replace(embeddings=none)
    words = embeddings.word_embeddings.astype(model.dtype, copy=False)
    model.parameters = model.parameters._replace(embeddings=embeddings._replace(word_embeddings=words))
    return model.parameters


def training_windows(
    questions: Sequence[Question], qa: QuestionAnswerer
) -> tuple[list[Ids], list[tuple[int, int]], list[str]]:
    """What is trained with: the token ids of every window, and the tokens its answer starts and ends with.

    The answer is the first that people gave; a window that does not hold it has (0, 0), [CLS]. Returns the ids of
    questions whose answer does not stand in the context where it should, or in none of the windows, too. Those are left
    out.
    """
    windows: list[Ids] = []
    answers: list[tuple[int, int]] = []
    bad: list[str] = []
    for question in questions:
        text, start = question.answers[0], question.starts[0]
        if type(start) is not int or start < 0 or not text.strip() or not question.context.startswith(text, start):
            bad.append(question.id)
            continue
        start += len(text) - len(text.lstrip())
        end = start + len(text.strip())
        read = list(qa.windows(question.question, question.context, qa.options({})))
        found = [_answer_tokens(window, start, end) for window in read]
        if not any(found):
            bad.append(question.id)
            continue
        windows += [np.array(window.ids, np.int32) for window in read]
        answers += [tokens or (0, 0) for tokens in found]
    return windows, answers, bad


def _answer_tokens(window: Encoding, start: int, end: int) -> tuple[int, int] | None:
    """The first and the last token of these characters, if it holds both."""
    first = last = None
    for i, (sequence, (low, high)) in enumerate(zip(window.sequence_ids, window.offsets, strict=True)):
        if sequence != 1:
            continue
        if low <= start < high:
            first = i
        if low < end <= high:
            last = i
    return None if first is None or last is None else (first, last)


def with_teachers(
    windows: Sequence[Ids], answers: Sequence[tuple[int, int]], teachers: Sequence[Sequence[Array]]
) -> list[Window]:
    """What to train with; of several teachers the mean logits. teachers: of each, (2, tokens) for every window."""
    logits: list[Array | None] = [np.mean(of_window, axis=0) for of_window in zip(*teachers, strict=True)]
    return [Window(*one) for one in zip(windows, answers, logits or [None] * len(windows), strict=True)]


def batches(lengths: Sequence[int], settings: Settings) -> list[list[int]]:
    """The windows of every step, drawn without repetition in each epoch, as many as fit in batch_tokens."""
    plan: list[list[int]] = []
    for epoch in range(settings.epochs):
        held = settings.batch_tokens + 1
        for i in np.random.default_rng([settings.seed, epoch]).permutation(len(lengths)).tolist():
            if held + lengths[i] > settings.batch_tokens:
                plan.append([])
                held = 0
            plan[-1].append(i)
            held += lengths[i]
    return plan


class State:
    """Training under way: the parameters, the running means of AdamW, and the steps done."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.mean: Parameters = tree_map(np.zeros_like, parameters)
        self.square: Parameters = tree_map(np.zeros_like, parameters)
        self.losses: list[float] = []  # of every step done
        self.threads = n_cores()  # when it was begun

    def recent_loss(self) -> float:
        """The mean loss of the last CURVE steps."""
        return float(np.mean(self.losses[-CURVE:]))

    def curve(self) -> list[float]:
        """The mean loss of every CURVE steps, and of those since."""
        return [float(np.mean(self.losses[i : i + CURVE])) for i in range(0, len(self.losses), CURVE)]

    def save(self, path: Path, about: dict[str, Any]) -> None:
        """Write all of it, whole or not at all. about: what it must be gone on with."""
        tensors = {f"{name}.{i}": array for name, part in self._parts() for i, array in enumerate(tree_leaves(part))}
        metadata = {"about": json.dumps(about), "losses": json.dumps(self.losses), "threads": str(self.threads)}
        with write_whole(path, binary=True) as file:
            write_tensors(file, tensors, metadata)

    def load(self, path: Path, about: dict[str, Any]) -> None:
        """Go on from there, the parameters of the model included.

        Raises ValueError if it is of something else.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata()
                if json.loads(metadata["about"]) != about:
                    raise ValueError(
                        "it was made with other data or settings. Use another folder, or the same as before"
                    )
                for name, part in self._parts():
                    for i, array in enumerate(tree_leaves(part)):
                        tensor = file.get_tensor(f"{name}.{i}")
                        if tensor.shape != array.shape:
                            raise ValueError(f"{name}.{i} has shape {tensor.shape}, needs {array.shape}")
                        array[:] = tensor
                self.losses = json.loads(metadata["losses"])
                self.threads = int(metadata["threads"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: training cannot go on from it ({error}).") from error

    def _parts(self) -> list[tuple[str, Parameters]]:
        return [("parameters", self.parameters), ("mean", self.mean), ("square", self.square)]


def train(
    model: DistilBertForQuestionAnswering, windows: Sequence[Window], settings: Settings, state: State
) -> Iterator[tuple[int, int, int]]:
    """Train, one step for each item taken: (steps done, steps in all, its tokens).

    state: where to begin; it goes along. Raises ValueError when the loss is not finite.
    """
    lengths = [len(window.ids) for window in windows]
    plan = batches(lengths, settings)
    gradients: list[Parameters] = []
    while (step := len(state.losses)) < len(plan):
        batch = plan[step]
        tokens = sum(lengths[i] for i in batch)
        with threads(model.config.dim * tokens) as team:
            while len(gradients) < team.n_threads:
                gradients.append(tree_map(np.zeros_like, state.parameters))
            loss = add_gradients(model, [windows[i] for i in batch], settings, step, gradients, team)
            if not math.isfinite(loss):
                raise ValueError(f"the loss of step {step} is not finite. Lower the learning rate.")
            adamw(state, gradients, learning_rate(step, len(plan), settings.lr), team)
        state.losses.append(loss)
        yield step + 1, len(plan), tokens


def add_gradients(
    model: DistilBertForQuestionAnswering,
    batch: Sequence[Window],
    settings: Settings,
    step: int,
    gradients: list[Parameters],
    team: Team,
) -> float:
    """The mean loss of a batch. Each thread adds the gradient of its share to its own of gradients."""
    shares = balance([len(window.ids) for window in batch], team.n_threads)
    loss = Loss(settings.alpha, settings.temperature)
    losses = [0.0] * team.n_threads

    def add(number: int) -> None:
        share = [batch[i] for i in shares[number]]
        lengths = [len(window.ids) for window in share]
        for i, pack in enumerate(balance(lengths, math.ceil(sum(lengths) / PACK_TOKENS))):
            random = np.random.default_rng([settings.seed, step, number, i])
            with np.errstate(over="ignore", invalid="ignore"):  # shows in the loss
                losses[number] += loss_and_gradient(
                    model, [share[k] for k in pack], loss, gradients[number], settings.dropout, random, 1 / len(batch)
                )

    team.run(add, range(team.n_threads))
    return sum(losses)


def learning_rate(step: int, steps: int, highest: float) -> float:
    """Linear warm-up over the first WARMUP of the steps, then linear decay to 0."""
    warmup = max(1, int(WARMUP * steps))
    return highest * min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))


def adamw(state: State, gradients: list[Parameters], lr: float, team: Team) -> None:
    """One step of AdamW on the sum of the gradients, cut to norm CLIP; weight decay on matrices and tables alone.

    m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, p -= lr (m' / (sqrt(v') + eps) + decay p), where m' and v' are m and
    v divided by 1 - b^t. The gradients are 0 afterwards. Raises ValueError if they are not finite.
    Source: Loshchilov and Hutter 2019, algorithm 2.
    """
    step = len(state.losses) + 1
    parts = list(
        zip(*(tree_leaves(part) for part in (state.parameters, state.mean, state.square, *gradients)), strict=True)
    )
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


def write_logits(path: str | PathLike[str], windows: Sequence[Ids], logits: Iterable[tuple[Array, Array]]) -> None:
    """Write a teacher's file, as docs/teachers.md describes it. logits: of each window, start and end, each (tokens,).

    Raises ValueError, before any logits are taken, if it cannot stand there.
    """
    with write_whole(path, binary=True) as file:
        start, end = (np.concatenate(part).astype(np.float32) for part in zip(*logits, strict=True))
        lengths = np.array([len(window) for window in windows], np.int64)
        tensors: dict[str, NDArray[Any]] = {"start_logits": start, "end_logits": end, "lengths": lengths}
        write_tensors(file, tensors, {"tokens_sha256": integers_sha256(windows)})


def read_logits(path: str | PathLike[str], windows: Sequence[Ids]) -> list[Array]:
    """A teacher's logits for each window, (2, tokens) float32. Raises ValueError if they are of other windows."""
    try:
        with safe_open(path, framework="numpy") as file:
            lengths, start, end = (file.get_tensor(name) for name in ("lengths", "start_logits", "end_logits"))
            digest = (file.metadata() or {}).get("tokens_sha256")
    # the last two for dtypes that NumPy does not have
    except (OSError, SafetensorError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a readable file of logits ({error}).") from error
    if lengths.tolist() != [len(window) for window in windows] or digest not in (None, integers_sha256(windows)):
        raise ValueError(
            f"{path}: not of these questions, or cut into tokens otherwise. "
            "Write it with the same file, --limit and model."
        )
    total = sum(map(len, windows))
    with np.errstate(over="ignore"):
        both = [logits.astype(np.float32) for logits in (start, end)]
    for given, logits in zip((start, end), both, strict=True):
        if given.dtype.kind != "f" or given.shape != (total,) or not np.isfinite(logits).all():
            raise ValueError(f"{path}: start_logits and end_logits need a finite float32 for each of {total} tokens.")
    return np.split(np.stack(both), np.cumsum([len(window) for window in windows])[:-1], axis=1)


def integers_sha256(rows: Sequence[Ids]) -> str:
    """Of the token ids of all windows, or the places of all answers, as int32."""
    return hashlib.sha256(np.concatenate(rows).astype("<i4").tobytes()).hexdigest()


def is_trained(folder: Path, about: dict[str, Any]) -> bool:
    """Whether it holds the model that this training ends in. Raises ValueError if it holds another."""
    if not any((folder / name).exists() for name in (FILE, INDEX)):
        return False
    trained = read_json(folder / ABOUT) if (folder / ABOUT).exists() else None
    if not isinstance(trained, dict) or not trained.items() >= about.items():
        raise ValueError(f"{folder}: holds a model already. Choose another folder with --out.")
    return True


def clear_up(folder: Path) -> None:
    """Remove what training needed, and what it left of files when it was killed."""
    for leftover in folder.glob("[0-9a-f]" * 16 + ".part"):  # of files.write_whole
        leftover.unlink()
    (folder / STATE).unlink(missing_ok=True)


def write_checkpoint(
    folder: Path, model: DistilBertForQuestionAnswering, source: Checkpoint, about: dict[str, Any]
) -> None:
    """Write the model beside copies of the other files of the checkpoint it came from, each whole or not at all.

    Weights are stored under their published names, as float16 if they were there, else float32.
    Raises ValueError, before anything is written, if they are not finite as that.
    """
    dtype = next(iter(source.weights().values())).dtype
    with np.errstate(over="ignore"):
        tensors = {
            name: np.ascontiguousarray(tensor, dtype)
            for name, tensor in state_dict(model.parameters, model.config).items()
        }
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise ValueError(f"tensor {name} has become too large for {dtype}. Lower the learning rate.")
    for name in hub.FETCHED:
        if (source.folder / name).is_file() and not name.startswith("model"):
            with write_whole(folder / name, binary=True) as file:
                file.write((source.folder / name).read_bytes())
    with write_whole(folder / ABOUT) as file:
        json.dump(about, file, indent=1)
    with write_whole(folder / FILE, binary=True) as file:
        write_tensors(file, tensors, {"format": "pt"})
