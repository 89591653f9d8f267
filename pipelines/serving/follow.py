"""The model that is served, and the thread that looks for a newer one."""

from __future__ import annotations

import sys
import threading

from gen.errors import GenError
from pipelines.serving.sources import Hosted, Source


class Follower:
    """Serves what a source has newest.

    A newer version is fetched, checked, loaded and tried beside the one that serves; then they change places. If any
    of it fails, what serves goes on serving.

    Attributes:
        current: the model for requests that arrive now.
        refused: the newer version that could not be served; empty if there is none.
    """

    def __init__(self, source: Source, *, every: float | None) -> None:
        """Load the first one.

        Args:
            source: of models.
            every: seconds between two looks; ``None`` looks only when :meth:`look` is called.
        """
        self.source, self.every = source, every
        self.current: Hosted = self._ready(source.newest())
        self.refused = ""
        self._said = ""
        self._news = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Look now, not only when it is time; a version that was refused is given another chance."""
        self.refused = ""
        self._news.set()

    def close(self) -> None:
        """Stop looking. A version that is being loaded is forgotten."""
        self._ended.set()
        self._news.set()

    def _ready(self, version: str) -> Hosted:
        hosted = self.source.load(version)
        hosted.answerer.prepare()
        return hosted

    def _follow(self) -> None:
        while True:
            self._news.wait(self.every)
            self._news.clear()
            if self._ended.is_set():
                return
            version = self.current.version
            try:
                version = self.source.newest()
                if version == self.current.version:
                    self.refused = ""
                if version in (self.current.version, self.refused):
                    continue
                self.current, self.refused = self._ready(version), ""
                self._say(f"now serving version {version}")
            except GenError as error:
                self._complain(version, str(error))
            except Exception as error:
                self._complain(version, f"{type(error).__name__}: {error}")

    def _complain(self, version: str, reason: str) -> None:
        if version != self.current.version:
            self.refused = version  # it will not get better by trying every few seconds
            reason = f"version {version} is refused: {reason}"
        self._say(f"{reason} Version {self.current.version} goes on serving.")

    def _say(self, message: str) -> None:
        if message != self._said:
            print(f"{self.source.asked}: {message}", file=sys.stderr, flush=True)
        self._said = message
