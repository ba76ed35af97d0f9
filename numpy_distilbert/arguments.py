"""Array types, and argument checks: each raises one error, which names the argument and what it must be."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

Array = NDArray[np.floating]
Ids = NDArray[np.integer]
Mask = NDArray[np.bool_]


def check_text(name: str, value: object) -> None:
    """Raise TypeError unless value is a str."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, got {type(value).__name__}.")


def check_not_blank(name: str, value: str) -> None:
    """Raise TypeError unless value is a str, ValueError if it is nothing but white space."""
    check_text(name, value)
    if not value.strip():
        raise ValueError(f"{name} must not be blank, got {value[:20]!r}.")


def check_type(name: str, value: object, needed: type) -> None:
    """Raise TypeError unless value is an instance of needed, a class of this package."""
    if not isinstance(value, needed):
        raise TypeError(f"{name} must be a {needed.__name__} of numpy_distilbert, got {type(value).__name__}.")


def check_integer(name: str, value: object, lowest: int) -> int:
    """value, Python's or NumPy's, as an int. Raises TypeError for a bool or anything else, ValueError below lowest."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}.")
    if value < lowest:
        raise ValueError(f"{name} must be at least {lowest}, got {value}.")
    return int(value)


def check_bool(name: str, value: object) -> None:
    """Raise TypeError unless value is a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be a bool, got {type(value).__name__}.")


def check_dtype(dtype: DTypeLike) -> np.dtype[np.floating]:
    """float32 or float64. Raises ValueError or TypeError for anything else."""
    try:
        found: np.dtype[Any] = np.dtype(dtype)
    except TypeError as error:
        raise TypeError(f"dtype must be float32 or float64, got {dtype!r}.") from error
    if dtype is None or found not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64, got {dtype!r}.")
    return found


def check_ids(input_ids: ArrayLike, vocab_size: int, positions: int) -> Ids:
    """Token ids of a batch, (batch, sequence). Raises TypeError or ValueError if they are anything else."""
    ids = _rectangle("input_ids", input_ids)
    if ids.ndim != 2 or ids.size == 0:
        raise ValueError(f"input_ids must have shape (batch, sequence) with at least one token, got {ids.shape}.")
    if ids.dtype.kind not in "iu":
        raise TypeError(f"input_ids must be integers, got dtype {ids.dtype}.")
    if ids.shape[1] > positions:
        raise ValueError(f"input_ids has {ids.shape[1]} tokens a row, the model has {positions} positions.")
    if ids.min() < 0 or ids.max() >= vocab_size:
        raise ValueError(f"input_ids must lie from 0 to {vocab_size - 1}, got values from {ids.min()} to {ids.max()}.")
    return ids


def check_mask(attention_mask: ArrayLike | None, ids: Ids) -> Mask:
    """Which of the ids are tokens, (batch, sequence): all if None. Raises TypeError or ValueError for anything else."""
    if attention_mask is None:
        return np.ones(ids.shape, dtype=bool)
    mask = _rectangle("attention_mask", attention_mask)
    if mask.dtype.kind not in "biuf":
        raise TypeError(f"attention_mask must be numbers, got dtype {mask.dtype}.")
    if mask.shape != ids.shape:
        raise ValueError(f"attention_mask has shape {mask.shape}, input_ids {ids.shape}. They must be the same.")
    if not np.isin(mask, (0, 1)).all():
        raise ValueError("attention_mask must hold 0 and 1 only.")
    mask = mask.astype(bool)
    if (empty_rows := np.flatnonzero(~mask.any(axis=1))).size:
        raise ValueError(f"attention_mask row {empty_rows[0]} is all zeros. Each row needs a token to attend to.")
    return mask


def _rectangle(name: str, values: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} has rows of different lengths. Pad them to one length.") from error
