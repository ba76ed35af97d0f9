"""Describe a checkpoint: its shape, size, tokenizer, origin, and the share of BERT's parameters that it saves."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..checkpoint import Checkpoint, hub
from ..checkpoint.files import CheckpointError, read_json
from ..model import DistilBertForQuestionAnswering, PretrainedModel
from ..parameters import Config, state_dict, tree_leaves
from ..tokenizer import Tokenizer

CACHED = re.compile(r"models--(.+?)--(.+)/snapshots/(\w+)$")  # how the hub's cache names a folder
LICENCE = re.compile(r"^license: *(\S+)", re.MULTILINE)  # in a model card
CARD_SHA256 = re.compile(r"`([0-9a-f]{64})` \| (\S+)")


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """What `numpy-distilbert info --json` prints about a checkpoint.

    parameters: counts by part; bytes: of the weights, on disk and in memory; weights: each file's sha256, and whether
    it is known to be the published one; licence, provenance: None if unknown; bert: see bert_parameters(), and the
    share of them that this encoder saves.
    Raises CheckpointError if it cannot be loaded, or has another sha256 than was published.
    """
    model, tokenizer = DistilBertForQuestionAnswering.from_pretrained(checkpoint), Tokenizer.from_pretrained(checkpoint)
    folder, files = checkpoint.folder, checkpoint.weights().files
    parts, bert = parameter_counts(model), bert_parameters(model.config)
    readme = (folder.parent if _is_embedded(folder) else folder) / "README.md"
    card = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    settings = ("lowercase", "special_tokens", "model_max_length")
    memory = sum(array.nbytes for array in tree_leaves(model.parameters))
    return {
        "path": str(folder),
        "config": asdict(model.config),
        "parameters": parts | {"total": sum(parts.values())},
        "bytes": {"disk": sum(path.stat().st_size for path in files), "memory": memory},
        "tokenizer": {"pieces": len(tokenizer.vocab)} | {name: getattr(tokenizer, name) for name in settings},
        "weights": [_fingerprint(path, card) for path in files],
        "licence": next(iter(LICENCE.findall(card)), None),
        "provenance": _provenance(folder),
        "bert": {"parameters": bert, "saved": 1 - (sum(parts.values()) - parts["qa_outputs"]) / bert},
    }


def parameter_counts(model: PretrainedModel[Any]) -> dict[str, int]:
    """The number of parameters in each part of a model, summed over the layers."""
    counts: dict[str, int] = {}
    for name, tensor in state_dict(model.parameters, model.config).items():
        *_, module, layer, _ = f"..{name}".split(".")
        part = module if module in ("attention", "ffn") else "layer_norms" if "norm" in layer.lower() else layer
        counts[part] = counts.get(part, 0) + tensor.size
    return counts


def bert_parameters(config: Config) -> int:
    """The number of parameters of a BERT-base encoder with that vocabulary, positions and width: 12 layers, hidden
    layers four times as wide, two segment embeddings, and the pooler.
    Source: Devlin et al. 2018, section 3; Sanh et al. 2019 compare with it (110 against 66 million, 40 % fewer).
    """
    dim, hidden_dim = config.dim, 4 * config.dim
    embeddings = (config.vocab_size + config.max_position_embeddings + 2) * dim + 2 * dim
    layer = 4 * (dim + 1) * dim + (dim + 1) * hidden_dim + (hidden_dim + 1) * dim + 4 * dim
    return embeddings + 12 * layer + (dim + 1) * dim


def _is_embedded(folder: Path) -> bool:
    return folder.name == hub.DEFAULT and folder.resolve() == hub.embedded().resolve()


def _fingerprint(path: Path, card: str) -> dict[str, Any]:
    in_card = {name: digest for digest, name in CARD_SHA256.findall(card)}
    actual, published = hub.sha256(path), hub.published_sha256(path) or in_card.get(path.name)
    if published not in (None, actual):
        raise CheckpointError(f"{path}: sha256 is {actual}, published was {published}. Install or fetch it again.")
    return {"file": path.name, "sha256": actual, "published": published is not None}


def _provenance(folder: Path) -> str | None:
    if _is_embedded(folder):
        return f"embedded in numpy_distilbert, see {folder.parent / 'README.md'}"
    if cached := CACHED.search(folder.as_posix()):
        return "https://huggingface.co/{}/{}/tree/{}".format(*cached.groups())
    name = read_json(folder / "config.json").get("_name_or_path")
    return name if isinstance(name, str) else None
