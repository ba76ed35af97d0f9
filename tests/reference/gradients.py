"""What gradients are compared on: inputs of each operation, and windows for whole models."""

import numpy as np

MODELS = "one_head", "odd"
ALPHA, TEMPERATURE = 0.3, 2.0
IDS, POSITIONS, TARGET = (3, 1, 3, 0), (0, 1, 2, 0), 4


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def operations() -> dict[str, tuple[list[np.ndarray], np.ndarray]]:
    """What each is given, and the gradient of the loss by what it gives."""
    x = random(6, 5)
    query_key_value = [random(2, 3, 5, seed=s) for s in (0, 1, 2)]
    kept = ((random(2, 5, 5, seed=9) > 0) * np.float32(2)).astype(np.float32)
    one = np.float32(1)
    return {
        "linear": ([x, random(4, 6, seed=1), random(4, seed=2)], random(4, 5, seed=3)),
        "gelu": ([3 * x], random(6, 5, seed=3)),
        "softmax": ([x], random(6, 5, seed=3)),
        "layer_norm": ([x, random(6, seed=1), random(6, seed=2)], random(6, 5, seed=3)),
        "attention": (query_key_value, random(2, 3, 5, seed=3)),
        "embeddings": ([random(5, 6), random(4, 6, seed=1)], random(6, 4, seed=3)),
        "cross_entropy": ([random(7)], one),
        "distillation": ([random(7), random(7, seed=1)], one),
        "dropout": ([*query_key_value, kept], random(2, 3, 5, seed=3)),
    }


def windows(config: dict) -> list[tuple[np.ndarray, tuple[int, int], np.ndarray]]:
    """Token ids, answer and a teacher's logits of three inputs. No id is 0: PyTorch gives [PAD] no gradient."""
    random_ids = np.random.RandomState(7)
    lengths = 9, 5, 12
    return [
        (random_ids.randint(1, config["vocab_size"], n), (0, 0) if n == 5 else (2, n - 2), random(2, n, seed=n) * 2)
        for n in lengths
    ]
