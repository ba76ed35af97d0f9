"""The training loop of distillation on SQuAD.

Each thread runs the forward and backward passes of its windows of a batch and adds up their gradients, which are then
summed in a fixed order; randomness depends on the seed and the number of the step. So the same seed gives the same
weights on the same number of threads (without threadpoolctl, BLAS threads), however often training was interrupted.
Source: Sanh et al. 2019, section 3 ("a second step of distillation"), and the script of their SQuAD experiment.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ..model import DistilBertForQuestionAnswering
from ..parameters import Parameters, tree_map
from ..runtime.threads import Team, balance, threads
from .data import Example, Hyperparameters, batches
from .gradients import loss_and_gradient
from .loss import Loss
from .optimiser import State, adamw, learning_rate

PASS_TOKENS = 1024  # about as many tokens go through a forward and backward pass at once: activations take memory


def trainable(model: DistilBertForQuestionAnswering, freeze_words: bool) -> Parameters:
    """The parameters of a model to be updated in place, with no rows of word embeddings if they are frozen.

    If they are not, word embeddings stored in float16 are converted to the model's dtype.
    """
    embeddings, words = model.parameters.embeddings, model.parameters.embeddings.word_embeddings
    words = words[:0] if freeze_words else words.astype(model.dtype, copy=False)
    parameters = model.parameters._replace(embeddings=embeddings._replace(word_embeddings=words))
    if not freeze_words:
        model.parameters = parameters
    return parameters


def train(
    model: DistilBertForQuestionAnswering, windows: Sequence[Example], hyperparameters: Hyperparameters, state: State
) -> Iterator[tuple[int, int, int]]:
    """Train, and yield after each step: (steps done, steps in all, its tokens). state: where to begin; updated in
    every step. Raises ValueError if the loss is not finite.
    """
    lengths = [len(window.ids) for window in windows]
    plan = batches(lengths, hyperparameters)
    gradients: list[Parameters] = []
    while (step := len(state.losses)) < len(plan):
        batch = plan[step]
        tokens = sum(lengths[i] for i in batch)
        with threads() as team:
            while len(gradients) < team.n_threads:
                gradients.append(tree_map(np.zeros_like, state.parameters))
            loss = add_gradients(model, [windows[i] for i in batch], hyperparameters, step, gradients, team)
            if not math.isfinite(loss):
                raise ValueError(f"the loss of step {step} is not finite. Lower the learning rate.")
            adamw(state, gradients, learning_rate(step, len(plan), hyperparameters.lr), team)
        state.losses.append(loss)
        yield step + 1, len(plan), tokens


def add_gradients(
    model: DistilBertForQuestionAnswering,
    batch: Sequence[Example],
    hyperparameters: Hyperparameters,
    step: int,
    gradients: list[Parameters],
    team: Team,
) -> float:
    """The mean loss of a batch. Thread i adds the gradient of its windows to gradients[i]."""
    loss, losses = Loss(hyperparameters.alpha, hyperparameters.temperature), [0.0] * team.n_threads
    parts = balance([len(window.ids) for window in batch], team.n_threads)

    def add(thread: int) -> None:
        windows = [batch[i] for i in parts[thread]]
        lengths, gradient = [len(window.ids) for window in windows], gradients[thread]
        for i, indices in enumerate(balance(lengths, math.ceil(sum(lengths) / PASS_TOKENS))):
            pack, random = [windows[k] for k in indices], np.random.default_rng([hyperparameters.seed, step, thread, i])
            with np.errstate(over="ignore", invalid="ignore"):  # the loss shows it
                added = loss_and_gradient(model, pack, loss, gradient, hyperparameters.dropout, random, 1 / len(batch))
            losses[thread] += added

    team.run(add, range(team.n_threads))
    return sum(losses)
