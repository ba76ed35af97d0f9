"""Extractive question answering with DistilBERT, from text to answer in NumPy alone.

>>> from numpy_distilbert import QuestionAnswerer
>>> qa = QuestionAnswerer.from_pretrained()
>>> qa(question="Where do I live?", context="My name is Ada and I live in Turin.")["answer"]
'Turin'

The modules from text to answer, in reading order: tokenizer (text to windows of token ids), kernels (linear, gelu,
softmax, layer_norm, attention, each written as its formula), parameters (what a model is made of), encoder (the paper's
blocks), model (heads, outputs, batches), spans (logits to answers), documents (which passages of whole documents to
read, and which answer wins), qa (QuestionAnswerer, pipeline). Beside them: inputs (forms of a question, options), squad
(files, exact match, F1), vectors (texts to vectors), arguments (checks), files (written whole or not at all). Below
them, knowing nothing about models: unicode, checkpoint, runtime. Built on them: training, lab, batch, service, cli.
tests/test_architecture.py says which module may import which.
"""

__version__ = "0.5.0"

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .checkpoint import Checkpoint, CheckpointError
    from .documents import Documents
    from .model import DistilBertForQuestionAnswering, DistilBertModel
    from .qa import QuestionAnswerer, pipeline
    from .spans import Answer
    from .tokenizer import Tokenizer
    from .vectors import embed_texts
else:  # on first use, so that the command line can set what NumPy reads when it is imported
    _NAMES = {
        "checkpoint": ["Checkpoint", "CheckpointError"],
        "documents": ["Documents"],
        "model": ["DistilBertForQuestionAnswering", "DistilBertModel"],
        "qa": ["QuestionAnswerer", "pipeline"],
        "spans": ["Answer"],
        "tokenizer": ["Tokenizer"],
        "vectors": ["embed_texts"],
    }

    def __getattr__(name):
        for module_name, names in _NAMES.items():
            module = import_module(f".{module_name}", __name__)
            globals().update({each: getattr(module, each) for each in names})
        if name in globals():
            return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})


__all__ = [
    "Answer",
    "Checkpoint",
    "CheckpointError",
    "DistilBertForQuestionAnswering",
    "DistilBertModel",
    "Documents",
    "QuestionAnswerer",
    "Tokenizer",
    "embed_texts",
    "pipeline",
]
