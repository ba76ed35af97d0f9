"""Files that are whole or not there: what is read has one named error, what is written appears when it is complete."""

import gzip
import json
import os
import secrets
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO, Any


def read_json(path: str | PathLike[str]) -> Any:
    """The value in a JSON file, plain or gzip. Raises ValueError if it cannot be read or is not JSON."""
    try:
        data = Path(path).read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        return json.loads(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, a JSONDecodeError, or an endless integer
        raise ValueError(f"{path}: not JSON ({error}).") from error


@contextmanager
def write_whole(path: str | PathLike[str], binary: bool = False) -> Iterator[IO[Any]]:
    """A file to write to, of UTF-8 text or of bytes, which takes its place at path when the block ends, and vanishes if it fails.

    A link stays one, and a file that was there before leaves its permissions.
    Raises ValueError, before anything is done, if it cannot stand there; OSError if writing fails.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise ValueError(f"{path}: cannot be written (not a regular file).")
    part = target.with_name(f"{secrets.token_hex(8)}.part")
    try:
        file = open(part, "xb") if binary else open(part, "x", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path}: cannot be written ({error.strerror}).") from error
    try:
        with file:
            yield file
        if target.exists():
            shutil.copymode(target, part)
        os.replace(part, target)
    except BaseException:
        os.unlink(part)
        raise
