"""How far float32 is from the truth, tensor by tensor: ours and PyTorch's, each against our float64.

    pip install torch==2.13.0 transformers==5.2.0
    python benchmarks/errors.py [--model FOLDER] [--all]

One question and context; root-mean-square errors, as a share of the root mean square of the tensor. Without --all, the
tensors of the first and the last layer. (Our float64 agrees with PyTorch's: tests/lab/test_record_and_compare.py.)
"""

import argparse
import runpy
from pathlib import Path

import numpy as np
import torch
import transformers

from numpy_distilbert import Checkpoint
from numpy_distilbert.lab.record import record

capture = runpy.run_path(str(Path(__file__).resolve().parents[1] / "examples" / "trace_pytorch.py"))["capture"]

QUESTION = "Which of the two boats came back, and when?"
CONTEXT = (
    "On the last night of March a storm came in from the north. Two boats were out, the Petrel and the Anna. The "
    "Petrel was never seen again; the Anna came back on the third of April, without her mast, and was sold for timber. "
) * 4


def error(tensor: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(((tensor - truth) ** 2).mean() / (truth**2).mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", metavar="FOLDER", help="default: the embedded checkpoint")
    parser.add_argument("--all", action="store_true", help="every layer")
    arguments = parser.parse_args()
    checkpoint = Checkpoint(arguments.model)
    ours, truth = record(QUESTION, CONTEXT, checkpoint)[0], record(QUESTION, CONTEXT, checkpoint, "float64")[0]
    model = transformers.DistilBertForQuestionAnswering.from_pretrained(checkpoint.folder, dtype=torch.float32).eval()
    theirs = {name: tensor.numpy() for name, tensor in capture(model, torch.from_numpy(ours["input_ids"])).items()}
    hidden = [f".layer.{i}." for i in range(1, model.config.n_layers - 1) if not arguments.all]
    print(f"{truth['input_ids'].shape[1]} tokens; relative root-mean-square error of float32")
    print(f"{'tensor':<57}{'ours':>10}{'PyTorch':>10}{'ratio':>8}")
    ratios = []
    for name, tensor in list(truth.items())[2:]:
        errors = error(ours[name], tensor), error(theirs[name], tensor)
        if errors[1]:
            ratios.append(errors[0] / errors[1])
        if not any(layer in name for layer in hidden):
            ratio = f"{ratios[-1]:.2f}" if errors[1] else "-"
            print(f"{name:<57}{errors[0]:>10.1e}{errors[1]:>10.1e}{ratio:>8}")
    print(f"median ratio of all tensors {np.median(ratios):.2f}")


if __name__ == "__main__":
    main()
