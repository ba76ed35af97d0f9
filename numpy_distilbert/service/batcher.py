"""The queue: windows of all waiting requests go through the model together.

Texts are tokenized in threads beside the event loop, and one more thread makes the forward passes, one after another.
A pass takes a window of each waiting request in turn until the batch has BATCH_TOKENS; requests that have windows left
go to the end of the queue. So a single request starts at once, and a long document does not hold up short questions.
"""

import asyncio
import json
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, pairwise
from typing import Any

import numpy as np

from ..arguments import Array
from ..inputs import Settings
from ..qa import QuestionAnswerer, Search
from ..spans import span_probabilities
from ..tokenizer import Encoding

BATCH_TOKENS = 2048  # of one forward pass
LOWEST = 1e-4  # words less probable than that are not reported


class Words(Search):
    """A search that also returns the probabilities that the answer starts, and ends, with each word."""

    def __init__(self, context: str, settings: Settings) -> None:
        super().__init__(context, settings)
        self._words: dict[int | None, tuple[int, int, Array]] = {}  # by number: start, end, probabilities

    def add(self, window: Encoding, start_logits: Array, end_logits: Array) -> None:
        """See Search. Of a word in several windows the highest probabilities count, and all its characters."""
        super().add(window, start_logits, end_logits)
        probabilities = np.stack([span_probabilities(logits, window) for logits in (start_logits, end_logits)])
        tokens_of: dict[int | None, list[int]] = {}
        for position, sequence in enumerate(window.sequence_ids):
            if sequence == 1:
                tokens_of.setdefault(window.word_ids[position], []).append(position)
        for word, tokens in tokens_of.items():
            start, end = window.offsets[tokens[0]][0], window.offsets[tokens[-1]][1]
            both = probabilities[:, tokens].sum(axis=1)
            if word in self._words:
                known = self._words[word]
                start, end, both = min(start, known[0]), max(end, known[1]), np.maximum(both, known[2])
            self._words[word] = start, end, both

    def result(self) -> Any:
        """{"answers": a list, "words": [[start, end, probability to start, probability to end], ...]}."""
        answers = super().result()
        reported = [word for word in self._words.values() if word[2].max() >= LOWEST]
        words = sorted([start, end, *both.tolist()] for start, end, both in reported)
        return {"answers": answers if isinstance(answers, list) else [answers], "words": words}


class Job:
    """A question in the queue: its remaining windows, what was found so far, and the answer in JSON to come."""

    def __init__(self, windows: Iterator[Encoding], search: Search) -> None:
        self.windows = pairwise(chain[Any](windows, [None]))  # each with the next, the last with None
        self.search = search
        self.answer: Future[str] = Future()


class Batcher:
    """The queue of jobs, and the thread that computes them."""

    def __init__(self, qa: QuestionAnswerer) -> None:
        self._qa = qa
        self._jobs: deque[Job] = deque()
        self._arrived = asyncio.Event()

    def put(self, job: Job) -> None:
        """Queue a job. It is dropped if job.answer is cancelled before its turn."""
        self._jobs.append(job)
        self._arrived.set()

    async def run(self) -> None:
        """Make forward passes while there are jobs, then wait for the next job."""
        with ThreadPoolExecutor(1) as thread:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while self._jobs:
                    await asyncio.get_running_loop().run_in_executor(thread, self._pass)

    def _pass(self) -> None:
        """Make one forward pass. An error in it is the answer to all its jobs."""
        jobs: set[Job] = set()
        try:
            batch, n_tokens = [], 0
            while self._jobs and n_tokens < BATCH_TOKENS:
                job = self._jobs.popleft()
                if job.answer.done():  # cancelled, or failed in a pass before
                    continue
                jobs.add(job)
                window, following = next(job.windows)
                batch.append((job, window, following is None))
                n_tokens += len(window)
                if following is not None:
                    self._jobs.append(job)
            logits = self._qa.logits([window.ids for _, window, _ in batch]) if batch else []
            for (job, window, last), (start_logits, end_logits) in zip(batch, logits, strict=True):
                job.search.add(window, start_logits, end_logits)
                if last:
                    answer = json.dumps(job.search.result())
                    if job.answer.set_running_or_notify_cancel():
                        job.answer.set_result(answer)
        except Exception as error:
            for job in jobs:
                if not job.answer.done() and job.answer.set_running_or_notify_cancel():
                    job.answer.set_exception(error)
