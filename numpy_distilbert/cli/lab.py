"""trace, compare and show."""

import argparse
import json
import logging

from ..checkpoint import Checkpoint
from ..files import read_json
from ..lab import plot
from ..lab.compare import ATOL, RTOL, Comparison, compare
from ..lab.record import Recording, record, write_recording
from .terminal import STATUSES, Result, Verbs, add_question, add_verb, printable, read_context, warn

HEADING = f"{'tensor':<57}{'shape':<18}{'max abs':>9}{'max rel':>9}{'ulp':>9}{'cosine':>12}"


def add_verbs(verbs: Verbs) -> None:
    """Add the verbs trace, compare and show."""
    text = '"Who kept the log?" --file log.txt -o '
    trace = add_verb(verbs, "trace", _trace, "record every tensor on the way to an answer", text + "ours.safetensors")
    add_question(trace)
    trace.add_argument("-o", "--output", metavar="OUT.safetensors", required=True, help="the file to write")
    precise = "what to compute in: float64 gives a high-precision reference (default: %(default)s)"
    trace.add_argument("--dtype", choices=("float32", "float64"), default="float32", help=precise)
    statuses = {0: "the recordings are the same", 1: "they differ", 2: f"a wrong call or file, {STATUSES[1]}"}
    files = "ours.safetensors theirs.npz --map names.json"
    differ = add_verb(verbs, "compare", _compare, "find the first tensor that diverges", files, statuses)
    differ.set_defaults(failed=2)  # as 1 means that they differ
    differ.add_argument("ours", metavar="OURS.safetensors", help="a recording made by trace")
    differ.add_argument("theirs", metavar="THEIRS", help="the recording to compare with it, .safetensors or .npz")
    names = 'a JSON object {"our name": "their name", ...}; a tensor that it leaves out has the same name in both'
    differ.add_argument("--map", metavar="NAMES.json", help=names)
    for name, default, meaning in (("--rtol", RTOL, "relative tolerance"), ("--atol", ATOL, "absolute tolerance")):
        differ.add_argument(name, type=float, default=default, help=f"{meaning} (default: %(default)s)")
    differ.add_argument("--json", action="store_true", help="print the comparison as JSON")
    show = add_verb(verbs, "show", _show, "draw where the model sees the answer", text + "answer.png")
    add_question(show)
    picture = "the picture to write, .png or .svg (default: %(default)s)"
    show.add_argument("-o", "--output", metavar="OUT.png", default="show.png", help=picture)
    show.add_argument(
        "--all", action="store_true", help="draw every token of the text, not only what is near the answer"
    )
    show.add_argument("--layer", metavar="N", type=int, help="attention of this layer, from 0 (default: the last)")
    show.add_argument("--head", metavar="N", type=int, help="attention of this head, from 0 (default: the mean of all)")


def _trace(arguments: argparse.Namespace) -> Result:
    """Record every tensor on the way to an answer in a safetensors file."""
    context = read_context(arguments)
    tensors, metadata = record(arguments.question, context, Checkpoint(arguments.model), arguments.dtype)
    write_recording(arguments.output, tensors, metadata)
    counts = f"{len(tensors)} tensors of {len(json.loads(metadata['tokens']))} tokens"
    return printable(f"{counts} in {arguments.output}"), 0


def _compare(arguments: argparse.Namespace) -> Result:
    """Compare two recordings and name the first tensor where |ours - theirs| > ATOL + RTOL * |theirs|."""
    for name, value in (("--rtol", arguments.rtol), ("--atol", arguments.atol)):
        if not value >= 0:
            raise ValueError(f"{name} must be a number from 0 up, got {value:g}.")
    ours, theirs = Recording(arguments.ours), Recording(arguments.theirs)
    names = {} if arguments.map is None else read_json(arguments.map)
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f"{arguments.map}: needs a JSON object mapping our tensor names to theirs.")
    if unknown := [name for name in names if name not in ours]:
        raise ValueError(f"{arguments.map}: {arguments.ours} has no {unknown[0]}.")
    found = compare(ours, theirs, names, arguments.rtol, arguments.atol)
    if not found:
        raise ValueError(f"{arguments.theirs} has no tensor of {arguments.ours}. Give their names with --map.")
    different = [tensor.name for tensor in found if not tensor.same]
    first = different[0] if different else None
    missing = [name for name in ours if names.get(name, name) not in theirs]
    extra = [name for name in theirs if name not in {names.get(name, name) for name in ours}]
    same = not different and not missing
    if arguments.json:
        tensors = [tensor._asdict() for tensor in found]
        known = {"same": same, "first_divergence": first, "tensors": tensors, "missing": missing, "extra": extra}
        return json.dumps(known), not same
    verdict = f"{'same' if same else 'differ'}: {len(different)} of {len(found)} tensors differ"
    verdict += f" by more than {arguments.atol:g} + {arguments.rtol:g} of their value"
    verdict += f", first {first}" if first else ""
    verdict += f"; theirs has not {len(missing)}" if missing else ""
    rows = [_row(tensor, first) for tensor in found]
    rows += [f"{name}  missing" for name in missing] + [f"{name}  theirs alone" for name in extra]
    return "\n".join(map(printable, [HEADING, *rows, verdict])), not same


def _row(tensor: Comparison, first: str | None) -> str:
    figures = "".join(f"{'-' if x is None else f'{x:.1e}':>9}" for x in (tensor.max_abs, tensor.max_rel, tensor.ulp))
    cosine = "-" if tensor.cosine is None else f"{tensor.cosine:.8f}"
    mark = "  <- first that differs" if tensor.name == first else "" if tensor.same else "  differs"
    layout = f"  theirs {tensor.layout}" if tensor.layout else ""
    return f"{tensor.name:<57}{tensor.shape!s:<18}{figures}{cosine:>12}{mark}{layout}"


def _show(arguments: argparse.Namespace) -> Result:
    """Draw how likely the answer is to start and end at each nearby word, and how much the question attends to it."""
    context, checkpoint, where = read_context(arguments), Checkpoint(arguments.model), (arguments.layer, arguments.head)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns of each weight that a font lacks
    if not plot.show(arguments.question, context, checkpoint, arguments.output, *where, arguments.all):
        warn("this system has no font for some of the characters; they are drawn as boxes.")
    return printable(arguments.output), 0
