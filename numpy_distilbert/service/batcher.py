"""The queue: windows of all that wait go through the model together.

Texts become tokens in threads beside the event loop, and one more thread does all arithmetic, pass after pass. A pass
takes a window of each waiting request in turn until BATCH_TOKENS are together; what has windows left goes to the end of
the queue. So a request that comes alone starts at once, and a long document does not hold up the short questions beside
it.
"""

import asyncio
import json
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from ..arguments import Array
from ..inputs import Settings
from ..qa import QuestionAnswerer, Search
from ..spans import span_probabilities
from ..tokenizer import Encoding

BATCH_TOKENS = 2048  # of one forward pass
LOWEST = 1e-4  # probability of a word that is told


class Words(Search):
    """A search that also tells how probable it is that each word starts the answer, and that it ends it."""

    def __init__(self, context: str, settings: Settings) -> None:
        super().__init__(context, settings)
        self._words: dict[int | None, tuple[int, int, Array]] = {}  # by number: first and last character, probabilities

    def add(self, window: Encoding, start_logits: Array, end_logits: Array) -> None:
        """As Search. A word of several windows has its highest probability, one cut by a window all its characters."""
        super().add(window, start_logits, end_logits)
        probabilities = np.stack([span_probabilities(logits, window) for logits in (start_logits, end_logits)])
        words: dict[int | None, list[int]] = {}  # the tokens of each
        for i, sequence in enumerate(window.sequence_ids):
            if sequence == 1:
                words.setdefault(window.word_ids[i], []).append(i)
        for word, tokens in words.items():
            both = probabilities[:, tokens].sum(axis=1)
            first, last = window.offsets[tokens[0]][0], window.offsets[tokens[-1]][1]
            if word in self._words:
                known = self._words[word]
                first, last, both = min(first, known[0]), max(last, known[1]), np.maximum(both, known[2])
            self._words[word] = first, last, both

    def result(self) -> Any:
        """{"answers": a list, "words": [[start, end, probability to start, probability to end], ...]}."""
        answers = super().result()
        told = [word for word in self._words.values() if word[2].max() >= LOWEST]
        words = sorted([first, last, *both.tolist()] for first, last, both in told)
        return {"answers": answers if isinstance(answers, list) else [answers], "words": words}


class Job:
    """A question on its way through the queue: what is left to read, what was found, and the JSON that comes of it."""

    def __init__(self, windows: Iterator[Encoding], search: Search) -> None:
        self.windows = with_last(windows)
        self.search = search
        self.answer: Future[str] = Future()


def with_last(windows: Iterator[Encoding]) -> Iterator[tuple[Encoding, bool]]:
    """Each window, and whether it is the last."""
    window = next(windows)
    for following in windows:
        yield window, False
        window = following
    yield window, True


class Batcher:
    """The queue of jobs, and the thread that computes them."""

    def __init__(self, qa: QuestionAnswerer) -> None:
        self._qa = qa
        self._jobs: deque[Job] = deque()
        self._arrived = asyncio.Event()

    def put(self, job: Job) -> None:
        """Answer it in its turn, unless job.answer is cancelled before."""
        self._jobs.append(job)
        self._arrived.set()

    async def run(self) -> None:
        """Compute while there are jobs, and wait for the next."""
        with ThreadPoolExecutor(1) as thread:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while self._jobs:
                    await asyncio.get_running_loop().run_in_executor(thread, self._pass)

    def _pass(self) -> None:
        """One forward pass. What goes wrong in it is the answer to all its jobs."""
        jobs: set[Job] = set()
        try:
            taken = []
            held = 0
            while self._jobs and held < BATCH_TOKENS:
                job = self._jobs.popleft()
                if job.answer.done():  # cancelled, or failed in a pass before
                    continue
                jobs.add(job)
                window, last = next(job.windows)
                taken.append((job, window, last))
                held += len(window)
                if not last:
                    self._jobs.append(job)
            logits = self._qa.logits([window.ids for _, window, _ in taken]) if taken else []
            for (job, window, last), (start_logits, end_logits) in zip(taken, logits, strict=True):
                job.search.add(window, start_logits, end_logits)
                if last:
                    answer = json.dumps(job.search.result())
                    if job.answer.set_running_or_notify_cancel():
                        job.answer.set_result(answer)
        except Exception as error:
            for job in jobs:
                if not job.answer.done() and job.answer.set_running_or_notify_cancel():
                    job.answer.set_exception(error)
