"""The second step of distillation, on SQuAD, with the gradients of gradients.py.

A step takes a batch of windows, divided among the threads; each thread takes its own through the forward and backward
pass and adds up gradients of its own, which are summed in a fixed order. So the same seed gives the same weights on the
same number of threads (without threadpoolctl, of BLAS), however often the work was interrupted: what is random in a
step depends on its number alone.

Source: Sanh et al. 2019, section 3 ("a second step of distillation"), and the script of their SQuAD experiment.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ..model import DistilBertForQuestionAnswering
from ..parameters import Parameters, tree_map
from ..runtime.threads import Team, balance, threads
from .data import Example, batches
from .gradients import loss_and_gradient
from .hyperparameters import Hyperparameters
from .loss import Loss
from .optimiser import State, adamw, learning_rate

PASS_TOKENS = 1024  # of about which a thread keeps all that is computed on the way forth


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


def train(
    model: DistilBertForQuestionAnswering, windows: Sequence[Example], settings: Hyperparameters, state: State
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
    batch: Sequence[Example],
    settings: Hyperparameters,
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
        for i, pack in enumerate(balance(lengths, math.ceil(sum(lengths) / PASS_TOKENS))):
            random = np.random.default_rng([settings.seed, step, number, i])
            with np.errstate(over="ignore", invalid="ignore"):  # shows in the loss
                losses[number] += loss_and_gradient(
                    model, [share[k] for k in pack], loss, gradients[number], settings.dropout, random, 1 / len(batch)
                )

    team.run(add, range(team.n_threads))
    return sum(losses)
