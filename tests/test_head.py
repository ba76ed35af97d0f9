"""What another head costs: its name, its outputs, and a call."""

import numpy as np

from numpy_distilbert.lab.info import parameter_counts
from numpy_distilbert.lab.synthetic import SHAPES, random_weights
from numpy_distilbert.model import ModelOutput, PretrainedModel
from numpy_distilbert.parameters import Config, state_dict, tree_map
from numpy_distilbert.runtime.threads import Team
from numpy_distilbert.training.gradients import loss_and_gradient
from numpy_distilbert.training.loss import cross_entropy
from numpy_distilbert.training.optimiser import State, adamw


class TokenClassifier(PretrainedModel):
    head, output = {"classifier": 3}, ModelOutput


class Tagged:
    ids, tags = np.array([1, 7, 4, 2]), (0, 2, 1, 0)


def loss(logits, example):
    losses, gradients = zip(
        *(cross_entropy(x, tag) for x, tag in zip(logits.T, example.tags, strict=True)), strict=True
    )
    return sum(losses), np.stack(gradients, axis=1)


def test_a_token_classifier_loads_runs_is_recorded_and_trained():
    weights = random_weights(SHAPES["odd"], seed=1)
    weights["classifier.weight"], weights["classifier.bias"] = np.eye(3, 15, dtype=np.float32), np.zeros(3, np.float32)
    model = TokenClassifier(Config(**SHAPES["odd"]), weights, "float64")
    output = model(Tagged.ids[None], output_tensors=True, output_hidden_states=True)
    np.testing.assert_allclose(
        output.last_hidden_state[0], output.hidden_states[-1][0, :, :3]
    )  # which is what the head picks
    assert list(output.tensors)[-1] == "classifier" and parameter_counts(model)["classifier"] == 3 * 16
    gradient = tree_map(np.zeros_like, model.parameters)
    before = loss_and_gradient(model, [Tagged], loss, gradient)
    adamw(State(model.parameters), [gradient], 1e-3, Team())
    assert loss_and_gradient(model, [Tagged], loss, gradient) < before
    assert state_dict(model.parameters, model.config).keys() == weights.keys() - {
        "qa_outputs.weight",
        "qa_outputs.bias",
    }
