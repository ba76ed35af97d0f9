"""Write what a model of transformers says about the questions of a SQuAD file, as a teacher for `numpy-distilbert distill`.

    pip install torch transformers
    python examples/teacher_pytorch.py train.json --student weights/distilbert-mini-uncased-squad --teacher FOLDER -o logits.safetensors
    numpy-distilbert distill train.json --init weights/distilbert-mini-uncased-squad --out new --teacher logits.safetensors

The teacher may be any model for question answering, of any size, whose vocabulary is the student's. docs/teachers.md has
the format.
"""

import argparse

import torch
from transformers import AutoModelForQuestionAnswering

from numpy_distilbert import QuestionAnswerer
from numpy_distilbert.squad import read_questions
from numpy_distilbert.train import training_windows, write_logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="SQuAD v1.1")
    parser.add_argument("--student", required=True, metavar="FOLDER")
    parser.add_argument("--teacher", required=True, metavar="FOLDER")
    parser.add_argument("-o", "--output", required=True, metavar="OUT.safetensors")
    arguments = parser.parse_args()
    model = AutoModelForQuestionAnswering.from_pretrained(arguments.teacher, dtype=torch.float32).eval()
    student = QuestionAnswerer.from_pretrained(arguments.student)
    windows, _, _ = training_windows(read_questions(arguments.file, left_out=[]), student)

    def logits():
        with torch.no_grad():
            for ids in windows:
                output = model(input_ids=torch.tensor(ids[None].astype(int)))
                yield output.start_logits[0].numpy(), output.end_logits[0].numpy()

    write_logits(arguments.output, windows, logits())


if __name__ == "__main__":
    main()
