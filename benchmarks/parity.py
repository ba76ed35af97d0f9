"""How far our numbers are from PyTorch's and transformers', whose outputs are stored in tests/reference/.

    python benchmarks/parity.py

Every row is a checkpoint and one batch of five inputs: whole, padded right, padded left, with holes, one token. The
differences are the largest over all layers and unmasked positions, as shares of max(1, largest value).
"""

import json
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from numpy_distilbert import DistilBertForQuestionAnswering, QuestionAnswerer
from numpy_distilbert.checkpoint import hub
from numpy_distilbert.lab.synthetic import SHAPES, write_checkpoint

REFERENCE = Path(__file__).resolve().parents[1] / "tests" / "reference"
LIMIT = 2e-5


def difference(ours: np.ndarray, theirs: np.ndarray, real: np.ndarray) -> float:
    return np.abs(ours - theirs)[real].max() / max(1.0, np.abs(theirs[real]).max())


def logits(name: str, folder: Path, tensors: dict[str, np.ndarray]) -> None:
    ids, mask, positions = (tensors[f"{name}.{key}"] for key in ("input_ids", "attention_mask", "positions"))
    output = DistilBertForQuestionAnswering.from_pretrained(folder)(ids, mask, output_hidden_states=True)
    head = max(
        difference(getattr(output, key), tensors[f"{name}.{key}"], mask == 1) for key in ("start_logits", "end_logits")
    )
    hidden = max(
        difference(ours[:, positions], theirs, mask[:, positions] == 1)
        for ours, theirs in zip(output.hidden_states, tensors[f"{name}.hidden_states"], strict=True)
    )
    print(f"{name:<10} {ids.shape[0]} x {ids.shape[1]:<4} {hidden:14.1e} {head:14.1e}   limit {LIMIT:.0e}")


def answers() -> None:
    file = json.loads((REFERENCE / "answers.json").read_text(encoding="utf-8"))
    cases = [case for case in file["cases"] if case["casing"] == "uncased"]
    qa, same, worst = QuestionAnswerer.from_pretrained(), 0, 0.0
    for case in cases:
        context = file["ISLAND"] if case["context"] == "ISLAND" else case["context"]
        ours = qa(case["question"], context, **case["options"])
        ours, theirs = ours[0] if isinstance(ours, list) else ours, case["answers"][0]
        same += all(ours[key] == theirs[key] for key in ("answer", "start", "end"))
        worst = max(worst, abs(ours["score"] - theirs["score"]))
    print(f"best answers of the embedded checkpoint: {same} of {len(cases)} the same, scores within {worst:.1e}")


def main() -> None:
    print(f"against PyTorch 2.13.0 and transformers 5.2.0, float32; numpy {np.__version__}")
    print(f"{'checkpoint':<10} {'batch':<8} {'hidden states':>14} {'logits':>14}")
    tensors = load_file(REFERENCE / "logits.safetensors")
    with tempfile.TemporaryDirectory() as temporary:
        for name in SHAPES:
            logits(name, write_checkpoint(Path(temporary) / name, name), tensors)
    logits("embedded", hub.find(), tensors)
    answers()


if __name__ == "__main__":
    main()
