"""Compare two recordings, and find the first tensor that diverges."""

from collections.abc import Mapping
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

RTOL, ATOL = 1e-4, 2e-5
MAX_PERMUTED = 5  # axes; more have too many orders to try


class Comparison(NamedTuple):
    """One tensor in two recordings.

    shape: ours; same: within the tolerance; layout: the axes of theirs if they differ; max_abs, max_rel: the largest
    difference, absolute and relative to the larger number; ulp: the largest in units in the last place of the coarser
    dtype; cosine: of the angle between the two. A figure is None if it has no meaning.
    """

    name: str
    shape: tuple[int, ...]
    same: bool
    layout: str = ""
    max_abs: float | None = None
    max_rel: float | None = None
    ulp: float | None = None
    cosine: float | None = None


def compare(
    ours: Mapping[str, NDArray[Any]],
    theirs: Mapping[str, NDArray[Any]],
    names: Mapping[str, str] | None = None,
    rtol: float = RTOL,
    atol: float = ATOL,
) -> list[Comparison]:
    """Compare every tensor of ours that is also in theirs, in the order of ours.

    names: their name of a tensor by ours, where the two differ. Two tensors are the same if
    |ours - theirs| <= atol + rtol |theirs| everywhere, integers if they are equal; the order of the axes may differ.
    """
    pairs = [(name, (names or {}).get(name, name)) for name in ours]
    return [_compare(name, ours[name], theirs[other], rtol, atol) for name, other in pairs if other in theirs]


def _compare(name: str, ours: NDArray[Any], theirs: NDArray[Any], rtol: float, atol: float) -> Comparison:
    if ours.size != theirs.size:
        return Comparison(name, ours.shape, False, f"shape {theirs.shape}")
    coarser = min((t.dtype for t in (ours, theirs) if t.dtype.kind == "f"), key=lambda d: d.itemsize, default=None)
    if coarser is None:
        rtol = atol = 0
    a, (b, layout) = ours.astype(np.float64), _laid_out_as(ours, theirs.astype(np.float64), rtol, atol)
    with np.errstate(all="ignore"):
        same = bool(np.allclose(a, b, rtol, atol))
        difference, larger = np.abs(a - b), np.maximum(np.abs(a), np.abs(b))
        relative = np.divide(difference, larger, out=np.zeros_like(larger), where=difference != 0)
        units = None if coarser is None else difference / np.spacing(larger.astype(coarser)).astype(np.float64)
        cosine = (a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b))
    largest = (None if x is None else float(np.max(x, initial=0)) for x in (difference, relative, units))
    figures = (x if x is not None and np.isfinite(x) else None for x in (*largest, float(cosine)))
    return Comparison(name, ours.shape, same, layout, *figures)


def _laid_out_as(ours: NDArray[Any], theirs: NDArray[Any], rtol: float, atol: float) -> tuple[NDArray[Any], str]:
    """Theirs in the shape of ours, with its axes in the order in which the numbers agree best; and that order."""
    if theirs.shape == ours.shape and np.allclose(ours, theirs, rtol, atol):
        return theirs, ""
    squeezed, best, smallest = theirs.squeeze(), theirs.reshape(ours.shape), np.inf
    layout = "" if theirs.shape == ours.shape else f"as {theirs.shape}"
    for axes in permutations(range(squeezed.ndim)) if squeezed.ndim <= MAX_PERMUTED and squeezed.size else ():
        moved = squeezed.transpose(axes).reshape(ours.shape)
        with np.errstate(all="ignore"):
            difference = np.nanmean(np.abs(ours - moved))
        if difference < smallest / 2:  # too much better to be chance
            best, smallest = moved, difference
            if list(axes) != sorted(axes):
                layout = f"as {theirs.shape}, needs .squeeze().transpose{axes}"
    return best, layout
