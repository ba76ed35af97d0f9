"""download and info."""

import argparse
import json
from pathlib import Path

from ..checkpoint import Checkpoint, hub
from ..lab.info import describe
from ..qa import QuestionAnswerer
from .terminal import MODEL_HELP, Result, Verbs, add_verb, printable


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs download and info."""
    known = "distilbert/distilbert-base-cased-distilled-squad"
    fetch = add_verb(verbs, "download", _download, "download a checkpoint from the Hugging Face hub", known)
    fetch.add_argument("id", metavar="ID", help="the id of a checkpoint on the hub, OWNER/NAME")
    fetch.add_argument("--revision", metavar="R", help="a branch, tag or commit (default: main)")
    fetch.add_argument("--dir", metavar="DIR", help="also copy it to DIR/NAME, a folder that --model takes")
    info = add_verb(verbs, "info", _info, "describe a checkpoint", f"--model {known}")
    info.add_argument("--model", metavar="MODEL", help=MODEL_HELP)
    info.add_argument("--json", action="store_true", help="print the description as JSON")


def _download(arguments: argparse.Namespace) -> Result:
    """Download a checkpoint from the Hugging Face hub to the hub's local cache, verify it, and print its folder."""
    if Path(arguments.id).is_dir():
        raise ValueError(f"{arguments.id}: a folder here, so there is nothing to download.")
    if (hub_id := hub.full_id(arguments.id)) is None:
        raise ValueError(f"{arguments.id}: cannot be downloaded. Name a checkpoint on the hub as OWNER/NAME.")
    folder = hub.fetch(hub_id, arguments.revision)
    QuestionAnswerer.from_pretrained(folder)  # or says why not
    return printable(str(folder if arguments.dir is None else hub.copy(folder, Path(arguments.dir)))), 0


def _info(arguments: argparse.Namespace) -> Result:
    """Describe a checkpoint: its origin, files, configuration, tokenizer, and numbers of parameters."""
    known = describe(Checkpoint(arguments.model))
    if arguments.json:
        return json.dumps(known), 0
    tokenizer, size, bert = known["tokenizer"], known["bytes"], known["bert"]
    rows = [
        ("path", known["path"]),
        *((name, known[name] or "not known") for name in ("provenance", "licence")),
        *((f["file"], f"sha256 {f['sha256']}{', as published' * f['published']}") for f in known["weights"]),
        ("bytes", f"{size['disk']:,} on disk, {size['memory']:,} in memory"),
        *((name, f"{value:,}") for name, value in known["config"].items()),
        ("tokenizer", f"{tokenizer['pieces']:,} pieces, {'uncased' if tokenizer['lowercase'] else 'cased'}"),
        ("special tokens", ", ".join(f"{token} {i}" for token, i in tokenizer["special_tokens"].items())),
        *((f"parameters, {name}", f"{count:>12,}") for name, count in known["parameters"].items()),
        ("BERT-base", f"{bert['parameters']:>12,} of that width; {bert['saved']:.1%} saved"),
    ]
    return "\n".join(f"{name:<33}{printable(value)}" for name, value in rows), 0
