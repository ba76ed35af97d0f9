"""What a type checker makes of calls; `mypy` fails if one of these types, or an error that it should see, is lost."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from numpy_distilbert import Answer, QuestionAnswerer, pipeline
from numpy_distilbert.documents import Found

if TYPE_CHECKING:
    from typing_extensions import assert_type


def calls(qa: QuestionAnswerer, items: Iterator[dict[str, str]]) -> None:
    assert_type(qa(question="Who?", context="Ada."), Answer)
    assert_type(qa("Who?", "Ada.", doc_stride=16), Answer)
    assert_type(qa({"question": "Who?", "context": "Ada."}), Answer)
    assert_type(qa(question="Who?", context="Ada.", top_k=3), Answer | list[Answer])
    assert_type(qa(items), Iterator[Answer])
    assert_type(qa("Who?", "Ada.").start, int)
    assert_type(pipeline("question-answering", top_k=3), QuestionAnswerer)
    assert_type(qa.search("Who?", ["Ada."]), Found)
    assert_type(qa.search("Who?", {"a": "Ada."}).best, Answer | None)
    assert_type(qa.search("Who?", qa.documents("Ada."))[0].score, float)
    qa.search("Who?", {1: "Ada."})  # type: ignore[dict-item]
    qa("Who?", "Ada.", topk=3)  # type: ignore[call-overload]
    qa("Who?", "Ada.", align_to_words="no")  # type: ignore[call-overload]
    pipeline("question-answering", topk=3)  # type: ignore[call-arg]
