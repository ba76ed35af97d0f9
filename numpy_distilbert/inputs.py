"""The inputs of a call: the forms that question and context may take, and the options with their checks.

Source: the forms are those of transformers 5.2.0, pipeline("question-answering"), and of its 4.x releases.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypedDict

from .arguments import check_bool, check_integer, check_not_blank
from .tokenizer import MIN_WINDOW

MAX_SEQ_LEN, DOC_STRIDE = 384, 128  # tokens; the defaults, where the model allows them
Pair = tuple[str, str]  # question and context


class MissingKeyError(ValueError, KeyError):
    """A dict lacks "question" or "context": a KeyError in transformers, and a ValueError as other bad input here."""

    __str__ = ValueError.__str__  # KeyError's would put quotes around the message


class OtherOptions(TypedDict, total=False):
    """Options without top_k, which decides what type a call returns."""

    doc_stride: int | None
    max_answer_len: int | None
    max_seq_len: int | None
    max_question_len: int | None
    handle_impossible_answer: bool | None
    align_to_words: bool | None
    batch_size: int | None


class Options(OtherOptions, total=False):
    """The options that a caller may give; None means the default.

    Lengths are in tokens; names and defaults are those of transformers 5.2.0. top_k (1): how many answers. max_seq_len
    (384, or what the model allows), doc_stride (128, at most half of max_seq_len): a context that does not fit beside
    the question in max_seq_len is read in windows that overlap by doc_stride. max_answer_len (15): the longest answer.
    max_question_len (64): how much of a question is read. handle_impossible_answer (False): the empty answer competes
    too. align_to_words (True): answers are widened to whole words. batch_size: the most windows that go through the
    model together (by default, about 2**14 tokens).
    """

    top_k: int | None


class Settings(NamedTuple):
    """The settings a question is answered with: Options, checked, with every default filled in."""

    top_k: int = 1
    doc_stride: int = DOC_STRIDE
    max_answer_len: int = 15
    max_seq_len: int = MAX_SEQ_LEN
    max_question_len: int = 64
    handle_impossible_answer: bool = False
    align_to_words: bool = True
    batch_size: int | None = None


def read_options(options: Mapping[str, Any], positions: int, model_max_length: int | None) -> Settings:
    """The settings that options ask for. positions: how many the model has; model_max_length: the tokenizer's. Raises
    TypeError for an unknown option, else TypeError or ValueError that names the option and what it must be.
    """
    for name in options:
        if name not in Settings._fields:
            raise TypeError(f"{name} has no meaning here. Leave it out. The options are {', '.join(Settings._fields)}.")
    asked = {name: value for name, value in options.items() if value is not None}
    for name in ("handle_impossible_answer", "align_to_words"):
        check_bool(name, asked.get(name, False))
    max_seq_len = asked.get("max_seq_len", min(MAX_SEQ_LEN, positions, model_max_length or MAX_SEQ_LEN))
    max_seq_len = check_integer("max_seq_len", max_seq_len, MIN_WINDOW)
    if max_seq_len > positions:
        raise ValueError(f"max_seq_len must be at most {positions}, the positions of the model, got {max_seq_len}.")
    doc_stride = check_integer("doc_stride", asked.get("doc_stride", min(DOC_STRIDE, max_seq_len // 2)), 0)
    if doc_stride >= max_seq_len:
        raise ValueError(f"doc_stride must be less than max_seq_len ({max_seq_len}), got {doc_stride}.")
    for name in ("top_k", "max_answer_len", "max_question_len", "batch_size"):
        if name in asked:
            asked[name] = check_integer(name, asked[name], 1)
    return Settings(**asked | {"max_seq_len": max_seq_len, "doc_stride": doc_stride})


def read_inputs(inputs: tuple[Any, ...], question: Any, context: Any) -> list[Pair] | Iterator[Pair]:
    """The checked pairs in the arguments of a call: a list, or for an iterator an iterator. Raises as the call does."""
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
    """The pair in {"question": ..., "context": ...}. Raises TypeError or ValueError, which call the item by place;
    MissingKeyError if it lacks one.
    """
    return _pair(_field(item, place, "question"), _field(item, place, "context"), f" of {place}")


def _field(item: Any, place: str, name: str) -> Any:
    if not isinstance(item, Mapping):
        raise TypeError(f"{place} must be a dict with 'question' and 'context', got {type(item).__name__}.")
    if name not in item:
        raise MissingKeyError(f"{place} has no {name!r}.")
    return item[name]


def _pair(question: Any, context: Any, place: str = "") -> Pair:
    for name, text in (("question", question), ("context", context)):
        check_not_blank(f"{name}{place}", text)
    return question, context
