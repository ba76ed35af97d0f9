"""distill."""

import argparse
import json
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from .. import squad
from ..arguments import check_integer
from ..checkpoint import Checkpoint, hub
from ..files import write_whole
from ..qa import QuestionAnswerer
from ..runtime.threads import n_cores
from ..training import data
from ..training.calibration import calibrate
from ..training.loop import train, trainable
from ..training.optimiser import CURVE, State
from ..training.output import CALIBRATION, STATE, is_trained, other_files, remove_leftovers, write_checkpoint
from .evaluating import predict, read_squad
from .terminal import (
    MODEL_HELP,
    Result,
    Verbs,
    add_verb,
    clear_bar,
    clock,
    draw_bar,
    on_terminal,
    printable,
    progress,
    warn,
)


def add_verbs(verbs: Verbs) -> None:
    """Add the verb distill."""
    example = "train-v1.1.json.gz --out model"
    verb = add_verb(verbs, "distill", _distill, "train a model on SQuAD", example, {143: "stopped by SIGTERM"})
    verb.add_argument("file", metavar="TRAIN.json", help="a SQuAD v1.1 file, JSON or gzipped JSON")
    verb.add_argument("--init", metavar="MODEL", help=f"the model to train, or to write the logits of: {MODEL_HELP}")
    out = verb.add_mutually_exclusive_group(required=True)
    out.add_argument("--out", metavar="DIR", help="the folder for the new checkpoint")
    out.add_argument("--write-logits", metavar="OUT.safetensors", help="write the logits of --init, and do not train")
    teacher = "logits to learn from, made by --write-logits or another framework; of several files, the mean"
    verb.add_argument("--teacher", metavar="LOGITS", nargs="+", default=[], help=teacher)
    verb.add_argument("--limit", metavar="N", type=int, help="use only N questions, spread evenly over the file")
    held_out = "train without the last N articles, at most a tenth, and calibrate scores on them (default: %(default)s)"
    verb.add_argument("--held-out", metavar="N", type=int, default=20, help=held_out)
    verb.add_argument("--eval", metavar="DEV.json", help="evaluate on this SQuAD file at the end")
    verb.add_argument("--save-every", metavar="N", type=int, default=100, help="save every N steps (default: 100)")
    verb.add_argument("--freeze-words", action="store_true", help="do not train the word embeddings")
    for name, kind, meaning in (
        ("alpha", float, "share of the teacher in the loss, from 0 to 1"),
        ("temperature", float, "divide logits by X in the teacher's share of the loss"),
        ("epochs", int, "train on every window N times"),
        ("lr", float, "highest learning rate"),
        ("batch-tokens", int, "tokens per step, at most"),
        ("dropout", float, "dropout rate, from 0 to less than 1"),
        ("negatives", float, "windows without the answer to add, as a share of the others: 0.5 adds one for every two"),
        ("seed", int, "seed of the order, dropout and negatives"),
    ):
        default = data.Hyperparameters._field_defaults[name.replace("-", "_")]
        metavar, help_text = "N" if kind is int else "X", f"{meaning} (default: %(default)s)"
        verb.add_argument(f"--{name}", metavar=metavar, type=kind, default=default, help=help_text)


def _distill(arguments: argparse.Namespace) -> Result:
    """Train a model on SQuAD v1.1, with the logits of a teacher if --teacher is given. After Ctrl-C, SIGTERM or a
    crash, run the same command to continue. With --write-logits, write a teacher's logits instead.
    """
    hyperparameters = data.Hyperparameters(*(getattr(arguments, name) for name in data.Hyperparameters._fields))
    hyperparameters.check()
    check_integer("--save-every", arguments.save_every, 1)
    check_integer("--held-out", arguments.held_out, 0)
    if arguments.limit is not None:
        check_integer("--limit", arguments.limit, 1)
    if arguments.write_logits is not None and (arguments.teacher or arguments.eval is not None):
        raise ValueError("--write-logits does not train. Leave --teacher and --eval out.")
    evaluated = [] if arguments.eval is None else read_squad(arguments.eval)
    source = Checkpoint(arguments.init)
    if arguments.out is not None:
        other_files(source)  # or says why they cannot be copied at the end
    qa = QuestionAnswerer.from_pretrained(source)
    left_out: list[str] = []
    questions, held_out = data.hold_out(read_squad(arguments.file, left_out), arguments.held_out)
    questions = data.spread(questions, arguments.limit)
    ids, answers, misplaced = data.training_windows(questions, qa)
    if left_out or misplaced:
        blank = f"{len(left_out)} questions of the file are blank or have no answer"
        warn(f"{blank}, {len(misplaced)} answers are not in their context or too long for a window.")
    if not ids:
        raise ValueError(f"{arguments.file}: holds no question to train with.")
    if arguments.write_logits is not None:
        logits = (pair for first in range(0, len(ids), 64) for pair in qa.logits(ids[first : first + 64]))
        data.write_logits(arguments.write_logits, ids, progress(logits, len(ids)))
        return printable(f"logits of {len(ids)} windows in {arguments.write_logits}"), 0
    windows = data.with_teachers(ids, answers, [data.read_logits(path, ids) for path in arguments.teacher])
    negatives = data.negative_windows(questions, qa, round(arguments.negatives * len(ids)), arguments.seed)
    if arguments.negatives and not negatives:
        raise ValueError(f"{arguments.file}: has no passage without the answer for --negatives. Leave it out.")
    windows += [data.Example(window, (0, 0)) for window in negatives]
    about = hyperparameters._asdict() | {
        "questions": len(questions) - len(misplaced),
        "held_out": len(held_out),
        "tokens_sha256": data.integers_sha256([window.ids for window in windows]),
        "answers_sha256": data.integers_sha256([np.array(window.answer) for window in windows]),
        "init_sha256": list(source.sha256.values()),
        "teacher_sha256": [hub.sha256(Path(path)) for path in arguments.teacher],
    }
    folder = Path(arguments.out)
    if not is_trained(folder, about):
        stopped = _train(qa, windows, hyperparameters, folder, source, about, arguments.save_every)
        if stopped:
            return stopped
    if held_out and not (folder / CALIBRATION).exists():
        calibration = calibrate(QuestionAnswerer.from_pretrained(folder), held_out, arguments.seed)
        with write_whole(folder / CALIBRATION) as file:
            json.dump(calibration._asdict(), file)
    remove_leftovers(folder)
    if not evaluated:
        return printable(str(folder)), 0
    scores = squad.score(evaluated, predict(evaluated, folder))
    figures = f"exact match {scores.exact_match:.2f}, F1 {scores.f1:.2f} of {scores.total} questions"
    return printable(f"{folder}: {figures}"), 0


def _train(
    qa: QuestionAnswerer,
    windows: list[data.Example],
    hyperparameters: data.Hyperparameters,
    folder: Path,
    source: Checkpoint,
    about: dict[str, Any],
    save_every: int,
) -> Result | None:
    """Train, and write the checkpoint. Stops early at a signal: then returns the verb's result. The state is
    saved at the beginning, after every save_every steps and at a signal.
    """
    path = folder / STATE
    state = State(trainable(qa.model, hyperparameters.freeze_words))
    _load_or_save(state, path, about)
    caught: list[int] = []

    def catch(number: int, _: Any) -> None:
        caught.append(number)
        clear_bar()
        warn("stops after this step, and saves.")

    before = {number: signal.signal(number, catch) for number in (signal.SIGTERM, signal.SIGINT)}
    start, tokens, first = time.monotonic(), 0, len(state.losses)
    try:
        for done, steps, n_tokens in train(qa.model, windows, hyperparameters, state):
            tokens += n_tokens
            seconds = time.monotonic() - start
            left = clock(seconds / (done - first) * (steps - done))
            loss, speed = state.recent_loss(), tokens / seconds
            line = f"{done} of {steps} steps, loss {loss:.3f}, {speed:.0f} tokens a second, {left} left"
            draw_bar(done, steps, line)
            if done % CURVE == 0 and not on_terminal():
                warn(line)
            if caught or done % save_every == 0:
                state.save(path, about)
            if caught:
                saved = f"stopped after step {done}, saved in {path}. Run the same command to resume."
                return printable(saved), 128 + caught[0]
        write_checkpoint(folder, qa.model, source, about | {"loss_of_100_steps": state.curve()})
        if caught:
            done_all = f"stopped after the last step, the model is in {folder}"
            return printable(f"{done_all}. Run the same command to resume."), 128 + caught[0]
    finally:
        clear_bar()
        for number, handler in before.items():
            signal.signal(number, handler)
    return None


def _load_or_save(state: State, path: Path, about: dict[str, Any]) -> None:
    """Resume from the state at path, or save the first one there."""
    if path.exists():
        state.load(path, about)
        if state.threads != n_cores():
            change = f"begun on {state.threads} threads, resumed on {n_cores()}"
            warn(f"{change}: the weights will differ in their last digits.")
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{path.parent}: cannot be made ({error.strerror}).") from error
    state.save(path, about)
