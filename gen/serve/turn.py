"""Whose turn it is: torch's default generator, from which all noise comes, is one for all threads of a process."""

from __future__ import annotations

import threading
from collections import deque


class Turn:
    """A lock that is handed on in the order of asking, so that a busy thread cannot keep the others out."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Event] = deque()

    def __enter__(self) -> None:
        with self._guard:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Event()
            self._waiting.append(mine)
        mine.wait()

    def __exit__(self, *_: object) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().set()  # it stays taken, by another
            else:
                self._taken = False


TURN = Turn()
"""Held by whoever calls a model, or builds one (its first weights are random): all else would draw from its stream."""
