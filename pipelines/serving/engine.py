"""The thread that works: it alone calls models, one piece of work at a time, the requests in turn."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import chain, islice

from torch import Tensor

from gen.serve import Answerer, Piece, Request
from gen.serve.parts import WIDTH


@dataclass(eq=False)
class _Job:
    """A request in work."""

    answerer: Answerer
    future: Future[list[Tensor]]
    pieces: list[Piece]
    waiting: deque[Piece] = field(init=False)
    results: dict[Piece, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # What could be worked on together stands together.
        self.waiting = deque(sorted(self.pieces, key=lambda piece: piece.row.task))


class Engine:
    """Works on requests until it is closed.

    The requests take turns, a piece each. The one whose turn it is may bring company: pieces of the others that are
    worked on at the same time without changing a bit of any answer.
    """

    def __init__(self) -> None:
        self._jobs: deque[_Job] = deque()
        self._news = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def submit(self, answerer: Answerer, request: Request) -> Future[list[Tensor]]:
        """Put a request in the row; what is set is what :meth:`Answerer.answer` takes.

        A future that is cancelled has no more work done for it.
        """
        job = _Job(answerer, Future(), answerer.pieces(request))
        with self._news:
            if self._closing:
                raise RuntimeError("the engine is closed")
            self._jobs.append(job)
            self._news.notify()
        return job.future

    def close(self) -> None:
        """End when all that was submitted is done."""
        with self._news:
            self._closing = True
            self._news.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._jobs or self._closing)
                self._jobs = deque(job for job in self._jobs if not job.future.cancelled())
                if not self._jobs:
                    if self._closing:
                        return
                    continue
                jobs = [job for job in self._jobs if job.answerer is self._jobs[0].answerer]
                self._jobs.rotate(-1)
            self._turn(jobs)

    def _turn(self, jobs: list[_Job]) -> None:
        """A piece of the first job, and its company."""
        answerer = jobs[0].answerer
        owner = {piece: job for job in jobs for piece in islice(job.waiting, WIDTH)}
        try:
            together = answerer.company(list(owner))
            results = self._results(answerer, together)
        except Exception as error:
            self._done(jobs[0], error)
            return
        for piece, result in zip(together, results, strict=True):
            job = owner[piece]
            job.waiting.remove(piece)
            if isinstance(result, Exception):
                self._done(job, result)
            else:
                job.results[piece] = result
                if not job.waiting:
                    self._done(job, None)

    def _results(self, answerer: Answerer, together: list[Piece]) -> list[Tensor | Exception]:
        """The result of every piece, or what went wrong; company must not share a failure, either."""
        try:
            return list(answerer.work(together))
        except Exception as error:
            if len(together) == 1:
                return [error]
            return list(chain.from_iterable(self._results(answerer, [piece]) for piece in together))

    def _done(self, job: _Job, error: Exception | None) -> None:
        with self._news:
            if job in self._jobs:
                self._jobs.remove(job)
        if not job.future.done() and job.future.set_running_or_notify_cancel():
            if error is None:
                job.future.set_result([job.results[piece] for piece in job.pieces])
            else:
                job.future.set_exception(error)
