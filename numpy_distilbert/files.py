"""Read files, with one kind of error that names them, and write files that appear only once they are complete."""

import gzip
import io
import json
import os
import secrets
import shutil
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO, Any

GZIP_BYTES = 2**26  # that a gzip may expand to, more than twice SQuAD
GZIP_RATIO = 100  # to its own size, if it is read a piece at a time


class _Gunzipped(io.RawIOBase):
    """The decompressed bytes of a gzip; reading more than most of them raises OSError."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file, self._left, self._most = file, most, most
        self._gzip = gzip.GzipFile(fileobj=file)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = self._gzip.readinto(buffer)
        self._left -= size
        if self._left < 0:
            raise OSError(f"it expands to more than {self._most:,} bytes; if you trust it, decompress it first")
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


def open_gunzipped(path: str | PathLike[str], whole: bool = False) -> IO[bytes]:
    """Open a file to read bytes from, decompressed if it is a gzip. Reading raises OSError if a gzip expands to more
    than GZIP_BYTES and, unless it is to be read as a whole, more than GZIP_RATIO times its size.
    """
    file = open(Path(path), "rb")  # noqa: SIM115
    if not file.peek(2).startswith(b"\x1f\x8b"):
        return file
    most = 0 if whole else GZIP_RATIO * os.fstat(file.fileno()).st_size
    return io.BufferedReader(_Gunzipped(file, max(GZIP_BYTES, most)), 2**16)


def read_json(path: str | PathLike[str]) -> Any:
    """The value in a JSON file, plain or gzip. Raises ValueError if it cannot be read, is not JSON, or is a gzip that
    expands to more than GZIP_BYTES.
    """
    try:
        with open_gunzipped(path, whole=True) as file:
            data = b"".join(iter(lambda: file.read(2**20), b""))  # read() would gunzip 8 KB at a time
        if not data.strip():
            raise EOFError("it is empty")
        return json.loads(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}).") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, a JSONDecodeError, or an integer of thousands of digits
        raise ValueError(f"{path}: not JSON ({error}).") from error


@contextmanager
def write_whole(path: str | PathLike[str], binary: bool = False) -> Iterator[IO[Any]]:
    """A file to write UTF-8 text or bytes to. It appears at path when the block ends, or vanishes if the block fails.

    A link stays a link, and the permissions of a file that was there before are kept.
    Raises ValueError, before anything is done, if no file can be written there; OSError if writing fails.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise ValueError(f"{path}: cannot be written (not a regular file).")
    part = target.with_name(f"{secrets.token_hex(8)}.part")
    try:  # failing to open it is another error than failing to write, and "with" alone could not tell them apart
        file = open(part, "xb") if binary else open(part, "x", encoding="utf-8", newline="\n")  # noqa: SIM115
    except OSError as error:
        raise ValueError(f"{path}: cannot be written ({error.strerror}).") from error
    try:
        with file:
            yield file
        replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)  # a signal may come just after it was renamed
        raise


def replace(part: Path, target: Path) -> None:
    """Replace target by part, which gets the permissions of the file that was there before."""
    # Windows has only "read-only" to copy: a file that is cannot be replaced, and part could then not be removed
    if target.exists() and sys.platform != "win32":
        shutil.copymode(target, part)
    os.replace(part, target)
