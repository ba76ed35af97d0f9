"""Random checkpoints of a given shape, for tests and benchmarks; with NumPy's RandomState they are always the same."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..arguments import Array
from ..checkpoint.tensors import FILE, write_tensors
from ..files import write_whole

SHAPES = {
    "one_head": dict(vocab_size=11, dim=6, n_layers=1, n_heads=1, hidden_dim=5, max_position_embeddings=24),
    "odd": dict(vocab_size=101, dim=15, n_layers=3, n_heads=5, hidden_dim=31, max_position_embeddings=24),
    "cased": dict(vocab_size=2000, dim=64, n_layers=4, n_heads=4, hidden_dim=256, max_position_embeddings=96),
    "published": dict(vocab_size=28996, dim=768, n_layers=6, n_heads=12, hidden_dim=3072, max_position_embeddings=512),
}


def random_weights(config: Mapping[str, int], seed: int) -> dict[str, Array]:
    """Every tensor of the published format in float32, large enough for uneven attention and logits of order 1."""
    dim, hidden_dim = config["dim"], config["hidden_dim"]
    shapes: dict[str, tuple[int, ...]] = {
        "distilbert.embeddings.word_embeddings.weight": (config["vocab_size"], dim),
        "distilbert.embeddings.position_embeddings.weight": (config["max_position_embeddings"], dim),
    }
    affine: dict[str, tuple[int, ...]] = {"distilbert.embeddings.LayerNorm": (dim,), "qa_outputs": (2, dim)}
    for i in range(config["n_layers"]):
        layer = f"distilbert.transformer.layer.{i}"
        affine |= {f"{layer}.attention.{name}_lin": (dim, dim) for name in ("q", "k", "v", "out")}
        affine |= {f"{layer}.sa_layer_norm": (dim,), f"{layer}.output_layer_norm": (dim,)}
        affine |= {f"{layer}.ffn.lin1": (hidden_dim, dim), f"{layer}.ffn.lin2": (dim, hidden_dim)}
    for name, shape in affine.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    random = np.random.RandomState(seed)
    weights: dict[str, Array] = {}
    for name, shape in shapes.items():
        uniform = random.random_sample(shape).astype(np.float32) * 2 - 1
        if name.endswith("orm.weight"):
            weights[name] = 1 + uniform / 4
        elif name.endswith("bias") or "embeddings" in name:
            weights[name] = uniform / 4
        else:
            weights[name] = uniform * np.float32(2 / np.sqrt(shape[-1]))
    return weights


def write_checkpoint(folder: Path, shape: str, dtype: type[np.floating] = np.float32, **changes: int) -> Path:
    """Write the random checkpoint of a shape in SHAPES, with any changes to it: config.json and model.safetensors."""
    config = SHAPES[shape] | changes
    folder.mkdir(parents=True, exist_ok=True)
    known = {"model_type": "distilbert", "architectures": ["DistilBertForQuestionAnswering"], "activation": "gelu"}
    (folder / "config.json").write_text(json.dumps(known | config), encoding="utf-8")
    weights = random_weights(config, seed=list(SHAPES).index(shape))
    with write_whole(folder / FILE, binary=True) as file:
        write_tensors(file, {name: tensor.astype(dtype) for name, tensor in weights.items()}, {"format": "pt"})
    return folder
