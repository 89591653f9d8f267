"""The registered model as MLflow serves it: rows of requests in, images out.

MLflow executes this file wherever the model is loaded, with the `gen` package that was stored beside it; nothing is
unpickled, and weights that are not byte for byte the registered ones are refused.

    curl localhost:5001/invocations -H 'Content-Type: application/json' \\
        -d '{"dataframe_split": {"columns": ["count"], "data": [[16]]}, "params": {"seed": 1}}'
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd  # type: ignore[import-untyped]
import torch
from mlflow.exceptions import MlflowException

from gen.model import Samples
from gen.store import load_model

LARGEST = 10_000
AT_ONCE = 250  # images drawn together: bounds the memory


class Sampler(mlflow.pyfunc.PythonModel):
    """Draws images. One row is one request; the answer holds the images of all rows, in order."""

    def load_context(self, context: Any) -> None:
        """Read the model onto ``MLFLOW_DEFAULT_PREDICTION_DEVICE`` (default: the CPU)."""
        self.device = torch.device(os.environ.get("MLFLOW_DEFAULT_PREDICTION_DEVICE", "cpu"))
        self.model = load_model(context.artifacts["model"], device=self.device).model
        self.turn = threading.Lock()  # requests share torch's default generator

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None
    ) -> npt.NDArray[np.uint8]:
        """Images, uint8, (N, H, W, C).

        Args:
            context: unused.
            model_input: a data frame with the column ``count`` and, for models that take labels, ``label``.
            params: ``seed`` (default 0): the same request with the same seed has the same answer.

        Raises:
            MlflowException: a request that cannot be met; the server answers 400 with the message.
        """
        model = self.model
        if not isinstance(model, Samples):
            raise _refused(f"{type(model).__name__} cannot draw images: it has no sampler.")
        counts = _counts(model_input)
        labels = self._labels(model_input, counts)
        parts = []
        with self.turn, torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(int((params or {}).get("seed", 0)))
            for start in range(0, sum(counts), AT_ONCE):
                size = min(AT_ONCE, sum(counts) - start)
                condition = None if labels is None else labels[start : start + size].to(self.device)
                images = model.spec.space.decode(model.sample(size, condition=condition))
                parts.append(images.permute(0, 2, 3, 1).cpu())
        return torch.cat(parts).numpy()

    def _labels(self, model_input: pd.DataFrame, counts: list[int]) -> torch.Tensor | None:
        """A label per image, int64, (N,)."""
        if "label" not in model_input or model_input["label"].isna().all():
            return None
        classes = self.model.spec.num_classes
        if not self.model.conditional:
            raise _refused(f"label: {type(self.model).__name__} takes no labels. Leave the column out.")
        given = model_input["label"]
        if given.isna().any() or not given.between(0, classes - 1).all() or (given % 1 != 0).any():
            raise _refused(f"label: found {given.tolist()}, allowed 0 to {classes - 1} in every row.")
        return torch.tensor(given.to_numpy(np.int64)).repeat_interleave(torch.tensor(counts))


def _counts(model_input: pd.DataFrame) -> list[int]:
    """The column ``count``, checked."""
    if "count" not in model_input:
        raise _refused(f"count: missing. Give a data frame with the column 'count'; found {list(model_input)}.")
    given = model_input["count"].tolist()
    if not given or not all(count >= 1 and count % 1 == 0 for count in given):
        raise _refused(f"count: found {given}, allowed whole numbers from 1. Ask for at least one image in every row.")
    counts = [int(count) for count in given]
    if sum(counts) > LARGEST:
        raise _refused(f"count: found {sum(counts)} images in all, allowed up to {LARGEST}. Ask several times.")
    return counts


def _refused(message: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(message)


mlflow.models.set_model(Sampler())
