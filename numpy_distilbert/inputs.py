"""What is asked: the question and its context in the arguments of a call, in a row of a file, in a request.

Source: the forms are those of transformers 5.2.0, pipeline("question-answering"), and of its 4.x releases.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .arguments import check_text

Pair = tuple[str, str]  # question and context


def read_inputs(inputs: tuple[Any, ...], question: Any, context: Any) -> list[Pair] | Iterator[Pair]:
    """The pairs in the arguments of a call, checked: a list, or of an iterator an iterator. Raises as the call."""
    if (inputs and question is not None) or (len(inputs) > 1 and context is not None):
        raise TypeError("question and context must be given once, by position or by name.")
    if len(inputs) == 2 and not isinstance(inputs[0], Mapping):
        question, context = inputs
    elif len(inputs) == 1 and context is not None:
        question = inputs[0]
    elif len(inputs) == 1 and isinstance(inputs[0], Mapping):
        question, context = (_field(inputs[0], "the argument", name) for name in ("question", "context"))
    elif inputs:
        items = inputs[0] if len(inputs) == 1 else inputs
        if isinstance(items, str) or not isinstance(items, Iterable):
            raise TypeError(f"'question' and 'context' are both needed, got one {type(items).__name__}.")
        pairs = (read_pair(item, f"item {i}") for i, item in enumerate(items))
        return pairs if isinstance(items, Iterator) else list(pairs)
    if isinstance(question, (list, tuple)):
        contexts = context if isinstance(context, (list, tuple)) else [context] * len(question)
        if len(question) != len(contexts):
            raise ValueError(f"{len(question)} questions need as many contexts, or one, got {len(contexts)}.")
        return [_pair(q, c, f" {i}") for i, (q, c) in enumerate(zip(question, contexts, strict=True))]
    return [_pair(question, context)]


def read_pair(item: Any, place: str) -> Pair:
    """The pair in {"question": ..., "context": ...}. Raises TypeError or ValueError; place: what it calls the item."""
    return _pair(_field(item, place, "question"), _field(item, place, "context"), f" of {place}")


def _field(item: Any, place: str, name: str) -> Any:
    if not isinstance(item, Mapping):
        raise TypeError(f"{place} must be a dict with 'question' and 'context', got {type(item).__name__}.")
    if name not in item:
        raise ValueError(f"{place} has no {name!r}.")
    return item[name]


def _pair(question: Any, context: Any, place: str = "") -> Pair:
    for name, text in (("question", question), ("context", context)):
        check_text(f"{name}{place}", text)
        if not text.strip():
            raise ValueError(f"{name}{place} must not be blank, got {text[:20]!r}.")
    return question, context
