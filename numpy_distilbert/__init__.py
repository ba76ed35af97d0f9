"""Extractive question answering with DistilBERT, from text to answer in NumPy alone.

>>> from numpy_distilbert import QuestionAnswerer
>>> qa = QuestionAnswerer.from_pretrained()
>>> qa(question="Where do I live?", context="My name is Ada and I live in Turin.")["answer"]
'Turin'
"""

__version__ = "0.2.0"

from .checkpoint import Checkpoint, CheckpointError
from .model import DistilBertForQuestionAnswering, DistilBertModel
from .qa import QuestionAnswerer, pipeline
from .spans import Answer
from .tokenizer import Tokenizer
from .vectors import embed_texts

__all__ = [
    "Answer",
    "Checkpoint",
    "CheckpointError",
    "DistilBertForQuestionAnswering",
    "DistilBertModel",
    "QuestionAnswerer",
    "Tokenizer",
    "embed_texts",
    "pipeline",
]
