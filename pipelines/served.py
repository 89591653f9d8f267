"""The registered model as MLflow serves it: rows of requests in, a list of answers out (see :mod:`gen.serve`).

MLflow executes this file wherever the model is loaded, with the `gen` package that was stored beside it; nothing is
unpickled, and weights that are not byte for byte the registered ones are refused.

    curl localhost:5001/invocations -H 'Content-Type: application/json' \\
        -d '{"dataframe_records": [{"task": "sample", "count": 16}], "params": {"seed": 1}}'
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import mlflow
import pandas as pd  # type: ignore[import-untyped]
from mlflow.exceptions import MlflowException

from gen.serve import Answerer, RequestError
from gen.store import load_model


class Served(mlflow.pyfunc.PythonModel):
    """Answers requests to one model."""

    def load_context(self, context: Any) -> None:
        """Read the model onto ``MLFLOW_DEFAULT_PREDICTION_DEVICE`` (default: the CPU)."""
        device = os.environ.get("MLFLOW_DEFAULT_PREDICTION_DEVICE", "cpu")
        self.answerer = Answerer(load_model(context.artifacts["model"], device=device).model)

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """An answer for each row.

        Args:
            context: unused.
            model_input: a data frame with columns of :data:`gen.serve.ROW_FIELDS`.
            params: see :data:`gen.serve.PARAM_FIELDS`.

        Raises:
            MlflowException: a request that cannot be met; the server answers 400 with the message.
        """
        try:
            return self.answerer(_rows(model_input), params)
        except RequestError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a data frame; gaps are ``None``."""
    if "task" in frame and len(frame) == 1 and isinstance(frame["task"].iloc[0], list):
        frame = frame.explode(list(frame))  # MLflow takes a dictionary whose columns are all strings for one row
    cells = frame.astype(object)
    return cells.where(cells.notna(), None).to_dict("records")


mlflow.models.set_model(Served())
