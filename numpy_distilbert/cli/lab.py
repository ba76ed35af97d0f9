"""trace, compare and show."""

import argparse
import json

from ..checkpoint import Checkpoint
from ..files import read_json
from ..lab import plot
from ..lab.compare import ATOL, RTOL, Comparison, compare
from ..lab.record import read_recording, record, write_recording
from .terminal import Result, Verbs, add_question, printable, read_context

HEADING = f"{'tensor':<57}{'shape':<18}{'max abs':>9}{'max rel':>9}{'ulp':>9}{'cosine':>12}"


def add_verbs(verbs: Verbs) -> None:
    """Describe their calls."""
    trace = verbs.add_parser(
        "trace",
        help="record every tensor on the way to an answer",
        description="Record every tensor on the way to an answer in a safetensors file.",
    )
    add_question(trace)
    trace.add_argument("-o", "--output", metavar="OUT.safetensors", required=True, help="the file to write")
    trace.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="what to compute in")
    trace.set_defaults(run=_trace)
    differ = verbs.add_parser(
        "compare",
        help="find where two recordings part",
        description="Compare two recordings tensor by tensor. Exit status 0: same, 1: they differ, 2: trouble.",
    )
    differ.add_argument("ours", metavar="OURS.safetensors", help="a recording of `trace`")
    differ.add_argument("theirs", metavar="THEIRS", help="another, .safetensors or .npz")
    differ.add_argument("--map", metavar="NAMES.json", help="an object of their names by ours, where they differ")
    differ.add_argument(
        "--rtol", type=float, default=RTOL, help="tolerance as a share of their value (default: %(default)s)"
    )
    differ.add_argument("--atol", type=float, default=ATOL, help="tolerance beside that (default: %(default)s)")
    differ.add_argument("--json", action="store_true", help="print the comparison as JSON")
    differ.set_defaults(run=_compare, unwritten=2)  # as 1 says that they differ
    show = verbs.add_parser(
        "show",
        help="draw where the model sees the answer",
        description="Draw start and end probabilities along the text, and attention from the question to the text.",
    )
    add_question(show)
    show.add_argument("-o", "--output", metavar="OUT.png", required=True, help="the picture to write, .png or .svg")
    show.add_argument("--layer", metavar="N", type=int, help="attention of this layer, from 0 (default: the last)")
    show.add_argument("--head", metavar="N", type=int, help="attention of this head, from 0 (default: the mean of all)")
    show.set_defaults(run=_show)


def _trace(arguments: argparse.Namespace) -> Result:
    context = read_context(arguments)
    tensors, metadata = record(arguments.question, context, Checkpoint(arguments.model), arguments.dtype)
    write_recording(arguments.output, tensors, metadata)
    return f"{len(tensors)} tensors of {len(json.loads(metadata['tokens']))} tokens in {arguments.output}", 0


def _compare(arguments: argparse.Namespace) -> Result:
    for name, value in (("--rtol", arguments.rtol), ("--atol", arguments.atol)):
        if not value >= 0:
            raise ValueError(f"{name} must be a number from 0 up, got {value:g}.")
    ours, theirs = read_recording(arguments.ours), read_recording(arguments.theirs)
    names = {} if arguments.map is None else read_json(arguments.map)
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f"{arguments.map}: needs an object of their names by ours.")
    unknown = next((name for name in names if name not in ours), None)
    if unknown is not None:
        raise ValueError(f"{arguments.map}: {arguments.ours} has no {unknown}.")
    found = compare(ours, theirs, names, arguments.rtol, arguments.atol)
    if not found:
        raise ValueError(f"{arguments.theirs} has no tensor of {arguments.ours}. Give their names with --map.")
    first = next((one.name for one in found if not one.same), None)
    missing = [name for name in ours if names.get(name, name) not in theirs]
    extra = [name for name in theirs if name not in {names.get(name, name) for name in ours}]
    same = first is None and not missing
    if arguments.json:
        tensors = [one._asdict() for one in found]
        known = {"same": same, "first_divergence": first, "tensors": tensors, "missing": missing, "extra": extra}
        return json.dumps(known), not same
    verdict = f"{'same' if same else 'differ'}: {sum(not one.same for one in found)} of {len(found)} tensors differ"
    verdict += f" by more than {arguments.atol:g} + {arguments.rtol:g} of their value"
    verdict += f", first {first}" if first else ""
    verdict += f"; theirs has not {len(missing)}" if missing else ""
    rows = [_row(one, first) for one in found]
    rows += [f"{name}  missing" for name in missing] + [f"{name}  theirs alone" for name in extra]
    return "\n".join(map(printable, [HEADING, *rows, verdict])), not same


def _row(one: Comparison, first: str | None) -> str:
    figures = "".join(f"{'-' if x is None else f'{x:.1e}':>9}" for x in (one.max_abs, one.max_rel, one.ulp))
    cosine = "-" if one.cosine is None else f"{one.cosine:.8f}"
    mark = "  <- first that differs" if one.name == first else "" if one.same else "  differs"
    layout = f"  theirs {one.layout}" if one.layout else ""
    return f"{one.name:<57}{one.shape!s:<18}{figures}{cosine:>12}{mark}{layout}"


def _show(arguments: argparse.Namespace) -> Result:
    plot.show(
        arguments.question,
        read_context(arguments),
        Checkpoint(arguments.model),
        arguments.output,
        layer=arguments.layer,
        head=arguments.head,
    )
    return str(arguments.output), 0
