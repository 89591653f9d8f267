"""The computed data sets are what they say: held to their definitions, and to measurements made in another way."""

from __future__ import annotations

import colorsys
import hashlib
import math
import pickle
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import scipy.integrate
import scipy.ndimage
import scipy.stats
import torch

from gen.data import toys
from gen.data.sample import Arrays, Collection, Sample, Samples
from gen.errors import DataError
from gen.sources.captioned_digits import captioned_digits, measure
from gen.sources.common.glyphs import alphabet
from gen.sources.common.synthetic import generator
from gen.sources.dead_leaves import Pile, dead_leaves
from gen.sources.digits import digits
from gen.sources.mixture import mixture
from gen.sources.moving_digits import Scene, moving_digits, reflected
from gen.sources.placed_digits import CELLS, placed_digits
from gen.sources.stacked_digits import stacked_digits

SOURCES: dict[str, Callable[..., Collection]] = {
    "moving": moving_digits,
    "moving, stochastic": partial(moving_digits, bounce="stochastic"),
    "stacked": stacked_digits,
    "captioned": captioned_digits,
    "placed": placed_digits,
    "placed, by digit": partial(placed_digits, label="digit"),
    "ring": partial(mixture, shape="ring"),
    "grid": partial(mixture, shape="grid"),
    "leaves": partial(dead_leaves, size=24),
    "leaves in colour": partial(dead_leaves, size=24, colour=True),
}
OF_DIGITS = ("moving", "stacked", "captioned", "placed")
SPLITS = ("train", "validation", "test")


@pytest.fixture(params=SOURCES.values(), ids=list(SOURCES))
def source(request: pytest.FixtureRequest) -> Callable[..., Collection]:
    return request.param


@pytest.fixture(scope="module")
def base() -> dict[str, Arrays]:
    """The embedded digits, by split."""
    return {name: split.samples for name, split in digits().splits.items()}


@pytest.fixture(scope="module")
def glyphs(base: dict[str, Arrays]) -> dict[str, dict[bytes, int]]:
    """By split, the label of every base digit by its pixels."""
    return {
        name: {image.tobytes(): int(label) for image, label in zip(each.images, each.labels, strict=True)}
        for name, each in base.items()
    }


def of(samples: Samples, count: int) -> list[Sample]:
    return [samples[k] for k in range(count)]


def fingerprint(sample: Sample) -> tuple:
    assert isinstance(sample.image, np.ndarray) and sample.image.dtype == np.uint8
    digest = hashlib.sha256(sample.image.tobytes()).hexdigest()
    return digest, sample.image.shape, sample.label, sample.caption, sample.attributes, sample.origin


def fingerprints(parts: list[Samples], rows: list[int]) -> list[tuple]:
    return [fingerprint(samples[k]) for samples in parts for k in rows]


# --- what they share


def test_samples_are_the_same_in_any_process_and_order() -> None:
    parts = [make(train=9, validation=2, test=2).splits["train"].samples for make in SOURCES.values()]
    here = fingerprints(parts, [0, 3, 8])
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        there = pool.submit(fingerprints, parts[::-1], [8, 3, 0]).result()
    assert there[::-1] == here
    assert all(len(pickle.dumps(samples)) < 1000 for samples in parts)


def test_a_sample_depends_on_seed_split_and_number_alone(source: Callable[..., Collection]) -> None:
    few = source(train=3, validation=3, test=3)
    more = source(train=5, validation=3, test=0)
    assert list(more.splits) == ["train", "validation"]
    assert fingerprints([few.splits["train"].samples], [0, 1, 2]) == fingerprints(
        [more.splits["train"].samples], [0, 1, 2]
    )
    other = source(train=3, validation=3, test=3, seed=1)
    pictures = [
        (sample.image.tobytes(), sample.attributes)
        for part in (*few.splits.values(), *other.splits.values())
        for sample in of(part.samples, 3)
    ]
    assert len(set(pictures)) == 18


def test_labels_are_known_beforehand(source: Callable[..., Collection]) -> None:
    collection = source(train=40, validation=7, test=7)
    for part in collection.splits.values():
        labels = [sample.label for sample in of(part.samples, len(part))]
        assert labels == ([None] * len(part) if part.labels is None else part.labels.tolist())
    assert collection.source.citation != "not stated"


@pytest.mark.parametrize("options", [{"train": -1}, {"train": 0, "validation": 0, "test": 0}, {"seed": -1}], ids=str)
def test_impossible_options_are_refused(source: Callable[..., Collection], options: dict[str, int]) -> None:
    with pytest.raises(DataError, match=r"options: found .*(train|seed): .*allowed"):
        source(**options)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (moving_digits, {"size": 28}, r"size: 28; allowed more than the 28 pixels"),
        (moving_digits, {"frames": 0}, r"frames: 0; allowed 1 or more"),
        (moving_digits, {"digits": 0}, r"digits: 0"),
        (moving_digits, {"slowest": 6.0}, r"slowest: 6 and fastest: 5; allowed 0 <= slowest <= fastest <= 36"),
        (moving_digits, {"fastest": 37.0}, r"fastest: 37"),
        (moving_digits, {"bounce": "random"}, r"bounce: random; allowed deterministic or stochastic"),
        (mixture, {"shape": "square"}, r"shape: square; allowed ring or grid"),
        (captioned_digits, {"size": 31}, r"size: 31; allowed 32 or more"),
        (placed_digits, {"size": 25}, r"size: 25; allowed multiples of 3 from 18"),
        (placed_digits, {"size": 15}, r"size: 15"),
        (placed_digits, {"label": "place"}, r"label: place; allowed cell or digit"),
        (dead_leaves, {"r_min": 0.1}, r"r_min: 0.1 and r_max: 64; allowed 0.25 <= r_min < r_max"),
        (dead_leaves, {"r_max": 1.0}, r"r_max: 1"),
        (dead_leaves, {"r_max": math.inf}, r"r_max: inf"),
        (dead_leaves, {"size": 0}, r"size: 0"),
    ],
)
def test_impossible_options_of_one_source(make: Callable[..., Collection], options: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make(**options)


# --- digits of other files


def written(path: Path, base: dict[str, Arrays], **changes: np.ndarray) -> Path:
    """A few digits as .npz files, one for `train` and one for `test`."""
    path.mkdir()
    for name in ("train", "test"):
        images, labels = base[name].images[::10, ..., 0], base[name].labels[::10]
        np.savez(path / f"{name}.npz", **{"images": images, "labels": labels, **changes})
    return path


@pytest.mark.parametrize("name", OF_DIGITS)
def test_digits_of_a_path_are_used(name: str, tmp_path: Path, base: dict[str, Arrays]) -> None:
    path = written(tmp_path / "mine", base)
    mine = SOURCES[name](path, train=20, validation=0, test=5)
    assert mine.files == (path / "test.npz", path / "train.npz")
    embedded = SOURCES[name](train=20, validation=0, test=5)
    assert embedded.files == ()
    assert mine.splits["train"].samples[1].image.tobytes() != embedded.splits["train"].samples[1].image.tobytes()
    with pytest.raises(DataError, match=r"found digits for train, test, none for 'validation'.*`validation: 0`"):
        SOURCES[name](path, validation=5)


def test_processes_elsewhere_find_the_digits(
    tmp_path: Path, base: dict[str, Arrays], monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "mine", base)
    monkeypatch.chdir(tmp_path)
    samples = moving_digits(Path("mine"), train=2, validation=0, test=2).splits["train"].samples
    monkeypatch.chdir("/")
    alphabet.cache_clear()  # as in a new process
    assert pickle.loads(pickle.dumps(samples))[0].image.any()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.full((30, 28, 28, 3), 9, np.uint8), np.arange(30) % 10, r"arrays \(28, 28, 3\)"),
        (np.full((30, 28, 28), 9, np.uint8), np.arange(30) % 3, r"3 classes.*10 classes, as in MNIST"),
        (np.zeros((30, 28, 28), np.uint8), np.arange(30) % 10, r"a picture without ink, number 0"),
    ],
    ids=["colour", "classes", "blank"],
)
def test_what_are_no_digits_is_refused(
    tmp_path: Path, base: dict[str, Arrays], images: np.ndarray, labels: np.ndarray, message: str
) -> None:
    path = written(tmp_path / "mine", base, images=images, labels=labels)
    with pytest.raises(DataError, match=message):
        moving_digits(path, validation=0)


# --- Moving MNIST


def scene(**options) -> Scene:
    defaults = {"path": None, "size": 64, "frames": 20, "digits": 2, "bounce": "deterministic", "slowest": 2.0}
    return Scene(**{**defaults, "fastest": 5.0, "seed": 0, **options})


ROOM = np.array([36.0, 20.0])


@pytest.mark.parametrize("bounce", ["deterministic", "stochastic"])
@pytest.mark.parametrize("split", SPLITS)
def test_a_digit_stays_whole_and_on_the_canvas(bounce: str, split: str, glyphs: dict[str, dict[bytes, int]]) -> None:
    """All of its ink is in every frame, and cut out of any frame it is a digit of the same split."""
    shapes = {np.frombuffer(each, np.uint8).reshape(28, 28).sum(dtype=int) for each in glyphs[split]}
    for k in range(20):
        video = scene(digits=1, bounce=bounce).sample(split, k).image
        assert video.shape == (20, 64, 64, 1)
        ink = video.sum((1, 2, 3), dtype=int)
        assert len(set(ink.tolist())) == 1 and int(ink[0]) in shapes
        crops = {cropped(frame[..., 0]).tobytes() for frame in video}
        assert len(crops) == 1
        assert crops <= {cropped(np.frombuffer(each, np.uint8).reshape(28, 28)).tobytes() for each in glyphs[split]}


def cropped(picture: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(picture.any(1)), np.flatnonzero(picture.any(0))
    return np.ascontiguousarray(picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def test_ink_is_lost_only_where_digits_overlap(base: dict[str, Arrays]) -> None:
    apart = 0
    for k in range(40):
        rows = generator(0, "train", k).integers(3500, size=2)  # which digits move is what is drawn first
        alone = [int(base["train"].images[row].sum(dtype=int)) for row in rows]
        ink = scene().sample("train", k).image.sum((1, 2, 3), dtype=int)
        assert max(alone) <= ink.min() and ink.max() <= sum(alone)
        apart += int((ink == sum(alone)).sum())
    assert 0.2 * 40 * 20 < apart < 40 * 20


def walk(start: np.ndarray, velocity: np.ndarray, frames: int, room: np.ndarray, steps: int = 4000) -> np.ndarray:
    """The reflected path in very small steps, turning round at an edge."""
    position, velocity, path = start.copy(), velocity.copy(), [start.copy()]
    for _ in range(frames - 1):
        for _ in range(steps):
            position += velocity / steps
            velocity[(position < 0) & (velocity < 0)] *= -1
            velocity[(position > room) & (velocity > 0)] *= -1
        path.append(position.copy())
    return np.array(path)


def test_reflected_paths_are_those_of_small_steps() -> None:
    start, velocity = np.array([3.0, 19.0]), np.array([-4.1, 2.7])
    np.testing.assert_allclose(reflected(start, velocity, 8, ROOM), walk(start, velocity, 8, ROOM), atol=0.02)


def test_deterministic_bounces_keep_the_speed() -> None:
    for k in range(50):
        path = scene(frames=40).trajectory(np.random.default_rng(k), ROOM)
        assert path.min() >= 0 and (path <= ROOM).all()
        speed = np.abs(np.diff(path, axis=0))  # in each direction, as both only change sign
        usual = np.median(speed, axis=0)
        assert 2.0 <= np.hypot(*usual) <= 5.0
        turned = ~np.isclose(speed, usual)  # the frame in which it was at an edge: part of the way back
        near = (path[1:] <= usual) | (path[1:] >= ROOM - usual)
        assert (speed[turned] < np.broadcast_to(usual, speed.shape)[turned]).all() and near[turned].all()
        assert turned.mean() < 0.4


def test_stochastic_bounces_change_course_at_edges_alone() -> None:
    courses, turns = [], 0
    for k in range(200):
        path = scene(frames=30, bounce="stochastic").trajectory(np.random.default_rng(k), ROOM)
        assert path.min() >= 0 and (path <= ROOM).all()
        step = np.diff(path, axis=0)
        at_edge = ((path == 0) | (path == ROOM)).any(1)[1:]
        for t in range(1, len(step)):
            inward = np.where(path[t] == 0, 1, np.where(path[t] == ROOM, -1, 0))
            assert (step[t] * inward)[inward != 0].min(initial=1) > 0
            if at_edge[t]:  # a step that ends at an edge was cut short
                continue
            if inward.any():
                turns += 1
                courses.append(step[t] / np.hypot(*step[t]))
            else:
                np.testing.assert_allclose(step[t], step[t - 1], atol=1e-9)
            assert 2.0 - 1e-9 <= np.hypot(*step[t]) <= 5.0 + 1e-9
    assert turns > 500
    assert len({(round(x, 6), round(y, 6)) for x, y in courses}) == turns  # never the same course twice
    angle = np.arctan2(*np.abs(np.array(courses)).T)  # folded by the edges, still uniform
    assert scipy.stats.kstest(angle, "uniform", args=(0, math.pi / 2)).pvalue > 1e-3


def test_directions_and_speeds_are_uniform() -> None:
    room = np.array([1e6, 1e6])
    steps = np.array(
        [np.diff(scene(frames=2).trajectory(np.random.default_rng(k), room), axis=0)[0] for k in range(2000)]
    )
    assert scipy.stats.kstest(np.arctan2(*steps.T), "uniform", args=(-math.pi, 2 * math.pi)).pvalue > 1e-3
    assert scipy.stats.kstest(np.hypot(*steps.T), "uniform", args=(2, 3)).pvalue > 1e-3


# --- Stacked MNIST


def test_the_label_spells_the_three_digits_of_the_same_split(glyphs: dict[str, dict[bytes, int]]) -> None:
    collection = stacked_digits(train=300, validation=300, test=300)
    assert collection.classes == tuple(f"{k:03d}" for k in range(1000))
    assert not set(glyphs["train"]) & set(glyphs["test"]) and not set(glyphs["train"]) & set(glyphs["validation"])
    for name, part in collection.splits.items():
        for sample in of(part.samples, len(part)):
            spelled = [glyphs[name][np.ascontiguousarray(sample.image[..., c]).tobytes()] for c in range(3)]
            assert "".join(map(str, spelled)) == collection.classes[sample.label]


def test_modes_are_equally_likely() -> None:
    labels = stacked_digits(train=20_000, validation=0, test=0).splits["train"].labels
    assert scipy.stats.chisquare(np.bincount(labels, minlength=1000)).pvalue > 1e-3


# --- coloured and placed digits

HUES = {"red": 0, "yellow": 60, "green": 120, "cyan": 180, "blue": 240, "magenta": 300}
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture(scope="module")
def captioned() -> list[Sample]:
    return of(captioned_digits(train=1200, validation=0, test=0).splits["train"].samples, 1200)


def parsed(caption: str) -> tuple[str, str, str, str, str]:
    """Size, colour, digit, row and column of a caption."""
    article, size, colour, digit, at, the, *place = caption.split()
    assert (article, at, the) == ("a", "at", "the")
    row = next((word for word in place if word in ("top", "bottom")), "middle")
    column = next((word for word in place if word in ("left", "right")), "middle")
    assert place == ([word for word in (row, column) if word != "middle"] or ["centre"])
    return size, colour, digit, row, column


def test_captions_are_true_of_the_pixels(captioned: list[Sample]) -> None:
    """Measured again: centre of mass by SciPy, colour by a vote of pixels, size by the box of what is not black."""
    clear = 0
    for sample in captioned:
        size, colour, digit, row, column = parsed(sample.caption)
        assert digit == WORDS[sample.label]
        bright = sample.image.max(2)
        y, x = np.array(scipy.ndimage.center_of_mass(bright)) + 0.5
        if min(abs(at - edge) for at in (x, y) for edge in (16, 32)) > 0.05:
            clear += 1
            assert (row, column) == (
                ("top", "middle", "bottom")[int(y // 16)],
                ("left", "middle", "right")[int(x // 16)],
            )
        strong = sample.image[bright > 100]
        hues = [360 * colorsys.rgb_to_hsv(*(pixel / 255))[0] for pixel in strong]
        votes = Counter(min(HUES, key=lambda name: abs((hue - HUES[name] + 180) % 360 - 180)) for hue in hues)
        assert votes.most_common(1)[0][0] == colour
        height, width = cropped(bright).shape
        assert max(height, width) <= 16 if size == "small" else max(height, width) >= 18
    assert clear > 0.95 * len(captioned)


def test_attributes_are_measured(captioned: list[Sample]) -> None:
    names = captioned_digits(train=1, validation=0, test=0).attributes
    assert names == ("x", "y", "extent", "ink", "red", "green", "blue")
    for sample in captioned[:300]:
        found = dict(zip(names, sample.attributes, strict=True))
        y, x = (np.array(scipy.ndimage.center_of_mass(sample.image.max(2))) + 0.5) / 48
        assert (found["x"], found["y"]) == pytest.approx((x, y))
        assert found["ink"] == pytest.approx(sample.image.max(2).mean() / 255)
        assert max(found["red"], found["green"], found["blue"]) == 1.0
        colour = sample.image.reshape(-1, 3).mean(0)
        assert [found[each] for each in ("red", "green", "blue")] == pytest.approx(colour / colour.max())
        assert tuple(measure(sample.image)) == sample.attributes


def test_everything_a_caption_says_is_equally_likely(captioned: list[Sample]) -> None:
    """Places nearly so: the ink of a digit is not centred in it, so some digits cannot reach the outer thirds."""
    said = [parsed(sample.caption) for sample in captioned]
    for part, expected in ((0, 2), (1, 6), (2, 10)):
        counts = Counter(each[part] for each in said)
        assert len(counts) == expected and scipy.stats.chisquare(list(counts.values())).pvalue > 1e-3
    places = Counter(each[3:] for each in said)
    assert len(places) == 9 and min(places.values()) > 0.6 * len(said) / 9


def test_digits_are_drawn_whole(captioned: list[Sample], glyphs: dict[str, dict[bytes, int]]) -> None:
    """Brought back to 20 pixels, what is on the canvas is most like the digits that the caption names."""

    def normal(picture: np.ndarray) -> np.ndarray:
        ink = cropped(picture).astype(float)
        small = scipy.ndimage.zoom(ink, [16 / side for side in ink.shape], order=1)
        return (small / np.linalg.norm(small)).ravel()

    known = [(normal(np.frombuffer(each, np.uint8).reshape(28, 28)), label) for each, label in glyphs["train"].items()]
    shapes, labels = np.stack([shape for shape, _ in known]), np.array([label for _, label in known])
    nearest = [labels[(shapes @ normal(sample.image.max(2))).argmax()] for sample in captioned[:300]]
    assert np.mean([found == sample.label for found, sample in zip(nearest, captioned, strict=False)]) > 0.97


# --- digits in one of nine cells

ROWS, COLUMNS = {"top": 0, "bottom": 2}, {"left": 0, "right": 2}


@pytest.mark.parametrize("size", [24, 30])
def test_a_placed_digit_lies_in_the_cell_that_its_class_names_and_nowhere_else(size: int) -> None:
    collection = placed_digits(size=size, train=400, validation=0, test=0)
    assert collection.classes == CELLS and len(set(CELLS)) == 9
    part, wide = collection.splits["train"], size // 3
    for sample in of(part.samples, len(part)):
        assert sample.image.shape == (size, size, 1)
        words = collection.classes[sample.label].split()
        row, column = (next((at[w] for w in words if w in at), 1) for at in (ROWS, COLUMNS))
        top, left = row * wide, column * wide
        inside = sample.image[top : top + wide, left : left + wide]
        assert inside.sum(dtype=int) == sample.image.sum(dtype=int)
        assert max(cropped(inside[..., 0]).shape) >= wide - 2
    assert scipy.stats.chisquare(np.bincount(part.labels, minlength=9)).pvalue > 1e-3


def test_the_label_of_a_placed_digit_may_be_the_digit_itself(base: dict[str, Arrays]) -> None:
    """The pictures are the same; the digits are those of the base, as often as there, whatever the cell."""
    by_cell, by_digit = (placed_digits(label=label, train=1500, validation=0, test=0) for label in ("cell", "digit"))
    cells, digit = (each.splits["train"] for each in (by_cell, by_digit))
    for a, b in zip(of(cells.samples, 50), of(digit.samples, 50), strict=True):
        assert a.image.tobytes() == b.image.tobytes() and a.origin == b.origin
        assert b.label == base["train"].labels[int(b.origin.rpartition(" ")[2])]
    table = np.zeros((9, 10))
    np.add.at(table, (cells.labels, digit.labels), 1)
    assert scipy.stats.chi2_contingency(table).pvalue > 1e-3


# --- mixtures


@pytest.mark.parametrize(("shape", "truth"), [("ring", toys.ring()), ("grid", toys.grid())])
def test_points_are_those_of_the_mixture(shape: str, truth: toys.Mixture) -> None:
    collection = mixture(shape=shape, train=8000, validation=0, test=0)
    part = collection.splits["train"]
    samples = of(part.samples, len(part))
    points = torch.tensor([sample.attributes for sample in samples], dtype=torch.float64)
    levels = np.stack([sample.image for sample in samples])
    assert levels.shape == (8000, 1, 1, 2) and len(collection.classes) == len(truth.means)

    reach = {"ring": 2.12, "grid": 4.3}[shape]
    step = 2 * reach / 255
    assert step < truth.std
    assert np.abs((2 * levels[:, 0, 0].astype(float) / 255 - 1) * reach - points.numpy()).max() <= step / 2 + 1e-6

    means = truth.means.double()
    np.testing.assert_array_equal(torch.cdist(points, means).argmin(1).numpy(), part.labels)
    assert scipy.stats.chisquare(np.bincount(part.labels)).pvalue > 1e-3
    white = ((points - means[part.labels]) / truth.std).numpy()
    for axis in (0, 1):
        assert scipy.stats.kstest(white[:, axis], "norm").pvalue > 1e-3
    assert abs(np.corrcoef(white.T)[0, 1]) < 0.05


# --- dead leaves


def same_leaf(distance: float, r_min: float, r_max: float) -> float:
    """Probability that two points see the same leaf: g(d) / (2 g(0) - g(d)), of discs with radii ~ r^-3.

    g(d) is the mean area that a disc shares with itself moved by d: of the leaves that cover one point or both, the
    topmost decides (Lee, Mumford, Huang 2001, section 3).
    """

    def shared(r: float, d: float) -> float:
        if d >= 2 * r:
            return 0.0
        return 2 * r * r * math.acos(d / (2 * r)) - d / 2 * math.sqrt(4 * r * r - d * d)

    def mean(d: float) -> float:
        return scipy.integrate.quad(lambda r: shared(r, d) * r**-3, max(r_min, d / 2), r_max, limit=200)[0]

    return mean(distance) / (2 * mean(0.0) - mean(distance))


@pytest.mark.parametrize(
    ("size", "r_min", "r_max"), [(32, 1.0, 64.0), (32, 2.0, 8.0), (12, 4.0, 80.0)], ids=["usual", "narrow", "large"]
)
def test_leaves_cover_all_by_the_power_law(size: int, r_min: float, r_max: float) -> None:
    pile = Pile(size=size, channels=1, r_min=r_min, r_max=r_max, seed=0)
    count = 150 if size == 32 else 700
    seen = np.stack([pile.leaves(np.random.default_rng([k, 5])) for k in range(count)])
    assert seen.shape == (count, 4 * size, 4 * size) and seen.min() >= 0
    for pixels in (0.5, 1, 2, 4, 8):
        d = int(4 * pixels)
        for same in (seen[:, d:] == seen[:, :-d], seen[:, :, d:] == seen[:, :, :-d]):
            each = same.mean((1, 2))
            error = each.std() / math.sqrt(count)
            assert error < 0.03
            assert each.mean() == pytest.approx(same_leaf(pixels, r_min, r_max), abs=4 * error)


def test_the_first_leaves_lie_on_top() -> None:
    """What is covered stays covered: the share that a leaf is seen of falls with its number."""
    pile = Pile(size=32, channels=1, r_min=1.0, r_max=64.0, seed=0)
    seen = np.stack([pile.leaves(np.random.default_rng([k, 7])) for k in range(50)])
    shares = [((seen >= low) & (seen < low + 100)).mean() for low in (0, 100, 200, 300)]
    assert shares[0] > 0.5 and shares == sorted(shares, reverse=True)


def test_leaves_look_alike_in_the_middle_and_at_the_border() -> None:
    pile = Pile(size=16, channels=1, r_min=1.0, r_max=16.0, seed=0)
    seen = np.stack([pile.leaves(np.random.default_rng([k, 6])) for k in range(300)])
    same = (seen[:, :, 4:] == seen[:, :, :-4]).mean(0)  # by place: pairs of points one pixel apart
    assert same[:8].mean() == pytest.approx(same[28:36].mean(), abs=0.03)
    assert same[:, :8].mean() == pytest.approx(same[:, 26:34].mean(), abs=0.03)


def test_shades_are_uniform() -> None:
    samples = of(dead_leaves(size=4, r_min=2.0, r_max=8.0, colour=True, train=400).splits["train"].samples, 400)
    corners = np.stack([sample.image[0, 0] for sample in samples])  # few of them lie on the edge of a leaf
    assert corners.shape == (400, 3)
    for channel in corners.T:
        assert scipy.stats.kstest(channel / 255, "uniform").pvalue > 1e-4
    assert np.abs(np.corrcoef(corners.T) - np.eye(3)).max() < 0.2


def test_shrunk_pictures_have_the_statistics_of_pictures() -> None:
    """Far from both cutoffs: the mean gradient, and its tails, are the same at two scales a factor of two apart."""
    samples = of(dead_leaves(size=96, r_min=0.5, r_max=192.0, train=24).splits["train"].samples, 24)
    pictures = np.stack([sample.image[..., 0] for sample in samples]).astype(float)
    gradients = []
    for scale in (2, 4):
        small = pictures.reshape(24, 96 // scale, scale, 96 // scale, scale).mean((2, 4))
        gradients.append(np.abs(np.concatenate([np.diff(small, axis=1).ravel(), np.diff(small, axis=2).ravel()])))
    fine, coarse = gradients
    assert coarse.mean() == pytest.approx(fine.mean(), rel=0.05)
    assert (coarse > 64).mean() == pytest.approx((fine > 64).mean(), rel=0.15)
    assert (coarse**4).mean() / (coarse**2).mean() ** 2 > 4  # heavier tails than a Gaussian's, which has 3
