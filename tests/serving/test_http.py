"""The application over HTTP: MLflow's protocol, and every bad input refused with a code and a reason."""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from dataclasses import replace

import jsonschema
import numpy as np
import pytest

from gen.serve import PARAM_FIELDS, ROW_FIELDS
from tests.serving.running import SHAPE, Models, hosted, model, png, running

IMAGE = np.random.default_rng(0).integers(0, 256, SHAPE[1:], np.uint8)
LISTS = IMAGE.tolist()
HEIGHT, WIDTH = SHAPE[1:]


@pytest.fixture(scope="module")
def vae():
    with running(Models(**{"1": hosted(model("vae"))})) as server:
        yield server.client


@pytest.fixture(scope="module")
def pixelcnn():
    with running(Models(**{"1": hosted(model("pixelcnn"))})) as server:
        yield server.client


# ---- what is answered ----------------------------------------------------------------------------------------------

SAME = [
    {"dataframe_split": {"columns": ["task", "count"], "data": [["sample", 2], ["sample", 1]]}},
    {"dataframe_split": {"index": [7, 3], "columns": ["count"], "data": [[2], [1]]}},
    {"dataframe_records": [{"count": 2}, {"task": "sample", "count": None, "label": None}]},
    {"instances": [{"count": 2}, {}]},
    {"inputs": {"count": [2, 1]}},
    {"inputs": [{"count": 2.0}, {"count": 1}]},
]


@pytest.mark.parametrize("body", SAME, ids=lambda body: next(iter(body)))
def test_every_form_of_the_protocol_says_the_same(vae, body):
    reply = vae.post(body | {"params": {"seed": 4}})
    assert reply.status == 200, reply.body
    assert list(reply.body) == ["predictions"]
    assert reply.body["predictions"] == vae.predictions([{"count": 2}, {}], seed=4)
    assert reply.headers["x-model-version"] == "1"


def test_a_row_of_scalars_and_missing_params(vae):
    assert vae.post({"inputs": {"count": 2}}).body == vae.post({"inputs": [{"count": 2}], "params": None}).body


def test_all_tasks_in_one_request(vae):
    rows = [{"count": 2}, *({"task": task, "image": png(IMAGE)} for task in ("score", "encode", "reconstruct"))]
    sample, score, code, rebuilt = vae.predictions(rows, seed=1)
    assert len(sample["images"]) == 2
    assert score["estimator"] == "iwae_500" and score["kind"] == "lower bound" and score["nats"] < 0
    assert len(code["code"]) == 3
    assert base64.b64decode(rebuilt["image"]).startswith(b"\x89PNG")


def test_a_data_url_is_base64_too(vae):
    row = {"task": "encode", "image": f"data:image/png;base64,{png(IMAGE)}"}
    assert vae.predictions([row]) == vae.predictions([{"task": "encode", "image": png(IMAGE)}])


def test_the_small_pages(vae):
    for path in ("/ping", "/health"):
        assert vae.ask("GET", path).status == 200
    version = vae.ask("GET", "/version").body
    assert version["model"] == "toy" and version["version"] == "1" and version["weights"] == "1" * 64


# ---- what is refused -----------------------------------------------------------------------------------------------


def bomb(width: int, height: int) -> str:
    """A PNG of few bytes whose header promises many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * 1000)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return base64.b64encode(content).decode()


def damaged() -> str:
    content = bytearray(base64.b64decode(png(IMAGE)))
    content[-20] ^= 1
    return base64.b64encode(content).decode()


def score(image, **more):
    return {"dataframe_records": [{"task": "score", "image": image, **more}]}


def params(**given):
    return {"dataframe_records": [{}], "params": given}


BAD = {
    "not JSON": (b"{", "body: found 1 bytes that are not JSON"),
    "not UTF-8": (b'"\xff"', "not JSON"),
    "nothing": (b"", "not JSON"),
    "nested deeply": (b"[" * 100_000, "nested too deeply"),
    "a list": ([], r"found \[\]\. Send an object with one of: dataframe_split"),
    "no rows": ({"params": {}}, "found no rows"),
    "two forms": ({"inputs": {}, "instances": []}, "found inputs, instances. Send exactly one"),
    "unknown key": ({"dataframe_record": []}, "Did you mean 'dataframe_records'"),
    "params of another kind": ({"instances": [{}], "params": [1]}, r"params: found \[1\]"),
    "split without columns": ({"dataframe_split": {"data": [[1]]}}, "Send an object of columns and data"),
    "split: columns": ({"dataframe_split": {"columns": "count", "data": []}}, "Send a list of names"),
    "split: a column twice": ({"dataframe_split": {"columns": ["count"] * 2, "data": []}}, "every name once"),
    "split: data": ({"dataframe_split": {"columns": ["count"], "data": {}}}, "Send a list of rows"),
    "split: a short row": ({"dataframe_split": {"columns": ["count"], "data": [[1], []]}}, r"row 1: found \[\]"),
    "records: an object": ({"dataframe_records": {"count": 1}}, "Send a list of objects"),
    "records: a number": ({"dataframe_records": [{}, 3]}, "row 1: found 3"),
    "inputs: a number": ({"inputs": 3}, "Send an object of columns"),
    "inputs: unequal": ({"inputs": {"count": [1, 2], "task": ["sample"]}}, "count: 2, task: 1"),
    "inputs: mixed": ({"inputs": {"count": [1], "task": "sample"}}, "task: no list"),
    "no row": ({"instances": []}, "rows: found 0, allowed 1 to 10,000"),
    "too many rows": ({"instances": [{}] * 10_001}, "rows: found 10001"),
    "too many images": ({"instances": [{"count": 9_999}, {"count": 2}]}, "found 10,001 images in all"),
    "unknown column": ({"instances": [{"cuont": 1}]}, "'cuont': unknown.*Did you mean 'count'"),
    "unknown task": ({"instances": [{"task": "smaple"}]}, "'smaple', allowed:.*Did you mean 'sample'"),
    "task of another kind": ({"instances": [{"task": 3}]}, "task: found 3"),
    "a task it cannot do": (
        {"instances": [{"task": "complete", "image": LISTS, "mask": LISTS}]},
        "cannot do 'complete'. It can: sample, score, encode, reconstruct",
    ),
    "count 0": ({"instances": [{"count": 0}]}, "row 0: count: found 0, allowed whole numbers from 1"),
    "count 1.5": ({"instances": [{"count": 1.5}]}, "count: found 1.5"),
    "count true": ({"instances": [{"count": True}]}, "count: found True"),
    "count in words": ({"instances": [{"count": "two"}]}, "count: found 'two'"),
    "count huge": ({"instances": [{"count": 10**400}]}, "count: found 1000000"),
    "count infinite": (b'{"instances": [{"count": Infinity}]}', "count: found inf"),
    "count of images sent": (score(LISTS, count=2), "'score' does one image a row"),
    "label": ({"instances": [{"label": 3}]}, "this model takes no labels"),
    "label for another task": (score(LISTS, label=1), "label: 'score' takes image"),
    "image for sample": ({"instances": [{"image": LISTS}]}, "image: 'sample' takes count, label"),
    "no image": ({"instances": [{"task": "score"}]}, "image: missing. 'score' needs image"),
    "a mask without an image": ({"instances": [{"task": "score", "mask": LISTS}]}, "image: missing"),
    "a mask too many": (score(LISTS, mask=LISTS), "mask: 'score' takes image"),
    "image: a number": (score(3), "image: found 3. Send a base64 PNG, or nested lists"),
    "image: an object": (score({}), r"image: found \{\}"),
    "image: not base64": (score("no!"), "found 'no!', which is not base64"),
    "image: not ASCII": (score("ü" * 8), "not base64"),
    "image: no PNG": (score(base64.b64encode(b"GIF89a..").decode()), "begins with b'GIF89a..', allowed a PNG"),
    "image: cut short": (score(png(IMAGE)[:40]), "cannot be decoded"),
    "image: damaged": (score(damaged()), "damaged"),
    "image: a bomb": (score(bomb(50_000, 50_000)), "its size is 50000 x 50000, allowed are 1 to 1,048,576"),
    "image: too large": (score(png(np.zeros((9, 4)))), "found 9 x 4 pixels of 1 channel .grey., the model takes 8 x 4"),
    "image: colours": (score(png(np.zeros((8, 4, 3)))), "3 channels .colour., the model takes 8 x 4 pixels of 1"),
    "image: turned": (score(np.transpose(IMAGE).tolist()), "found 4 x 8 pixels"),
    "image: flat": (score([0] * 32), r"lists of shape \[32\], allowed \[H\]\[W\]"),
    "image: empty": (score([]), r"lists of shape \[0\]"),
    "image: ragged": (score([[0, 1], [2]]), "lists of unequal lengths"),
    "image: too deep": (score([[[[0]]]]), r"lists of shape \[1, 1, 1, 1\]"),
    "image: fractions": (score((IMAGE / 255).tolist()), "among the pixels"),
    "image: words": (score([["0"] * WIDTH] * HEIGHT), "found '0' among the pixels"),
    "image: gaps": (score([[None] * WIDTH] * HEIGHT), "found None among the pixels"),
    "image: mixed": (score([[0] * WIDTH] * (HEIGHT - 1) + [[0] * (WIDTH - 1) + ["x"]]), "among the pixels"),
    "image: 256": (score([[256] * WIDTH] * HEIGHT), "values from 256 to 256, allowed whole numbers from 0 to 255"),
    "image: -1": (score([[-1] * WIDTH] * HEIGHT), "values from -1"),
    "image: beyond all numbers": (score([[10**30] * WIDTH] * HEIGHT), "image: found 1000000000"),
    "image: true": (score([[True] * WIDTH] * HEIGHT), "found true and false"),
    "unknown param": (params(tempreature=1), "Did you mean 'temperature'"),
    "temperature 0": (params(temperature=0), "temperature: found 0, allowed numbers from 0.001 to 1000"),
    "temperature -1": (params(temperature=-1), "temperature: found -1"),
    "temperature 1e300": (params(temperature=1e300), "temperature: found 1e.300"),
    "temperature infinite": (b'{"instances": [{}], "params": {"temperature": Infinity}}', "temperature: found inf"),
    "temperature in words": (params(temperature="warm"), "temperature: found 'warm'"),
    "temperature true": (params(temperature=True), "temperature: found True"),
    "seed 1.5": (params(seed=1.5), "seed: found 1.5"),
    "seed of 70 bits": (params(seed=2**70), "seed: found"),
    "seed in words": (params(seed="x"), "seed: found 'x'"),
    "format": (params(format="pgn"), "found 'pgn', allowed: png, array. Did you mean 'png'"),
    "format of another kind": (params(format=[]), r"format: found \[\]"),
}
MASKS = {
    "missing": (None, "mask: missing. 'complete' needs image and mask"),
    "another size": ([[1]], "mask: found 1 x 1 pixels"),
    "words": ([["a"] * WIDTH] * HEIGHT, "mask: found 'a' among the pixels"),
    "not an image": (True, "mask: found True"),
}


def refused(client, body, reason, *, status=400, code="INVALID_PARAMETER_VALUE"):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = client.ask("POST", "/invocations", content)
    assert reply.status == status, reply.body
    assert reply.body.keys() == {"error_code", "message"}
    assert reply.body["error_code"] == code
    assert re.search(reason, reply.body["message"]), reply.body["message"]
    assert len(reply.body["message"]) < 500


@pytest.mark.parametrize("case", BAD)
def test_a_bad_request_is_refused_with_a_reason(vae, case):
    refused(vae, *BAD[case])


@pytest.mark.parametrize("case", MASKS)
def test_a_bad_mask_is_refused_with_a_reason(pixelcnn, case):
    mask, reason = MASKS[case]
    refused(pixelcnn, {"instances": [{"task": "complete", "image": LISTS, "mask": mask}]}, reason)


@pytest.mark.parametrize("kind", [None, "text/csv", "application/json; charset=latin-1", "multipart/form-data"])
def test_only_json_is_read(vae, kind):
    reply = vae.ask("POST", "/invocations", b"{}", kind)
    assert (reply.status, reply.body["error_code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


def test_utf_8_may_be_said(vae):
    assert vae.ask("POST", "/invocations", b'{"instances": [{}]}', "application/json; charset=UTF-8").status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/invocations", 405), ("POST", "/", 405), ("GET", "/nowhere", 404), ("DELETE", "/schema", 405)],
)
def test_other_paths_and_methods_are_named(vae, method, path, status):
    reply = vae.ask(method, path)
    assert reply.status == status
    assert f"{method} {path}" in reply.body["message"] and "POST /invocations" in reply.body["message"]


def test_after_all_that_it_answers_as_before(vae):
    assert len(vae.predictions([{"count": 3}])[0]["images"]) == 3


# ---- the schema ----------------------------------------------------------------------------------------------------


def test_the_schema_agrees_with_what_is_answered_and_refused(vae, pixelcnn):
    schema = vae.ask("GET", "/schema").body
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    assert schema["tasks"] == ["sample", "score", "encode", "reconstruct"]
    for body in (score(png(IMAGE)), score(LISTS), score(IMAGE[..., None].tolist()), params(seed=1, temperature=0.5)):
        check.validate(body)
        assert vae.post(body).status == 200
    told = ("count 0", "count 1.5", "unknown task", "no image", "image: 256", "image: flat", "temperature 0", "format")
    for case in (*told, "unknown column", "unknown param", "a task it cannot do", "label", "image: too deep"):
        body = BAD[case][0]
        records = {"dataframe_records": body["instances"]} if "instances" in body else body
        with pytest.raises(jsonschema.ValidationError):
            check.validate(records)
    complete = pixelcnn.ask("GET", "/schema").body
    row = {"task": "complete", "image": LISTS, "mask": (IMAGE > 9).tolist()}
    jsonschema.validate({"dataframe_records": [row]}, complete)
    assert pixelcnn.predictions([row])


def test_the_schema_has_all_fields_and_their_defaults(vae):
    properties = vae.ask("GET", "/schema").body["properties"]
    for fields, found in (
        (ROW_FIELDS, properties["dataframe_records"]["items"]["properties"]),
        (PARAM_FIELDS, properties["params"]["properties"]),
    ):
        assert list(found) == [field.name for field in fields]
        assert {name: body["default"] for name, body in found.items() if "default" in body} == {
            field.name: field.default for field in fields if field.default is not None
        }


# ---- the page ------------------------------------------------------------------------------------------------------


def test_the_page_runs_its_own_script_and_nothing_else(vae):
    reply = vae.ask("GET", "/")
    text = reply.body.decode()
    assert reply.status == 200 and "<h1>VAE</h1>" in text and "toy@champion" in text
    (nonce,) = re.findall(r"script-src 'nonce-([^']+)'", reply.headers["content-security-policy"])
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert text.count(f'nonce="{nonce}"') == text.count("<script") + text.count("<style")
    assert nonce not in vae.ask("GET", "/").body.decode()
    assert not re.search(r"(src|href)=\"(https?:)?//", text)


def test_a_card_is_shown_and_cannot_run(vae):
    found = replace(hosted(model("vae")), card="<h1>Card</h1><script>alert(1)</script>", name="</script><b>")
    with running(Models(**{"1": found})) as server:
        text = server.client.ask("GET", "/").body.decode()
        card = server.client.ask("GET", "/card")
    assert "</script><b>" not in text and re.search(r'<iframe src="/card"[^>]* sandbox>', text)
    assert card.body.decode() == found.card
    assert "script-src" not in (policy := card.headers["content-security-policy"]) and "default-src 'none'" in policy
    assert "<iframe" not in vae.ask("GET", "/").body.decode()
    assert vae.ask("GET", "/card").body["error_code"] == "RESOURCE_DOES_NOT_EXIST"
