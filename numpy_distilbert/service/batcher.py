"""The queue: windows of all waiting requests go through the model together.

Texts are tokenized in threads beside the event loop, and one more thread runs the forward passes, one after another.
A pass takes a window of each waiting request in turn until the batch has BATCH_TOKENS; requests that have windows left
go to the end of the queue. So a single request starts at once, and a long document does not hold up short questions.
"""

import asyncio
import json
import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, pairwise
from typing import Any

import numpy as np

from ..documents import PassageSpans, Ranking
from ..qa import QuestionAnswerer, Search
from ..tokenizer import Encoding

BATCH_TOKENS = 2048  # of one forward pass
LOWEST = 1e-4  # words less probable than this are not reported


class Words(Ranking):
    """A ranking of one text that also gives the probabilities that the answer starts, and ends, with each word."""

    def __init__(self, *arguments: Any) -> None:
        """See Ranking."""
        super().__init__(*arguments)
        self._words: dict[int, tuple[int, float, float]] = {}  # by start: end, log sums of exp(m) over their spans

    def take(self, passage: PassageSpans, repeated: int = 0) -> None:
        """See Ranking."""
        super().take(passage, repeated)
        spans = passage.margins
        starting, ending = np.logaddexp.reduce(spans, axis=1), np.full(len(spans), -np.inf)
        for k in range(min(spans.shape)):  # spans of a word and k more end k words after their first
            ending[k:] = np.logaddexp(ending[k:], spans[: len(spans) - k, k])
        for start, end, *sums in zip(passage.starts, passage.ends, starting, ending, strict=True):
            _, *before = self._words.get(int(start), (0, -np.inf, -np.inf))
            self._words[int(start)] = (int(end), *np.logaddexp(before, sums).tolist())

    def result(self) -> Any:
        """{"answers": a list, "no_answer": the probability that there is none, "words": [[start, end, probability to
        start, probability to end], ...]}.
        """
        found = super().result()
        words = [
            [start, end, *(math.exp(log_sum - self.log_sum) for log_sum in sums)]
            for start, (end, *sums) in sorted(self._words.items())
        ]
        reported = [word for word in words if max(word[2:]) >= LOWEST]
        return {"answers": found, "no_answer": found.no_answer, "words": reported}


class Job:
    """A question in the queue: its remaining windows, what has been found so far, and the future answer, in JSON."""

    def __init__(self, windows: Iterator[Encoding], search: Search | Ranking) -> None:
        self.windows = pairwise(chain[Any](windows, [None]))  # each with the next one, the last with None
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
        """Run forward passes while there are jobs, then wait for the next job."""
        with ThreadPoolExecutor(1) as thread:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while self._jobs:
                    await asyncio.get_running_loop().run_in_executor(thread, self._pass)

    def _pass(self) -> None:
        """Run one forward pass. If it fails, the error is the answer to all its jobs."""
        jobs: set[Job] = set()
        try:
            batch, n_tokens = [], 0
            while self._jobs and n_tokens < BATCH_TOKENS:
                job = self._jobs.popleft()
                if job.answer.done():  # cancelled, or failed in an earlier pass
                    continue
                jobs.add(job)
                window, following = next(job.windows, (None, None))  # a text without tokens has no passages
                batch.append((job, window, following is None))
                n_tokens += 0 if window is None else len(window)
                if following is not None:
                    self._jobs.append(job)
            windows = [window.ids for _, window, _ in batch if window is not None]
            logits = iter(self._qa.logits(windows) if windows else [])
            for job, window, last in batch:
                if window is not None:
                    job.search.add(window, *next(logits))
                if last:
                    answer = json.dumps(job.search.result())
                    if job.answer.set_running_or_notify_cancel():
                        job.answer.set_result(answer)
        except Exception as error:
            for job in jobs:
                if not job.answer.done() and job.answer.set_running_or_notify_cancel():
                    job.answer.set_exception(error)
