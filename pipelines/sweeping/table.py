"""A sweep on the terminal: a live table of its trials, or plain lines where there is no terminal."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipelines.sweeping.canvas import better, number
from pipelines.sweeping.ledger import Spent
from pipelines.sweeping.parallel import word
from pipelines.sweeping.spaces import Sweep
from pipelines.sweeping.trial import Trial

STYLES = {"running": "cyan", "finished": "green", "pruned": "yellow", "failed": "red", "killed": "magenta"}
AROUND = 7  # lines of the terminal that are not trials
LEAST_ROWS = 3
FIXED, PER_VALUE = 46, 12  # letters of a row beside the values, and of a value
NARROW = 50  # letters below which there is no room for values


class LiveTable:
    """Shows a sweep until the ``with`` block ends, on stderr; stdout is for results.

    Args:
        sweep: what is varied and looked for.
        budget: images of a trial that is not stopped early.
        trials: how many there are to be in all.
        console: where to; stderr unless a test says otherwise.
    """

    def __init__(self, sweep: Sweep, *, budget: int, trials: int, console: Console | None = None) -> None:
        self.sweep, self.budget, self.total = sweep, budget, trials
        self.console = console or Console(stderr=True)
        self.began = time.monotonic()
        self.trials: Mapping[int, Trial] | None = None
        self.best: Trial | None = None
        self.spent = Spent(0, 0.0)
        self.live = Live(
            console=self.console,
            get_renderable=self.render,
            auto_refresh=False,  # drawn when there is news, by whoever brings it: no thread, no flicker
            redirect_stdout=False,
            vertical_overflow="crop",
        )

    def __enter__(self) -> LiveTable:
        if self.console.is_terminal:
            self.live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self.live.stop()
        elif self.trials is not None:
            self._say(self._standing())

    def update(self, trials: Mapping[int, Trial], *, best: Trial | None, spent: Spent) -> None:
        """Show how the sweep stands now.

        Args:
            trials: all there are, by number.
            best: the best one of them.
            spent: what they have cost together.
        """
        before, self.trials, self.best, self.spent = self.trials, dict(trials), best, spent
        if self.console.is_terminal:
            self.live.refresh()
        elif before is not None:
            for trial in trials.values():
                for line in self._news(before.get(trial.number), trial):
                    self._say(line)
        elif any(trial.state != "waiting" for trial in trials.values()):
            self._say(f"going on: {self._standing()}")

    def refresh(self) -> None:
        """Draw again: time has passed, or the terminal has another size."""
        if self.console.is_terminal:
            self.live.refresh()

    # ---- plain lines -------------------------------------------------------------------------------------------------

    def _say(self, text: str) -> None:
        print(f"{self.sweep.recipe}: {text}", file=self.console.file, flush=True)

    def _news(self, before: Trial | None, trial: Trial) -> list[str]:
        """What happened to a trial since it was last seen."""
        name, lines = f"trial {trial.number}", []
        state = "waiting" if before is None else before.state
        if before is not None and before.values != trial.values:
            lines.append(f"{name} goes on from other weights with {self._values(trial)}")
        if trial.state == "running" and state != "running":
            lines.append(f"{name} started: {self._values(trial)}")
        for images, value in trial.curve[len(before.curve) if before is not None else 0 :]:
            first = "  (best so far)" if self.best is not None and self.best.number == trial.number else ""
            lines.append(f"{name}: {self._objective(value)} at {images:,} of {self.budget:,} images{first}")
        if trial.state not in ("waiting", "running", state):
            why = f": {trial.error}" if trial.error else ""
            lines.append(f"{name} {trial.state} after {trial.images:,} images, {trial.seconds:,.0f} s{why}")
        return lines

    def _values(self, trial: Trial) -> str:
        return ", ".join(f"{key} {word(value)}" for key, value in trial.values.items()) or "the recipe as it stands"

    def _objective(self, value: float) -> str:
        return f"{self.sweep.objective.name} {f'{value:.5g}' if math.isfinite(value) else 'not finite'}"

    def _standing(self) -> str:
        """The sweep in a line."""
        best = "" if self.best is None else f"; best {self._objective(self.best.value)}, trial {self.best.number}"
        counts = Counter(trial.state for trial in (self.trials or {}).values())
        states = ", ".join(f"{count} {state}" for state, count in counts.items())
        return f"{self.total} trials: {states}; {self.spent.images:,} images{best}"

    # ---- the table ---------------------------------------------------------------------------------------------------

    def render(self) -> RenderableType:
        """The sweep as it stands, for the terminal as it is."""
        trials = list((self.trials or {}).values())
        shown, folded = self._rows(trials)
        keys, width = list(self.sweep.space), self.console.width
        tails = [key.rpartition(".")[2] for key in keys]
        wide = width >= FIXED + PER_VALUE * len(keys)
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=not wide)
        table.add_column("trial", justify="right")
        table.add_column("state", no_wrap=True)
        for tail in tails if wide else []:
            table.add_column(tail, justify="right", no_wrap=True)
        if not wide and width >= NARROW:
            table.add_column(", ".join(tails), no_wrap=True, ratio=1)
        for name in (self.sweep.objective.name, "images", *(["seconds"] if wide else [])):
            table.add_column(name, justify="right", no_wrap=True)
        for trial in shown:
            values = [word(trial.values[key]) if key in trial.values else "-" for key in keys]
            brief = [", ".join(values) if trial.values else "the recipe as it stands"] if width >= NARROW else []
            table.add_row(
                str(trial.number),
                Text(trial.state, STYLES.get(trial.state, "dim")),
                *(values if wide else brief),
                "" if not trial.curve else number(trial.value) if math.isfinite(trial.value) else "not finite",
                f"{number(trial.images)} / {number(self.budget)}" if wide else f"{trial.images / self.budget:.0%}",
                *([f"{trial.seconds:,.0f}"] if wide else []),
                style="bold" if self.best is not None and trial.number == self.best.number else "",
            )
        counts = Counter(trial.state for trial in folded)
        more = ", ".join(f"{count} {state}" for state, count in counts.items())
        return Group(self._header(trials), table, *([Text(f"and {more}", "dim")] if folded else []))

    def _header(self, trials: Sequence[Trial]) -> Text:
        over = sum(trial.state in ("finished", "pruned", "failed") for trial in trials)
        objective = self.sweep.objective
        text = Text(overflow="ellipsis", no_wrap=True)
        text.append(self.sweep.recipe, "bold")
        best = "nothing yet" if self.best is None else f"{number(self.best.value)} (trial {self.best.number})"
        text.append(f"  best {objective.name} {best}", "bold")
        text.append(f"  {over} of {self.total} trials", "")
        text.append(
            f"  {number(self.spent.images)} images  {_clock(time.monotonic() - self.began)}  {better(objective)}", "dim"
        )
        return text

    def _rows(self, trials: Sequence[Trial]) -> tuple[list[Trial], list[Trial]]:
        """Those that fit, in the order of their numbers: running ones and the best; and the rest."""
        room = max(self.console.height - AROUND, LEAST_ROWS)

        def rank(trial: Trial) -> tuple[int, bool, float, int]:
            best = self.best is not None and trial.number == self.best.number
            order = 0 if best else 1 if trial.state == "running" else 3 if trial.state == "waiting" else 2
            loss = self.sweep.objective.loss(trial.value)
            return order, trial.state != "finished", loss if math.isfinite(loss) else math.inf, trial.number

        ranked = sorted(trials, key=rank)
        return sorted(ranked[:room], key=lambda trial: trial.number), ranked[room:]


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes}:{seconds:02}"
