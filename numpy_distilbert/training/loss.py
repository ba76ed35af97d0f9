"""The loss: cross-entropy with the answer, and distillation from a teacher (Sanh et al. 2019; Hinton et al. 2015)."""

import math
from dataclasses import dataclass

import numpy as np

from ..arguments import Array
from ..kernels import softmax
from .data import Example


def cross_entropy(logits: Array, target: int) -> tuple[float, Array]:
    """-log softmax(logits)[target], and its gradient, softmax(logits) - onehot(target). logits: (n,)."""
    p = softmax(logits)
    loss = -math.log(max(float(p[target]), 1e-38))
    p[target] -= 1
    return loss, p


def distillation(logits: Array, teacher: Array, temperature: float) -> tuple[float, Array]:
    """T^2 KL(q || p), p = softmax(logits / T), q = softmax(teacher / T), and its gradient, T (p - q). T^2 keeps the
    gradient about the same size for every T (Hinton et al. 2015, section 2). logits, teacher: (n,).
    """
    p, q = softmax(logits / temperature), softmax(teacher / temperature)
    loss = temperature**2 * float((q * (np.log(np.maximum(q, 1e-38)) - np.log(np.maximum(p, 1e-38)))).sum())
    return loss, temperature * (p - q)


@dataclass(frozen=True)
class Loss:
    """alpha distillation + (1 - alpha) cross-entropy, averaged over start and end."""

    alpha: float = 0.5
    temperature: float = 2.0

    def __call__(self, logits: Array, window: Example) -> tuple[float, Array]:
        """The loss of one window and its gradient with respect to the logits. logits: (2, tokens), of start
        and end -> loss, (2, tokens). A window without a teacher has cross-entropy alone.
        """
        loss, gradient = 0.0, np.empty_like(logits)
        for i in range(2):
            value, d_logits = cross_entropy(logits[i], window.answer[i])
            if window.teacher is not None:
                soft, d_soft = distillation(logits[i], window.teacher[i].astype(logits.dtype), self.temperature)
                value = self.alpha * soft + (1 - self.alpha) * value
                d_logits = self.alpha * d_soft + (1 - self.alpha) * d_logits
            loss, gradient[i] = loss + value / 2, d_logits / 2
        return loss, gradient
