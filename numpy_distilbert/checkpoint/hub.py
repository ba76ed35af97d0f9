"""Find a checkpoint: embedded in the package, in a folder, or on the hub, from which it is fetched and verified.

The client is huggingface_hub, with its cache, settings (HF_ENDPOINT, HF_HUB_OFFLINE, ...), resume and progress bars. It
does not compare what it fetched with the published sha256, so that is done here, once for every weights file.
"""

import hashlib
import os
import re
import shutil
import tempfile
from contextlib import suppress
from os import PathLike
from pathlib import Path

from .files import CheckpointError, check_inside

DEFAULT = "distilbert-mini-uncased-squad"
PACKAGE = Path(__file__).resolve().parents[1]
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
KINDS = "cased", "uncased", "multilingual-cased", "cased-distilled-squad", "uncased-distilled-squad"
# what the hub called them before 2024, and so does code of that time
OLD_NAMES = {f"distilbert-base-{kind}": f"distilbert/distilbert-base-{kind}" for kind in KINDS}
FETCHED = (
    "config.json model.safetensors model.safetensors.index.json model-*-of-*.safetensors "
    "tokenizer.json tokenizer_config.json special_tokens_map.json vocab.txt calibration.json README.md"
).split()
SHA256 = re.compile(r"[0-9a-f]{64}")


def find(path: str | PathLike[str] | None = None, revision: str | None = None) -> Path:
    """The folder of a checkpoint: the one named, one fetched from the hub, or the embedded default for None.

    path: a folder or, if there is no folder of that name, the id of a checkpoint on the hub, see full_id(); revision: a
    branch, tag or commit of it. A path object, and OWNER/NAME if OWNER exists here, are never looked for on the hub.
    Raises CheckpointError if there is no such folder or it cannot be fetched, TypeError if path is not a path,
    ValueError for a revision of anything not on the hub.
    """
    if not isinstance(path, (str, PathLike, type(None))):
        raise TypeError(f"path must be a str or a path, got {type(path).__name__}.")
    if path is None or os.path.isdir(path):
        if revision is not None:
            raise ValueError(f"revision must be None, got {revision!r}: only a checkpoint on the hub has revisions.")
        return embedded() if path is None else Path(path)
    if not isinstance(path, str) or (name := full_id(path)) is None:
        problem = "no such folder. Name the folder that holds config.json and model.safetensors"
        raise CheckpointError(f"{path or repr(path)}: {problem}, or a checkpoint on the hub as OWNER/NAME.")
    if os.path.lexists(owner := name.split("/")[0]):
        problem = f"no such folder, and not looked for on the hub, as there is {owner} here"
        raise CheckpointError(f"{path}: {problem}. Change to another folder.")
    try:
        return fetch(name, revision)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: no such folder here. {error}") from error


def full_id(name: str) -> str | None:
    """The hub id, OWNER/NAME, that a name is or stood for before 2024; None if it is neither."""
    name = OLD_NAMES.get(name, name)
    return name if HUB_ID.fullmatch(name) else None


def embedded() -> Path:
    """The folder of the checkpoint that ships with the code. Raises CheckpointError if it is missing."""
    for weights in (PACKAGE / "weights", PACKAGE.parent / "weights"):  # in a wheel; beside the package in a clone
        if (weights / DEFAULT).is_dir():
            return weights / DEFAULT
    raise CheckpointError(f"The embedded checkpoint {DEFAULT} is not beside {PACKAGE}. Install the package again.")


def fetch(hub_id: str, revision: str | None = None) -> Path:
    """The folder of a checkpoint in the hub's cache, downloaded if need be and verified. Raises CheckpointError."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError as error:
        problem = "cannot be downloaded without huggingface_hub. Run"
        raise CheckpointError(f'{hub_id}: {problem}: pip install "numpy-distilbert[hub]"') from error
    try:
        folder = Path(snapshot_download(hub_id, revision=revision, allow_patterns=FETCHED))
    except LocalEntryNotFoundError as error:
        problem = f"cannot be downloaded, as the hub cannot be reached ({_reason(error.__cause__ or error)})"
        raise CheckpointError(f"{hub_id}: {problem}. Where it can, run: numpy-distilbert download {hub_id}") from error
    except Exception as error:  # may be from its HTTP library, which depends on its version
        raise CheckpointError(f"{hub_id}: cannot be downloaded from the hub ({_reason(error)}).") from error
    for path in folder.glob("*.safetensors"):
        _verify(path, hub_id)
    return folder


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _verify(path: Path, hub_id: str) -> None:
    """Compare a file in the hub's cache with its published sha256, and record that in a file beside it."""
    try:
        blob = path.resolve(strict=True)
        state, verified = f"{blob.stat().st_size} {blob.stat().st_mtime_ns}", blob.with_name(f"{blob.name}.verified")
        if verified.exists() and verified.read_bytes() == state.encode():
            return
        published = published_sha256(path) if path.is_symlink() else _asked_sha256(path, hub_id)
        if published is not None and sha256(blob) != published:
            path.unlink()
            blob.unlink(missing_ok=True)
            problem = f"its content does not have the published sha256 {published}"
            raise CheckpointError(f"{path}: {problem}. It was removed; fetch it again.")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}). Fetch it again.") from error
    with suppress(OSError):  # a read-only cache is compared each time
        verified.write_bytes(state.encode())


def published_sha256(path: Path) -> str | None:
    """The digest that names the blob behind a link in the hub's cache; None for a small file, named by its git hash."""
    name = os.path.basename(os.path.realpath(path))
    return name if SHA256.fullmatch(name) else None


def _asked_sha256(path: Path, hub_id: str) -> str | None:
    """The same digest, asked of the hub: on some systems its cache has no links."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        name: str = get_hf_file_metadata(hf_hub_url(hub_id, path.name, revision=path.parent.name)).etag or ""
    except Exception as error:
        raise CheckpointError(f"{path}: not compared with its published sha256 yet ({_reason(error)}).") from error
    return name if SHA256.fullmatch(name) else None


def copy(folder: Path, directory: Path) -> Path:
    """Copy a checkpoint to a folder in directory with its name on the hub, which appears when it is complete.

    folder: a path returned by fetch(). Raises CheckpointError if something of that name exists, and see check_inside().
    """
    target = directory / folder.parents[1].name.split("--")[-1]
    if os.path.lexists(target):
        raise CheckpointError(f"{target}: exists already. Remove it, or choose another folder with --dir.")
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=f".{target.name}-") as temporary:
        (part := Path(temporary) / target.name).mkdir()
        for pattern in FETCHED:
            for path in folder.glob(pattern):
                shutil.copyfile(check_inside(path, folder), part / path.name)
        part.rename(target)
    return target


def sha256(path: Path) -> str:
    """The hexadecimal digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
