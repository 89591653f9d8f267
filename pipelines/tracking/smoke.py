"""The smoke test of a version: it loads as MLflow loads it, and answers one request of each kind it can be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gen.data.spaces import DataSpec
from gen.errors import GenError
from gen.serve import TASKS

DRAWN = 2


class SmokeError(GenError):
    """A version that does not load, or does not answer what it must. It has no alias."""

    exit_code = 5


def try_out(model: Any, spec: DataSpec, tasks: Sequence[str]) -> None:
    """Ask a loaded pyfunc for everything it can do.

    Args:
        model: as MLflow loaded it.
        spec: of the model inside.
        tasks: what the model can be asked; see :func:`gen.serve.tasks_of`.

    Raises:
        SmokeError: an answer is not what the task promises.
    """
    import pandas as pd  # type: ignore[import-untyped]

    for task in tasks:
        try:
            (answer,) = model.predict(pd.DataFrame([example(task, spec)]), params={"seed": 0, "format": "array"})
        except Exception as error:
            raise SmokeError(f"'{task}' fails: {type(error).__name__}: {error}") from error
        if (problem := _problem(task, answer, spec)) is not None:
            raise SmokeError(f"'{task}' answers {problem}")


def example(task: str, spec: DataSpec) -> dict[str, Any]:
    """A row that asks for a task, where it needs one with a picture of a slope, the upper half of it known."""
    channels, height, width = spec.shape
    slope = np.linspace(0, 255, width).astype(int)
    columns = {
        "count": DRAWN,
        "image": np.broadcast_to(slope[None, :, None], (height, width, channels)).tolist(),
        "mask": (np.arange(height)[:, None] < height // 2).repeat(width, 1).tolist(),
    }
    wanted = TASKS[task]
    return {"task": task, **{name: columns[name] for name in (*wanted.needs, *wanted.takes) if name in columns}}


def _problem(task: str, answer: Mapping[str, Any], spec: DataSpec) -> str | None:
    """What is wrong with an answer."""
    if set(answer) != set(TASKS[task].answer):
        return f"with {', '.join(answer) or 'nothing'}; promised are {', '.join(TASKS[task].answer)}"
    channels, height, width = spec.shape
    pictures = answer["images"] if "images" in answer else [answer["image"]] if "image" in answer else []
    if task == "sample" and len(pictures) != DRAWN:
        return f"with {len(pictures)} images; asked for were {DRAWN}"
    for picture in pictures:
        shape = np.asarray(picture).shape
        if shape[:2] != (height, width) or (task != "translate" and shape[2] != channels):
            return f"with an image of the shape {shape}; the model's are {(height, width, channels)}"
    if task == "encode" and not np.isfinite(answer["code"]).all():
        return "with a code that is not finite"
    return None
