"""Where a checkpoint lies: embedded in the package, in a folder, or on the hub, from where it is fetched and verified.

The client is huggingface_hub, with its cache, settings (HF_ENDPOINT, HF_HUB_OFFLINE, ...), resume and progress bars. It
does not compare what it fetched with the published sha256, so that is done here, once for every file of weights.
"""

import hashlib
import os
import re
import shutil
import tempfile
from contextlib import suppress
from os import PathLike
from pathlib import Path

from .files import CheckpointError

DEFAULT = "distilbert-mini-uncased-squad"
PACKAGE = Path(__file__).resolve().parents[1]
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
FETCHED = [
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
]
SHA256 = re.compile(r"[0-9a-f]{64}")


def find(path: str | PathLike[str] | None = None, revision: str | None = None) -> Path:
    """The folder of a checkpoint: the one named, one fetched from the hub, or with None the embedded default.

    path: a folder, or if there is no folder of that name the id of a checkpoint on the hub, OWNER/NAME; revision: a
    branch, tag or commit of it. A path object, and a name in a folder that is there, are never looked for on the hub.
    Raises CheckpointError if there is no such folder or it cannot be fetched, TypeError if path is not a path,
    ValueError for a revision of what is not on the hub.
    """
    if path is None:
        folder = embedded()
    elif not isinstance(path, (str, PathLike)):
        raise TypeError(f"path must be a str or a path, got {type(path).__name__}.")
    elif os.path.isdir(path):
        folder = Path(path)
    elif isinstance(path, str) and HUB_ID.fullmatch(path):
        owner = path.split("/")[0]
        if not os.path.lexists(owner):
            return fetch(path, revision)
        raise CheckpointError(
            f"{path}: no such folder, and not looked for on the hub, as there is {owner} here. "
            "Change to another folder."
        )
    else:
        raise CheckpointError(
            f"{path or repr(path)}: no such folder. Name the folder that holds config.json and model.safetensors, or a "
            "checkpoint on the hub as OWNER/NAME."
        )
    if revision is not None:
        raise ValueError(f"revision must be None, got {revision!r}: only a checkpoint on the hub has revisions.")
    return folder


def embedded() -> Path:
    """The folder of the checkpoint that ships with the code. Raises CheckpointError if it is not there."""
    for weights in (PACKAGE / "weights", PACKAGE.parent / "weights"):  # in a wheel; beside the package in a clone
        if (weights / DEFAULT).is_dir():
            return weights / DEFAULT
    raise CheckpointError(f"The embedded checkpoint {DEFAULT} is not beside {PACKAGE}. Install the package again.")


def fetch(hub_id: str, revision: str | None = None) -> Path:
    """The folder in the hub's cache with that checkpoint, fetched as far as it is not there yet, its weights verified.

    Raises CheckpointError if it cannot be fetched, or is not what was published.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError as error:
        raise CheckpointError(
            f"{hub_id}: no such folder. To fetch a checkpoint of that name from the hub, first run: "
            'pip install "numpy-distilbert[hub]"'
        ) from error
    try:
        folder = Path(snapshot_download(hub_id, revision=revision, allow_patterns=FETCHED))
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{hub_id}: no such folder, not (or not all of it) in the hub's cache, and the hub cannot be reached "
            f"({_reason(error.__cause__ or error)}). Where it can, run: numpy-distilbert download {hub_id}"
        ) from error
    except Exception as error:  # those of its HTTP library too, which is not always the same one
        raise CheckpointError(
            f"{hub_id}: no such folder, and could not be fetched from the hub ({_reason(error)})."
        ) from error
    for path in folder.glob("*.safetensors"):
        _verify(path, hub_id)
    return folder


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _verify(path: Path, hub_id: str) -> None:
    """Compare a file in the hub's cache with its published sha256.

    A file beside it remembers that this was done, and for which state of it.
    """
    try:
        blob = path.resolve(strict=True)
        state, verified = f"{blob.stat().st_size} {blob.stat().st_mtime_ns}", blob.with_name(f"{blob.name}.verified")
        if verified.exists() and verified.read_bytes() == state.encode():
            return
        published = published_sha256(path) if path.is_symlink() else _asked_sha256(path, hub_id)
        if published is not None and sha256(blob) != published:
            path.unlink()
            blob.unlink(missing_ok=True)
            raise CheckpointError(
                f"{path}: its content has not the published sha256 {published}. It was removed; fetch it again."
            )
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}). Fetch it again.") from error
    with suppress(OSError):  # a cache that cannot be written to: compare each time
        verified.write_bytes(state.encode())


def published_sha256(path: Path) -> str | None:
    """The name of the blob that a link in the hub's cache leads to; None for a small file, which git has named."""
    name = os.path.basename(os.path.realpath(path))
    return name if SHA256.fullmatch(name) else None


def _asked_sha256(path: Path, hub_id: str) -> str | None:
    """The same for a cache without links, as on some systems: from the hub."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        name: str = get_hf_file_metadata(hf_hub_url(hub_id, path.name, revision=path.parent.name)).etag or ""
    except Exception as error:
        raise CheckpointError(f"{path}: not compared with its published sha256 yet ({_reason(error)}).") from error
    return name if SHA256.fullmatch(name) else None


def copy(folder: Path, directory: Path) -> Path:
    """A folder in that directory with the checkpoint's files, under the name the hub has for it.

    folder: as of fetch. The copy appears when it is whole.
    Raises CheckpointError if there is something of that name.
    """
    target = directory / folder.parents[1].name.split("--")[-1]
    if os.path.lexists(target):
        raise CheckpointError(f"{target}: exists already. Remove it, or choose another folder with --dir.")
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=f".{target.name}-") as temporary:
        part = Path(temporary) / target.name
        part.mkdir()
        for pattern in FETCHED:
            for path in folder.glob(pattern):
                shutil.copyfile(path, part / path.name)
        part.rename(target)
    return target


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
