"""From the start of a process to its answer, beside transformers with PyTorch on the same checkpoint.

    pip install numpy-distilbert torch==2.13.0 transformers==5.2.0
    python benchmarks/start.py [--rounds 9]

Every run is a new process that answers one question with the embedded checkpoint and ends; files are in the system's
cache. Also how much longer `import numpy_distilbert` takes than `import numpy`. The processes take turns; medians, and
the median ratio of a round. What is not installed is named and left out.
"""

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import time

import numpy as np

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
    if not missing:
        ratio = statistics.median(run["transformers pipeline"] / run["python -m numpy_distilbert ask"] for run in runs)
        print(f"{'ask, faster than transformers':<32} {ratio:6.1f} x   limit 8 x; ask itself 0.6 s")


if __name__ == "__main__":
    main()
