"""Checks of arguments: one error each, which names the argument and says what it must be."""

import numpy as np


def check_text(name: str, value: object) -> None:
    """Raise TypeError unless value is a str."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, got {type(value).__name__}.")


def check_integer(name: str, value: object, lowest: int) -> int:
    """value as an int, be it one of NumPy's. Raises TypeError for anything else or a bool, ValueError below lowest."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}.")
    if value < lowest:
        raise ValueError(f"{name} must be at least {lowest}, got {value}.")
    return int(value)


def check_bool(name: str, value: object) -> None:
    """Raise TypeError unless value is a bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be a bool, got {type(value).__name__}.")
