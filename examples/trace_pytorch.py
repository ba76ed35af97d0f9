"""Record what transformers computes, under the names that `numpy-distilbert trace` uses, to compare the two.

    pip install torch transformers
    numpy-distilbert trace "Who kept the log?" --context "Maren Holt kept its log." -o ours.safetensors
    python examples/trace_pytorch.py ours.safetensors \\
        --model weights/distilbert-mini-uncased-squad -o theirs.safetensors
    numpy-distilbert compare ours.safetensors theirs.safetensors

The token ids are those in the first file. Forward hooks record the outputs of modules, pre-forward hooks their inputs.
The attention scores are computed in a function that no hook sees, so they are computed again from q and k.
"""

import argparse
import math

import torch
from safetensors.torch import load_file, save_file
from transformers import DistilBertForQuestionAnswering

INPUTS = {  # modules whose input is recorded, and under which name
    "LayerNorm": "LayerNorm.input",
    "sa_layer_norm": "sa_layer_norm.input",
    "output_layer_norm": "output_layer_norm.input",
    "out_lin": "context",
}
OUTPUTS = (
    "word_embeddings position_embeddings LayerNorm q_lin k_lin v_lin out_lin sa_layer_norm lin1 activation lin2 "
    "output_layer_norm qa_outputs"
).split()


def capture(model: torch.nn.Module, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    """Every tensor of a forward pass. ids: (batch, sequence)."""
    tensors: dict[str, torch.Tensor] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def keep(name):
        return lambda module, inputs, output: tensors.update({name: output.detach().clone()})

    def keep_input(name):
        return lambda module, inputs: tensors.update({name: inputs[0].detach().clone()})

    hooks = []
    for name, module in model.named_modules():
        parent, _, last = name.rpartition(".")
        if last in OUTPUTS:
            hooks.append(module.register_forward_hook(keep(name)))
        if last in INPUTS:
            hooks.append(module.register_forward_pre_hook(keep_input(f"{parent}.{INPUTS[last]}")))
    with torch.no_grad():
        model(input_ids=ids)
    for hook in hooks:
        hook.remove()
    for i in range(model.config.n_layers):
        attention = f"distilbert.transformer.layer.{i}.attention"
        q, k = (
            tensors[f"{attention}.{part}"].unflatten(-1, (model.config.n_heads, -1)).transpose(1, 2)
            for part in ("q_lin", "k_lin")
        )
        tensors[f"{attention}.scores"] = scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        tensors[f"{attention}.probabilities"] = scores.softmax(-1)
    batch, length = ids.shape  # the table of positions has no batch
    positions = tensors["distilbert.embeddings.position_embeddings"]
    tensors["distilbert.embeddings.position_embeddings"] = positions.expand(batch, length, -1)
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", help="of numpy-distilbert trace")
    parser.add_argument("--model", required=True, metavar="FOLDER")
    parser.add_argument("-o", "--output", required=True, metavar="OUT.safetensors")
    arguments = parser.parse_args()
    model = DistilBertForQuestionAnswering.from_pretrained(arguments.model, dtype=torch.float32).eval()
    save_file(capture(model, load_file(arguments.recording)["input_ids"]), arguments.output)


if __name__ == "__main__":
    main()
