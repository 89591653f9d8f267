"""Answers: a function of the request and its seed, whatever the company; and what evaluation would say."""

from __future__ import annotations

import base64
import itertools
import json

import numpy as np
import pytest
import torch

from gen.data.decoding import decode
from gen.data.spaces import DataSpec, Space
from gen.evaluate.likelihood import log_likelihoods
from gen.evaluate.seeds import fixed_seed
from gen.model import GenerativeModel, Likelihood
from gen.registry import list_models
from gen.serve import Answerer, RequestError
from gen.serve.parts import WIDTH
from tests.serving.running import SHAPE, images, model, png

HEIGHT, WIDTH_OF_IMAGE = SHAPE[1:]


def rows_of(answerer: Answerer, pixels: list[np.ndarray]) -> list[dict]:
    """A row of every task for every image."""
    rows: list[dict] = []
    for image, task in itertools.product(pixels, answerer.tasks):
        row = {"task": task} if task == "sample" else {"task": task, "image": png(image)}
        rows.append(row | ({"mask": (image > 99).tolist()} if task == "complete" else {}))
    return rows


@pytest.mark.parametrize("name", list_models())
def test_a_row_has_one_answer_whatever_else_is_asked(name):
    answerer = Answerer(model(name))
    rows = rows_of(answerer, images(5))
    together = answerer(rows, {"seed": 3})
    assert answerer(rows, {"seed": 3}) == together
    others = [{"task": answerer.tasks[0], **({"image": png(images(9)[8])} if answerer.tasks[0] != "sample" else {})}]
    for number, row in enumerate(rows):
        company = others * number + [row] + others * 3  # the same number of the row, other content around it
        assert answerer(company, {"seed": 3})[number] == together[number], row["task"]
    json.dumps(together, allow_nan=False)


@pytest.mark.parametrize("name", list_models())
def test_the_seed_decides_and_the_callers_generator_is_left_alone(name):
    answerer = Answerer(model(name))
    rows = rows_of(answerer, images(2))
    state = torch.get_rng_state()
    first = answerer(rows, {"seed": 1})
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    assert answerer(rows, {"seed": 1}) == first
    if "sample" in answerer.tasks:
        sample = rows.index({"task": "sample"})
        assert answerer(rows, {"seed": 2})[sample] != first[sample]


def test_rows_with_equal_content_have_their_own_noise():
    first, second = Answerer(model("vae"))([{}, {}])
    assert first != second


def test_many_images_are_drawn_in_pieces_of_different_noise():
    (answer,) = Answerer(model("vae"))([{"count": 600}], {"format": "array"})
    drawn = np.array(answer["images"])
    assert drawn.shape == (600, HEIGHT, WIDTH_OF_IMAGE, 1)
    assert len(np.unique(drawn.reshape(600, -1), axis=0)) > 590


def test_png_and_arrays_hold_the_same_pixels():
    answerer = Answerer(model("factor"))
    rows = [{"count": 3}, {"task": "reconstruct", "image": images(1)[0].tolist()}]
    as_png, as_array = (answerer(rows, {"format": form}) for form in ("png", "array"))
    pixels = [decode(base64.b64decode(each), what="").tolist() for each in as_png[0]["images"]]
    assert pixels == as_array[0]["images"]
    assert decode(base64.b64decode(as_png[1]["image"]), what="").tolist() == as_array[1]["image"]


@pytest.mark.parametrize("send", [png, lambda a: a.tolist(), lambda a: a[..., None].tolist(), lambda a: a])
def test_an_image_may_be_sent_in_every_form(send):
    answerer, image = Answerer(model("factor")), images(1)[0]
    assert answerer([{"task": "encode", "image": send(image)}]) == answerer([{"task": "encode", "image": png(image)}])


@pytest.mark.parametrize("name", ["factor", "vae", "rbm", "pixelcnn"])
def test_a_score_is_what_evaluation_finds(name):
    """Evaluation's stream and ours differ, so the images are black and white; what is left is the estimators' noise."""
    made = model(name, spread=0.1)
    black_and_white = [(image > 127).astype(np.uint8) * 255 for image in images(6)]
    found = Answerer(made)([{"task": "score", "image": png(image)} for image in black_and_white], {"seed": 5})
    x = made.spec.space.encode(torch.tensor(np.stack(black_and_white))[:, None])
    quoted = log_likelihoods(made, made.spec, x, seed=5)[-1]
    mean = np.mean([each["nats"] for each in found])
    tolerance = {"factor": 1.0, "vae": 0.1}.get(name, 1e-3)
    assert mean == pytest.approx(quoted.nats, abs=tolerance)
    assert {each["estimator"] for each in found} == {quoted.estimator}
    assert {each["kind"] for each in found} == {quoted.kind}
    for each in found:
        assert each["bits_per_dim"] == pytest.approx(made.spec.space.bits_per_dim(each["nats"], made.spec.dims))


def test_reconstruct_is_decode_of_encode_and_encode_the_code():
    made = model("rbm")
    image = (images(1)[0] > 127).astype(np.uint8) * 255
    encoded, rebuilt = Answerer(made)(
        [{"task": task, "image": png(image)} for task in ("encode", "reconstruct")], {"format": "array"}
    )
    x = torch.tensor(image / 255, dtype=torch.float32)[None, None]
    torch.testing.assert_close(torch.tensor(encoded["code"]), made.encode(x)[0])
    expected = made.spec.space.decode(made.decode(made.encode(x)))[0].permute(1, 2, 0)
    assert (torch.tensor(rebuilt["image"]) - expected).abs().max() <= 1


def test_completion_keeps_what_is_known():
    image = (images(1)[0] > 127).astype(np.uint8) * 255
    mask = np.zeros_like(image)
    mask[:4] = 1
    (answer,) = Answerer(model("pixelcnn"))(
        [{"task": "complete", "image": png(image), "mask": mask.tolist()}], {"format": "array"}
    )
    completed = np.array(answer["image"])[..., 0]
    assert (completed[:4] == image[:4]).all()
    assert set(np.unique(completed)) <= {0, 255}


# ---- models of one trait each --------------------------------------------------------------------------------------


class Traits(GenerativeModel):
    """Counts what is asked of it."""

    spaces = ("signed",)

    def __init__(self) -> None:
        super().__init__(DataSpec((3, 4, 4), 5, Space.parse("signed")))
        self.batches: list[int] = []
        self.shared = 0


class Conditional(Traits):
    conditional = True

    def sample(self, count, *, condition=None, temperature=1.0):
        assert condition is None or condition.shape == (count,)
        value = torch.zeros(count) if condition is None else condition / 2 - 1
        return value.view(-1, 1, 1, 1).expand(-1, *self.spec.shape)


class Mirror(Traits):
    def translate(self, x):
        self.batches.append(len(x))
        return -x


class Coupled(Traits):
    """An image's code depends on the others of its batch."""

    def encode(self, x):
        self.batches.append(len(x))
        return x.flatten(1) - x.mean()

    def decode(self, code):
        return code.unflatten(1, self.spec.shape)


class Annealed(Traits):
    def likelihoods(self):
        self.shared += 1
        offset = torch.randn(())
        return {"ais": Likelihood("estimate", lambda x: x.flatten(1).sum(1) * 0 + offset)}


class Impossible(Traits):
    def likelihoods(self):
        return {"exact": Likelihood("exact", lambda x: torch.full((len(x),), -torch.inf))}


COLOUR = np.full((4, 4, 3), 51, np.uint8)


def test_labels_reach_the_model():
    answers = Answerer(Conditional())([{"count": 2, "label": 3}, {"label": 1.0}, {}], {"format": "array"})
    assert [np.unique(each["images"]).tolist() for each in answers] == [[191], [64], [128]]


def test_a_video_goes_on_from_frames_below_each_other():
    made = model("video_pixel_network")
    answerer, frames = Answerer(made), np.stack(images(3))
    tall = frames.reshape(-1, frames.shape[2])
    (found,) = answerer([{"task": "predict", "image": png(tall)}], {"seed": 2, "format": "array"})
    predicted = made.spec.frames - made.given()
    assert np.shape(found["images"]) == (predicted, *SHAPE[1:], 1)
    (again,) = answerer([{"task": "predict", "image": tall.tolist()}], {"seed": 2, "format": "array"})
    (fewer,) = answerer([{"task": "predict", "image": png(frames[-1])}], {"seed": 2, "format": "array"})
    (other,) = answerer([{"task": "predict", "image": png(tall)}], {"seed": 3, "format": "array"})
    assert again == found and fewer != found and other != found
    with pytest.raises(RequestError, match=r"image: found 23 x 4 pixels .*, the model takes 16 x 4 pixels"):
        answerer([{"task": "predict", "image": png(tall[:-1])}])
    with pytest.raises(RequestError, match=r"image: found 5 x 4 pixels .*, the model takes 8 x 4 pixels"):
        answerer([{"task": "predict", "image": png(tall[:5])}])
    with pytest.raises(RequestError, match=r"this model cannot do 'sample'.* It can: predict"):
        answerer([{"count": 2}])


def test_a_model_that_translates_does_so_in_batches_of_one_size():
    made = Mirror()
    answers = Answerer(made)([{"task": "translate", "image": png(COLOUR)}] * (WIDTH + 1), {"format": "array"})
    assert all(np.array_equal(each["image"], 255 - COLOUR) for each in answers)
    assert {*made.batches} == {WIDTH}
    assert made.batches[-2:] == [WIDTH, WIDTH]


def test_a_model_that_couples_its_batch_is_found_out_and_asked_one_at_a_time():
    made = Coupled()
    answerer = Answerer(made)
    alone = answerer([{"task": "encode", "image": png(COLOUR)}])
    made.batches.clear()
    assert answerer([{"task": "encode", "image": png(COLOUR)}] * 3) == alone * 3
    assert made.batches == [1, 1, 1]


def test_what_all_images_share_is_done_once_for_a_seed():
    made = Annealed()
    answerer = Answerer(made)
    row = {"task": "score", "image": png(COLOUR)}
    answerer.prepare()
    first = [answerer([row] * 3, {"seed": seed}) for seed in (0, 1, 0, 1)]
    assert made.shared == 2
    assert first[0] == first[2] != first[1] == first[3]
    with fixed_seed(1):
        assert first[1][0]["nats"] == torch.randn(()).item(), "the stream is evaluation's"


def test_no_probability_at_all_is_null():
    (answer,) = Answerer(Impossible())([{"task": "score", "image": png(COLOUR)}])
    assert answer == {"nats": None, "bits_per_dim": None, "estimator": "exact", "kind": "exact"}


def test_a_model_says_what_it_can_do():
    with pytest.raises(RequestError, match=r"cannot do .sample., which is what a row without .task. asks for.*: enc"):
        Answerer(Coupled())([{}])
