"""Run the commands on hostile files, with at most 5 GB of memory, and print the table of docs/security.md.

    python benchmarks/hostile.py [--only WORD]

The files are made in a temporary folder. Time and peak memory are those of the whole process, start and model included.
"""

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from numpy_distilbert.checkpoint import hub

# in a process between, as its memory counts as that of a child that it forks
MEASURED = """
import resource, subprocess, sys
status = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status % 256)
"""
SQUAD = b'{"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": "Maren Holt kept the log.", "qas": [{'
SQUAD += b'"id": "1", "question": "Who kept it?", "answers": [{"text": "Maren Holt", "answer_start": 0}]'
ASK = ["ask", "Who kept the log?"]
ADDED = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | {"special": True}
Make = Callable[[], object]


def gzipped(before: bytes, filling: bytes, megabytes: int, after: bytes) -> Make:
    """Makes a SQuAD file in gzip with a filling of so many megabytes, which is compressed once."""
    chunk = gzip.compress(filling * (2**20 // len(filling)))
    content = gzip.compress(SQUAD + before) + chunk * megabytes + gzip.compress(after)
    return lambda: Path("in.json.gz").write_bytes(content)


def checkpoint(**files: bytes | str) -> Callable[[], None]:
    """Makes a copy of the embedded checkpoint with these files changed: bytes, the path a link leads to, or "fifo"."""

    def make() -> None:
        shutil.copytree(hub.embedded(), "model")
        for name, content in files.items():
            path = Path("model", name.replace("__", "."))
            path.unlink(missing_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif content == "fifo":
                os.mkfifo(path)
            else:
                path.symlink_to(content)

    return make


def npz() -> None:
    """A recording, and one with a further tensor of 1 GB."""
    run("trace Who? --context x -o ours.safetensors".split())
    with zipfile.ZipFile("theirs.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        with file.open("qa_outputs.npy", "w") as member:
            np.save(member, np.zeros((1, 5, 2), np.float32))
        with file.open("nobody.npy", "w") as member:
            header = {"descr": "<f4", "fortran_order": False, "shape": (2**28,)}
            np.lib.format.write_array_header_1_0(member, header)
            for _ in range(1024):
                member.write(bytes(2**20))


def text(content: str) -> Make:
    """Makes a file of text."""
    return lambda: Path("in.txt").write_text(content, encoding="utf-8")


MODEL, FILE = [*ASK, "--context", "Maren Holt kept the log.", "--model", "model"], [*ASK, "--file", "in.txt"]
EVALUATE, BATCH = ["evaluate", "in.json.gz"], ["batch", "in.json.gz", "-o", "out.jsonl"]
DISTILL = ["distill", "in.json.gz", "--out", "out"]
TOKENS = {str(30522 + i): ADDED | {"content": f"<{i}>"} for i in range(100_000)}
LAYERS = (hub.embedded() / "config.json").read_bytes().replace(b'"n_layers": 6', b'"n_layers": 1000000000000')
MANY_TOKENS = json.dumps({"added_tokens_decoder": TOKENS}).encode()
EMPTY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
HEADER = json.dumps({f"{i:050}": EMPTY for i in range(537_000)}).encode()
CONTEXT, BLANKS = gzipped(b', "more": "', b"a", 3000, b'"}]}]}]}'), gzipped(b"}]}]}", b" ", 3000, b"]}")
CASES: list[tuple[str, Make, list[str]]] = [
    ("nothing hostile", checkpoint(), MODEL),
    ("gzip: 3 GB of text", CONTEXT, EVALUATE),
    ("the same", CONTEXT, DISTILL),
    ("the same", CONTEXT, BATCH),
    ("gzip: 3 GB of blanks between articles", BLANKS, BATCH),
    ("gzip: 60 MB of `{},`", gzipped(b', "more": [', b"{},", 60, b"1]}]}]}]}"), EVALUATE),
    (".npz: a tensor of 1 GB that is not compared", npz, ["compare", "ours.safetensors", "theirs.npz"]),
    ("a Hangul word of 5 million characters", text("\ud55c" * 5_000_000), FILE),
    ("a letter with a million accents", text("a" + "\u0301" * 1_000_000), FILE),
    ("100,000 added tokens", checkpoint(tokenizer_config__json=MANY_TOKENS), MODEL),
    ("a safetensors header of 59 MB", checkpoint(model__safetensors=len(HEADER).to_bytes(8, "little") + HEADER), MODEL),
    ("n_layers 10^12", checkpoint(config__json=LAYERS), MODEL),
    ("config.json is a link to /dev/zero", checkpoint(config__json="/dev/zero"), MODEL),
    ("vocab.txt is a FIFO", checkpoint(vocab__txt="fifo"), MODEL),
    ("vocab.txt is a link out of its folder", checkpoint(vocab__txt="/etc/hostname"), [*DISTILL, "--init", "model"]),
]


def run(command: list[str]) -> tuple[float, float, int, str]:
    """Seconds, peak memory in MB, exit status (137: killed for the time it took) and last line of standard error."""
    start = time.monotonic()
    program = ["prlimit", "--as=5000000000", "timeout", "-s", "KILL", "200", sys.executable, "-m", "numpy_distilbert"]
    done = subprocess.run([sys.executable, "-c", MEASURED, *program, *command], capture_output=True, check=False)
    lines = done.stderr.decode(errors="replace").splitlines() or [""]
    return time.monotonic() - start, int(done.stdout.split()[-1]) / 1000, done.returncode, lines[-1]


def main() -> None:
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="the cases with this in their name")
    arguments = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    print("| input | its size | verb | time | memory | status | error |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, make, command in CASES:
        if arguments.only not in name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            make()
            size = sum(p.lstat().st_size for p in Path().rglob("*") if p.name in command or command[-1] == "model")
            seconds, memory, status, error = run(command)
            os.chdir("/")
        figures = f"{size / 1e6:.1f} MB | {command[0]} | {seconds:.1f} s | {memory:.0f} MB | {status}"
        print(f"| {name} | {figures} | {error.removeprefix('numpy-distilbert: ')} |", flush=True)


if __name__ == "__main__":
    main()
