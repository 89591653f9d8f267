"""How long it takes to go on in the middle of an epoch: to the first batch from there, with everything opened anew.

Ours computes where it is. WebDataset and torch's DataLoader have nothing but to read up to there and throw it away;
for the latter it is one epoch of the same generator. LitData restores the state that it saved.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

from benchmarks.data.cases import Case
from benchmarks.data.clock import call_rate, in_turns
from benchmarks.data.readers import Passes, folder, litdata_loader, webdataset
from gen.data.loader import Loader, arrange
from gen.data.order import indices
from gen.data.reader import open_split


def compare(case: Case, batch: int, rounds: int) -> dict[str, float]:
    """Seconds to the first batch from the middle of the epoch."""
    calls = {name: lambda call=call: call_rate(1, call) for name, call in _first_batch(case, batch).items()}
    return {name: 1 / rate.wall for name, rate in in_turns(calls, rounds).items()}


def _first_batch(case: Case, batch: int) -> dict[str, Callable[[], Any]]:
    position = len(case.files) // 2 // batch * batch

    def ours() -> Any:
        reader = open_split(case.shards, "train", resident_bytes=0)
        order = arrange(reader, "shuffle", seed=int(time.time()))  # none that an earlier call has left in memory
        return next(Loader(reader, order, batch=batch, parts=(0,), of=1, position=position))

    def skipping(peer: Callable[[Case, int, int], Passes]) -> Callable[[], Any]:
        return lambda: next(itertools.islice(iter(peer(case, batch, 0)()), position // batch, None))

    found = {"ours": ours, "webdataset": skipping(webdataset), "folder": skipping(folder)}
    if case.chunks.exists():
        loader = litdata_loader(case, batch, 0)
        for _ in itertools.islice(loader, position // batch):
            pass
        state = loader.state_dict()

        def litdata() -> Any:
            again = litdata_loader(case, batch, 0)
            again.load_state_dict(state)
            return next(iter(again))

        found["litdata"] = litdata
    return found


def order_seconds(samples: int) -> float:
    """Seconds to find a batch in the middle of an epoch of so many samples: what of it grows with the data."""
    start = time.perf_counter()
    indices(time.time_ns() % 2**32, samples // 2, 64, samples)
    return time.perf_counter() - start
