"""The model as MLflow loads it: rows of data frames with gaps, dictionaries, and refusals that a server makes 400."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from gen.data.decoding import decode
from gen.serve import Answerer
from gen.store import save_model
from tests.serving.running import HYPER, SHAPE, images, model, png

IMAGE = images(1)[0]
pytestmark = pytest.mark.filterwarnings("ignore:.*input example")


@pytest.fixture(scope="module")
def made():
    return model("vae")


@pytest.fixture(scope="module")
def loaded(made, tmp_path_factory):
    """Saved and loaded by MLflow, with the signature that the registry gives a version."""
    import pipelines.served
    from pipelines.tracking.registry import signature
    from pipelines.tracking.server import load_mlflow

    mlflow, place = load_mlflow(), tmp_path_factory.mktemp("served")
    (place / "model").mkdir()
    save_model(place / "model", made, name="vae", hyper=HYPER["vae"])
    mlflow.pyfunc.save_model(
        place / "pyfunc",
        python_model=pipelines.served.__file__,
        artifacts={"model": str(place / "model")},
        signature=signature(),
        pip_requirements=["mlflow"],
    )
    return mlflow.pyfunc.load_model(str(place / "pyfunc"))


def frames():
    import pandas as pd

    row = {"task": "score", "image": png(IMAGE)}
    return {
        "a dictionary of columns": ({"count": [2]}, [{"count": 2}]),
        "a dictionary of strings": ({"task": ["score"] * 2, "image": [png(IMAGE)] * 2}, [row, row]),
        "a frame": (pd.DataFrame({"count": [2, 3]}), [{"count": 2}, {"count": 3}]),
        "a frame with gaps": (pd.DataFrame([{"count": 2}, row]), [{"count": 2}, row]),
        "arrays": (pd.DataFrame([{"task": "encode", "image": IMAGE}]), [{"task": "encode", "image": png(IMAGE)}]),
        "an index": (pd.DataFrame({"count": [2, 1]}, index=[9, 4]), [{"count": 2}, {"count": 1}]),
        "labels of nothing": (pd.DataFrame({"count": [2], "label": [None]}), [{"count": 2}]),
    }


@pytest.mark.parametrize("case", list(frames()))
def test_what_pandas_can_say_is_understood(loaded, made, case):
    said, rows = frames()[case]
    assert loaded.predict(said, params={"seed": 7}) == Answerer(made)(rows, {"seed": 7})


def test_images_come_as_asked(loaded):
    (coded,) = loaded.predict({"count": [2]}, params={"seed": 0})
    (listed,) = loaded.predict({"count": [2]}, params={"seed": 0, "format": "array"})
    assert np.array(listed["images"]).shape == (2, *SHAPE[1:], 1)
    assert [decode(base64.b64decode(each), what="").tolist() for each in coded["images"]] == listed["images"]
    assert loaded.predict({"count": [2]})[0] == coded
    json.dumps(coded)


@pytest.mark.parametrize(
    ("columns", "params", "message"),
    [
        ({"count": [0]}, {}, "row 0: count: found 0"),
        ({"count": [1.5]}, {}, "count: found 1.5"),
        ({"task": ["sample", "paint"]}, {}, "row 1: task: found 'paint'"),
        ({"count": [1]}, {"temperature": -1.0}, "temperature: found -1"),
        ({"label": [3]}, {}, "takes no labels"),
        ({"number": [3]}, {}, "rows: found 0"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words(loaded, columns, params, message):
    with pytest.raises(Exception, match=message) as refusal:
        loaded.predict(columns, params=params)
    assert refusal.value.get_http_status_code() == 400
    assert refusal.value.error_code == "INVALID_PARAMETER_VALUE"
