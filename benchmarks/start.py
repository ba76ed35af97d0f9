"""Time from the start of a process to its answer, and installed size, against transformers with PyTorch.

    pip install numpy-distilbert torch==2.13.0 transformers==5.2.0
    python benchmarks/start.py [--rounds 9]

Every run is a new process that answers one question with the embedded checkpoint and ends; files are in the system's
cache. Also how much longer `import numpy_distilbert` takes than `import numpy`. The processes take turns; medians, and
the median ratio of a round. A size is that of the files of a package and of everything it requires; ours includes the
checkpoint. What is not installed is named and left out.
"""

import argparse
import importlib.util
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import numpy as np

import numpy_distilbert
from numpy_distilbert.checkpoint import hub

QUESTION, CONTEXT = "Who kept the log?", "The tower is old. Maren Holt kept its log."
TRANSFORMERS = f"""
from transformers import logging, pipeline
logging.set_verbosity_error()
logging.disable_progress_bar()
print(pipeline("question-answering", {str(hub.find())!r})(question={QUESTION!r}, context={CONTEXT!r}))
"""
COMMANDS = {
    "import numpy": ["-c", "import numpy"],
    "import numpy_distilbert": ["-c", "import numpy_distilbert"],
    "python -m numpy_distilbert ask": ["-m", "numpy_distilbert", "ask", QUESTION, "--context", CONTEXT],
    "transformers pipeline": ["-c", TRANSFORMERS],
}


def seconds(arguments: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments], check=True, capture_output=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}
    )
    return time.perf_counter() - start


def installed(names: Iterable[str], counted: set[str]) -> int:
    """The bytes of packages and what they require, without extras or packages in counted, to which it adds them."""
    total = 0
    for name in {re.sub(r"[-_.]+", "-", name).lower() for name in names} - counted:
        counted.add(name)
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # for another system
            continue
        files = {Path(str(file.locate())) for file in package.files or []}
        total += sum(file.stat().st_size for file in files if file.is_file())
        required = [line for line in package.requires or [] if "extra ==" not in line]
        total += installed([re.match(r"[\w.-]+", line)[0] for line in required], counted)  # type: ignore[index]
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    commands = dict(COMMANDS)
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"left out: transformers pipeline, not installed: {', '.join(missing)}")
        del commands["transformers pipeline"]
    print(f"Python {sys.version.split()[0]}, numpy {np.__version__}, medians of {rounds} after one that is not counted")
    runs = [{name: seconds(command) for name, command in commands.items()} for _ in range(rounds + 1)][1:]
    for name in commands:
        print(f"{name:<32} {statistics.median(run[name] for run in runs):6.3f} s")
    imports = [run["import numpy_distilbert"] - run["import numpy"] for run in runs]
    print(f"{'import, more than numpy':<32} {statistics.median(imports):6.3f} s   limit 0.060 s")
    here = [Path(numpy_distilbert.__file__).parent, hub.find()]  # an editable installation does not list them
    ours = sum(file.stat().st_size for folder in here for file in folder.rglob("*") if "__pycache__" not in file.parts)
    ours += installed(["numpy", "safetensors", "regex", "threadpoolctl"], set())
    print(f"{'installed':<32} {ours / 1e6:6.0f} MB")
    if not missing:
        theirs = installed(["torch", "transformers"], set())
        print(f"{'installed, transformers, torch':<32} {theirs / 1e6:6.0f} MB, {theirs / ours:.1f} times as much")
        ratio = statistics.median(run["transformers pipeline"] / run["python -m numpy_distilbert ask"] for run in runs)
        print(f"{'ask, faster than transformers':<32} {ratio:6.1f} x   limit 8 x; ask itself 0.6 s")


if __name__ == "__main__":
    main()
