"""The queue: windows of all waiting requests go through the model together.

Texts are tokenized in threads beside the event loop, and one more thread runs the forward passes, one after another.
New requests take turns with those that have windows left: a pass takes one window of each, up to BATCH_TOKENS. Only if
no other request waits does it take more, up to FILL_TOKENS for each core. So requests that come together are computed
together, and a short question waits for one window of a long document at most, however many that has.
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
from starlette.exceptions import HTTPException

from ..documents import PassageSpans, Ranking
from ..qa import QuestionAnswerer, Search
from ..runtime.threads import n_cores
from ..tokenizer import Encoding

BATCH_TOKENS = 2048  # of one forward pass
FILL_TOKENS = 192  # a core takes about as long for them as two cores for a window of 384 tokens
ANSWER_CHARACTERS, ANSWERS_CHARACTERS = 10_000, 100_000  # of one answer, and of all that a request gets
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
        """{"answers": a list, "no_answer": the score of "no answer", "words": [[start, end, probability to
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

    def finish(self) -> None:
        """Give the answer. Raises HTTPException if it is too long: answers overlap, and one may be the whole text."""
        lengths = [end - start for _, start, end in self.search.best()] if isinstance(self.search, Search) else [0]
        if max(lengths) > ANSWER_CHARACTERS or sum(lengths) > ANSWERS_CHARACTERS:
            most = f"{ANSWER_CHARACTERS} characters, and all together {ANSWERS_CHARACTERS}"
            raise HTTPException(422, f"An answer has {max(lengths)} characters. One may have {most}.")
        answer = json.dumps(self.search.result())
        if self.answer.set_running_or_notify_cancel():
            self.answer.set_result(answer)

    def fail(self, error: Exception) -> None:
        """Give an error for an answer."""
        if not self.answer.done() and self.answer.set_running_or_notify_cancel():
            self.answer.set_exception(error)


class Batcher:
    """The queue of jobs, and the thread that computes them."""

    def __init__(self, qa: QuestionAnswerer) -> None:
        self._qa = qa
        self._new: deque[Job] = deque()
        self._begun: deque[Job] = deque()
        self._turn = self._begun  # of which of the two the last pass was
        self._fill_tokens = FILL_TOKENS * n_cores()
        self._arrived = asyncio.Event()

    def put(self, job: Job) -> None:
        """Queue a job. It is dropped if job.answer is cancelled before its turn."""
        self._new.append(job)
        self._arrived.set()

    async def run(self) -> None:
        """Run forward passes while there are jobs, then wait for the next job."""
        with ThreadPoolExecutor(1) as thread:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while self._new or self._begun:
                    await asyncio.get_running_loop().run_in_executor(thread, self._pass)

    def _pass(self) -> None:
        """Run one forward pass. If it fails, the error is the answer to all its jobs."""
        batch: list[tuple[Job, Encoding | None, bool]] = []  # each window, and whether it is the job's last
        n_tokens = 0

        def take(queue: deque[Job]) -> None:
            """The next window of the first job in a queue."""
            nonlocal n_tokens
            job = queue.popleft()
            if job.answer.done():  # cancelled, or failed in a pass before
                return
            try:
                window, following = next(job.windows, (None, None))  # a text without tokens has no passages
            except Exception as error:
                job.fail(error)
                return
            batch.append((job, window, following is None))
            n_tokens += 0 if window is None else len(window)
            if following is not None:
                self._begun.append(job)

        try:
            if (self._turn is self._begun and self._new) or not self._begun:
                self._turn, other = self._new, self._begun
            else:
                self._turn, other = self._begun, self._new
            others_wait = bool(other)
            for _ in range(len(self._turn)):
                if n_tokens < BATCH_TOKENS:
                    take(self._turn)
            while self._begun and not others_wait and n_tokens < self._fill_tokens:
                take(self._begun)
            windows = [window.ids for _, window, _ in batch if window is not None]
            logits = iter(self._qa.logits(windows) if windows else [])
        except Exception as error:
            for job, _, _ in batch:
                job.fail(error)
            return
        for job, window, last in batch:
            try:
                if window is not None:
                    job.search.add(window, *next(logits))
                if last:
                    job.finish()
            except Exception as error:
                job.fail(error)
