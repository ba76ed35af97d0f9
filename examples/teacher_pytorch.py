"""Write a transformers model's logits for the questions of a SQuAD file: a teacher for `distill --teacher`.

    pip install torch transformers
    STUDENT=weights/distilbert-mini-uncased-squad
    python examples/teacher_pytorch.py train.json --student $STUDENT --teacher FOLDER -o logits.safetensors
    numpy-distilbert distill train.json --init $STUDENT --out new --teacher logits.safetensors

The teacher may be any question-answering model, of any size, that has the student's vocabulary: BERT as well as
DistilBERT. docs/teachers.md describes the format.
"""

import argparse

import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from numpy_distilbert import QuestionAnswerer
from numpy_distilbert.squad import read_questions
from numpy_distilbert.training.data import hold_out, training_windows, write_logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="SQuAD v1.1")
    parser.add_argument("--student", required=True, metavar="FOLDER")
    parser.add_argument("--teacher", required=True, metavar="FOLDER")
    parser.add_argument("-o", "--output", required=True, metavar="OUT.safetensors")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N questions")
    parser.add_argument("--held-out", type=int, metavar="N", default=20, help="without the last N articles")
    arguments = parser.parse_args()
    model = AutoModelForQuestionAnswering.from_pretrained(arguments.teacher, dtype=torch.float32).eval()
    student = QuestionAnswerer.from_pretrained(arguments.student)
    if AutoTokenizer.from_pretrained(arguments.teacher).get_vocab() != student.tokenizer.vocab:
        parser.error("the teacher's vocabulary is not the student's, so it cannot read the same token ids.")
    questions, _ = hold_out(read_questions(arguments.file, left_out=[]), arguments.held_out)
    windows, _, _ = training_windows(questions[: arguments.limit], student)
    has_segments = getattr(model.config, "type_vocab_size", 1) > 1  # as in BERT: 0 up to the first [SEP], 1 after it

    def logits():
        with torch.no_grad():
            for ids in windows:
                inputs = {"input_ids": torch.tensor(ids[None].astype(int))}
                if has_segments:
                    first_sep = (ids == ids[-1]).argmax()  # the last token is one too
                    inputs["token_type_ids"] = (torch.arange(len(ids))[None] > int(first_sep)).long()
                output = model(**inputs)
                yield output.start_logits[0].numpy(), output.end_logits[0].numpy()

    write_logits(arguments.output, windows, logits())


if __name__ == "__main__":
    main()
