"""Requests to a trained model, and its answers: what the served model and ``gen serve`` share.

A request is rows and params. A row asks for one thing - draw images, score one, encode, reconstruct, complete or
translate it, go on with a video - and what a model can be asked is what it has a capability for (:mod:`gen.model`).

    schema      what rows and params may hold
    images      pictures in the words of JSON: base64 PNG or nested lists
    requests    rows and params, checked
    parts       what the model does with images, and whether to several at once
    answers     a model that answers
    turn        who may call a model

    answerer = Answerer(load_model(path).model)
    answerer([{"task": "sample", "count": 2}, {"task": "score", "image": "iVBOR..."}], {"seed": 1})
    # [{"images": ["iVBOR...", "iVBOR..."]}, {"nats": -91.3, "bits_per_dim": 0.168, "estimator": "iwae_500", ...}]

Equal requests have equal answers. The randomness of a row comes from (seed, number of the row) alone, so what else is
in the request, or is asked at the same time, changes nothing.
"""

from gen.serve.answers import Answerer, Piece
from gen.serve.errors import RequestError
from gen.serve.requests import Request, parse_request
from gen.serve.schema import PARAM_FIELDS, ROW_FIELDS, TASKS, Field, json_schema, tasks_of
from gen.serve.turn import TURN

__all__ = [
    "PARAM_FIELDS",
    "ROW_FIELDS",
    "TASKS",
    "TURN",
    "Answerer",
    "Field",
    "Piece",
    "Request",
    "RequestError",
    "json_schema",
    "parse_request",
    "tasks_of",
]
