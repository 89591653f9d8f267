"""Evaluation: distances against closed forms and slow loops, likelihoods against known ones, honest bookkeeping."""

import hashlib
import io
import itertools
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.linalg import sqrtm

from gen.data.spaces import DataSpec, Space
from gen.errors import DataError, GenError, StoreError
from gen.evaluate.bench import Bench, in_space, space_view
from gen.evaluate.card import evaluate, flatten
from gen.evaluate.classes import class_balance
from gen.evaluate.codes import linear_probe, mean_squared_error, peak_signal_to_noise
from gen.evaluate.distances import density_coverage, frechet_distance, kernel_distance, precision_recall
from gen.evaluate.grids import PAPER, grid, save_png
from gen.evaluate.judge import (
    Judge,
    _half_binarised,
    accuracy,
    extract,
    frame_by_frame,
    load_judge,
    save_judge,
    train_judge,
)
from gen.evaluate.likelihood import log_likelihoods
from gen.evaluate.memorisation import memorisation, nearest
from gen.evaluate.predictions import predictions
from gen.evaluate.samples import draw, independent_pixels, random_rows, sampling_speed
from gen.evaluate.seeds import fixed_seed
from gen.model import GenerativeModel, Likelihood

SIDE = 8
BINARY = Space.parse("binary_dynamic")
SPEC = DataSpec((1, SIDE, SIDE), 2, BINARY)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(7)


def gaussian(n, d=6, *, seed=0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, dtype=torch.float64, generator=torch.Generator().manual_seed(99))
    return torch.randn(n, d, dtype=torch.float64, generator=generator) @ mix + shift


# ---- distances ------------------------------------------------------------------------------------------------------


def test_fid_is_the_closed_form():
    real, fake = gaussian(300), 1.3 * gaussian(200, seed=1, shift=0.5)
    (m, S), (n, C) = ((x.mean(0).numpy(), np.cov(x.numpy(), rowvar=False)) for x in (real, fake))
    expected = ((m - n) ** 2).sum() + np.trace(S + C - 2 * sqrtm(S @ C).real)
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-9)


def test_fid_of_a_set_with_itself_is_zero_and_of_a_shifted_copy_its_squared_shift():
    x = gaussian(300)
    assert frechet_distance(x, x) == pytest.approx(0.0, abs=1e-6)
    assert frechet_distance(x, x + torch.tensor([3.0, 4.0, 0, 0, 0, 0])) == pytest.approx(25.0, abs=1e-6)


def test_fid_survives_features_that_never_fire():
    x, y = gaussian(50), gaussian(50, seed=1)
    x[:, 2:], y[:, 2:] = 0, 0
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(x[:, :2], y[:, :2]), abs=1e-5)


def test_kid_is_the_unbiased_estimator_as_a_double_loop():
    x, y = gaussian(7), gaussian(7, seed=1, shift=0.3)

    def k(a, b):
        return (float(a @ b) / 6 + 1) ** 3

    within = sum(k(x[i], x[j]) + k(y[i], y[j]) for i in range(7) for j in range(7) if i != j) / (7 * 6)
    across = sum(k(a, b) for a in x for b in y) / 49
    found = kernel_distance(x, y, subsets=1, subset_size=7)
    assert found.mean == pytest.approx(within - 2 * across, rel=1e-9)
    assert (found.subsets, found.subset_size) == (1, 7)


@pytest.mark.parametrize("mean", [0.0, 0.5])
def test_kid_has_the_population_value_as_its_mean(mean):
    """Scalars N(0, 1) against N(m, 1): the moments give E (1 + xy)^3 in closed form; zero for equal distributions."""
    m = mean
    expected = 4 + (1 + 3 * m**2 + 3 * (1 + m**2) ** 2 + (m**3 + 3 * m) ** 2) - 2 * (4 + 3 * m**2)
    runs = [
        kernel_distance(torch.randn(20, 1).double(), m + torch.randn(20, 1).double(), subsets=1, subset_size=20).mean
        for _ in range(400)
    ]
    error = np.std(runs) / math.sqrt(len(runs))
    assert abs(np.mean(runs) - expected) < 4 * error
    assert min(runs) < 0


def test_neighbour_scores_on_points_that_can_be_checked_by_hand():
    real = torch.tensor([[0.0], [1.0], [2.0], [10.0]])  # radii to the nearest other: 1, 1, 1, 8
    fake = torch.tensor([[0.5], [2.5], [30.0], [31.0]])  # radii: 2, 2, 1, 1
    # 0.5 is in the balls around 0 and 1; 2.5 around 2 and 10; 30 and 31 in none.
    assert precision_recall(real, fake, k=1) == (0.5, 0.75)
    assert density_coverage(real, fake, k=1) == (1.0, 1.0)


def test_neighbour_scores_are_the_slow_double_loop():
    real, fake = gaussian(40, 2), gaussian(30, 2, seed=1, shift=0.8)

    def radius(i, points, k):
        return sorted(math.dist(points[i].tolist(), p.tolist()) for p in points)[k]

    def inside(x, i, points, k):
        return math.dist(x.tolist(), points[i].tolist()) <= radius(i, points, k)

    table3 = [[inside(f, i, real, 3) for f in fake] for i in range(40)]
    back3 = [[inside(r, j, fake, 3) for r in real] for j in range(30)]
    table5 = [[inside(f, i, real, 5) for f in fake] for i in range(40)]
    precision = np.mean(np.any(table3, axis=0)), np.mean(np.any(back3, axis=0))
    assert precision_recall(real, fake) == pytest.approx(precision)
    assert density_coverage(real, fake) == pytest.approx((np.sum(table5) / (5 * 30), np.mean(np.any(table5, axis=1))))


def test_a_set_is_precise_about_itself_and_too_few_points_are_refused():
    x = gaussian(20)
    assert precision_recall(x, x) == (1.0, 1.0)
    assert density_coverage(x, x)[1] == 1.0
    with pytest.raises(ValueError, match="more than 5 points"):
        density_coverage(x[:5], x)


# ---- memorisation ---------------------------------------------------------------------------------------------------


def test_nearest_is_exhaustive_search_over_many_parts():
    bank, queries = gaussian(5000, 3), gaussian(30, 3, seed=1)
    distance, row = nearest(queries, bank)
    table = (queries[:, None] - bank[None]).norm(dim=2)
    assert torch.equal(row, table.argmin(dim=1))
    assert torch.allclose(distance, table.min(dim=1).values)
    own = torch.tensor([4, 4999])
    distance, row = nearest(bank[own], bank, excluded=own)
    table = (bank[own][:, None] - bank[None]).norm(dim=2)
    assert torch.equal(row, table.topk(2, largest=False).indices[:, 1])
    assert (distance > 0).all()


def test_copies_are_flagged_and_held_out_images_are_not():
    train, held_out, honest = gaussian(400), gaussian(200, seed=1), gaussian(200, seed=2)
    rows = torch.randperm(400)[:200]
    copies = memorisation(train, train[rows], held_out)
    assert copies.ratio == 0.0 and copies.auth_pct == 0.0
    assert torch.equal(copies.neighbour, rows) and (copies.distance == 0).all()
    noisy = memorisation(train, train[rows] + 0.05 * torch.randn(200, 6, dtype=torch.float64), held_out)
    new = memorisation(train, honest, held_out)
    floor = memorisation(train, held_out, held_out)
    assert noisy.ratio < 0.3 and noisy.auth_pct < 5
    assert 0.8 < new.ratio < 1.25 and floor.ratio == 1.0
    assert abs(new.auth_pct - floor.auth_pct) < 15 and floor.auth_pct > 40


def test_memorisation_reads_pixels_as_they_are_stored():
    train = torch.randint(0, 256, (50, 12), dtype=torch.uint8)
    held_out = torch.randint(0, 256, (20, 12), dtype=torch.uint8).float()
    assert memorisation(train, train[:10].float(), held_out).ratio == 0.0


def test_authenticity_by_hand():
    """Training points 0, 1 and 5, whose spacings are 1, 1 and 4: -1.5 and 9.5 are new, 0.4 and 9 are not."""
    train = torch.tensor([[0.0], [1.0], [5.0]])
    found = memorisation(train, torch.tensor([[0.4], [-1.5], [9.0], [9.5]]), torch.tensor([[2.0]]))
    assert found.auth_pct == 50.0
    assert found.neighbour.tolist() == [0, 0, 2, 2]


# ---- a toy world: two classes of 8 x 8 images, bright on the left or on the right -----------------------------------


def halves(n, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    images = torch.randint(0, 90, (n, 1, SIDE, SIDE), generator=generator)
    for side in (0, 1):
        images[labels == side, :, :, 4 * side : 4 * side + 4] += 150
    return images.to(torch.uint8), labels


SPLITS = {"train": halves(300, 1), "validation": halves(60, 2), "test": halves(100, 3)}


@pytest.fixture(scope="module")
def judge():
    return train_judge(*SPLITS["train"], SPLITS["validation"], images_budget=3_000)


class Pixels(GenerativeModel):
    """Independent Bernoulli pixels, of which everything is known."""

    spaces = ("binary_dynamic",)

    def __init__(self, spec, p):
        super().__init__(spec)
        self.register_buffer("p", p)

    def sample(self, count, *, condition=None):
        return torch.bernoulli(self.p.expand(count, *self.p.shape))

    def likelihoods(self):
        noisy = Likelihood("lower bound", lambda x: self.log_prob(x) - torch.rand(len(x), dtype=torch.float64))
        return {"bound": noisy, "exact": Likelihood("exact", self.log_prob)}

    def log_prob(self, x):
        return torch.where(x == 1, self.p.log(), (1 - self.p).log()).double().flatten(1).sum(dim=1)

    def encode(self, x):
        return x.flatten(1)[:, :32]

    def decode(self, code):
        return torch.cat([code, torch.zeros_like(code)], dim=1).view(-1, *self.spec.shape)

    def complete(self, x, known):
        return torch.where(known, x, self.sample(len(x)))

    def pictures(self):
        return {"p": self.p[None]}


class Obedient(GenerativeModel):
    """Copies training images of the class asked for; can do nothing else."""

    spaces = ("signed",)

    def sample(self, count, *, condition=None):
        images, _ = SPLITS["train"]
        labels = torch.randint(2, (count,)) if condition is None else condition
        return self.spec.space.encode(images[2 * torch.randint(150, (count,)) + labels])


def pixels():
    return Pixels(SPEC, SPLITS["train"][0].float().mean(0) / 255)


# ---- likelihoods ----------------------------------------------------------------------------------------------------


def test_likelihoods_count_every_image_once_and_equal_the_known_value():
    model = pixels()
    x = in_space(SPLITS["test"][0][:37], BINARY, seed=0)
    bound, exact = log_likelihoods(model, SPEC, x, batch_size=10)
    p = model.p.double().numpy()[0]
    each = [sum(math.log(p[i, j] if v[i, j] else 1 - p[i, j]) for i in range(8) for j in range(8)) for v in x[:, 0]]
    assert exact.n == bound.n == 37
    assert exact.nats == pytest.approx(np.mean(each), rel=1e-6)
    assert exact.standard_error == pytest.approx(np.std(each, ddof=1) / math.sqrt(37), rel=1e-6)
    assert exact.bits_per_dim == pytest.approx(-np.mean(each) / 64 / math.log(2), rel=1e-6)
    assert (bound.kind, exact.kind, exact.estimator) == ("lower bound", "exact", "exact")
    assert 0.3 < exact.nats - bound.nats < 0.7


def test_bits_per_dim_of_a_density_count_the_width_of_a_level():
    """A uniform density on [0, 1) is 0 nats, and 8 bits per 8-bit pixel."""
    spec = DataSpec((1, 4, 4), 0, Space.parse("dequantized"))

    class Uniform(GenerativeModel):
        def likelihoods(self):
            return {"exact": Likelihood("exact", lambda x: torch.zeros(len(x)))}

    (found,) = log_likelihoods(Uniform(spec), spec, torch.rand(5, 1, 4, 4))
    assert found.nats == 0.0 and found.bits_per_dim == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("log_prob", "message"),
    [(lambda x: x.sum().expand(1), "shape"), (lambda x: torch.full((len(x),), math.nan), "not finite for 6 of 6")],
)
def test_a_likelihood_that_is_not_one_finite_number_per_image_is_refused(log_prob, message):
    class Broken(GenerativeModel):
        def likelihoods(self):
            return {"elbo": Likelihood("lower bound", log_prob)}

    with pytest.raises(GenError, match=message):
        log_likelihoods(Broken(SPEC), SPEC, torch.zeros(6, 1, SIDE, SIDE))


# ---- judge ----------------------------------------------------------------------------------------------------------


def test_judge_tells_the_classes_apart_in_grey_and_in_bits_with_standardised_features(judge):
    images, labels = SPLITS["test"]
    assert accuracy(judge, images, labels) > 0.97
    assert accuracy(judge, space_view(images, BINARY, seed=0), labels) > 0.9
    assert judge.facts["validation"]["accuracy_8_bit"] > 0.97
    features, probabilities = extract(judge, SPLITS["train"][0], batch_size=7)
    assert features.shape == (300, 64) and features.dtype == torch.float64
    assert torch.allclose(probabilities.sum(1), torch.ones(300, dtype=torch.float64))
    assert 0.3 < features.var(dim=0).mean() < 3.0
    assert torch.allclose(features, extract(judge, SPLITS["train"][0])[0], atol=1e-5)


def test_judge_is_taught_on_bits_half_of_the_time():
    seen = _half_binarised(torch.full((400, 1, SIDE, SIDE), 100, dtype=torch.uint8))
    bits = torch.isin(seen, torch.tensor([0, 255], dtype=torch.uint8)).flatten(1).all(dim=1)
    assert 0.4 < bits.double().mean() < 0.6
    assert (seen[~bits] == 100).all() and abs(float(seen[bits].double().mean()) - 100) < 5


def test_judge_takes_images_of_any_size_and_number_of_channels():
    for shape in [(3, 8, 8), (1, 31, 17), (2, 64, 64)]:
        images = torch.randint(0, 256, (2, *shape), dtype=torch.uint8)
        judge = Judge(shape[0], 5).eval()
        assert judge.features(images).shape == (2, 64) and judge.logits(images).shape == (2, 5)


def test_judge_depends_on_its_seed_only_and_leaves_the_generator_alone():
    before = torch.get_rng_state()
    a, b, c = (train_judge(*SPLITS["train"], SPLITS["validation"], seed=s, images_budget=256) for s in (0, 0, 1))
    assert a.hash == b.hash != c.hash and a.facts == b.facts
    assert torch.equal(before, torch.get_rng_state())


def test_judge_is_stored_under_the_hash_of_its_weights_and_a_changed_byte_is_refused(judge, tmp_path):
    save_judge(tmp_path / "judge", judge)
    weights = tmp_path / "judge" / "judge.safetensors"
    assert judge.hash == hashlib.sha256(weights.read_bytes()).hexdigest()[:8]
    again = load_judge(tmp_path / "judge")
    assert again.hash == judge.hash and again.facts == judge.facts and not again.training
    images = SPLITS["test"][0]
    assert torch.equal(extract(again, images)[0], extract(judge, images)[0])
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(StoreError, match="sha256"):
        load_judge(tmp_path / "judge")


def test_judge_of_one_class_is_refused():
    images, labels = SPLITS["train"]
    with pytest.raises(DataError, match="fewer than two classes"):
        train_judge(images, torch.zeros_like(labels), SPLITS["validation"])


# ---- samples, classes, codes ----------------------------------------------------------------------------------------


def test_independent_pixels_keep_the_marginals_and_lose_the_structure():
    a = torch.randint(0, 2, (500, 1, 1, 1)).mul(255).to(torch.uint8)
    images = torch.cat([a, a, torch.full_like(a, 9), 255 - a], dim=3)
    found = independent_pixels(images, 4000).flatten(1).double()
    assert torch.allclose(found.mean(0), images.flatten(1).double().mean(0), atol=15)
    assert (found[:, 2] == 9).all()
    correlation = torch.corrcoef(found[:, [0, 1, 3]].T)
    assert (correlation - torch.eye(3, dtype=torch.float64)).abs().max() < 0.08


def test_draw_refuses_fewer_samples_than_asked_for_and_pixels_that_are_not_finite():
    class Short(Pixels):
        def sample(self, count, *, condition=None):
            return super().sample(count - 1)

    class Diverged(Pixels):
        def sample(self, count, *, condition=None):
            return super().sample(count) * math.nan

    p = torch.full((1, SIDE, SIDE), 0.5)
    with pytest.raises(GenError, match=r"sample\(10\): found shape \(9, 1, 8, 8\)"):
        draw(Short(SPEC, p), SPEC, 25, batch_size=10)
    with pytest.raises(GenError, match="not finite"):
        draw(Diverged(SPEC, p), SPEC, 25)
    assert draw(Pixels(SPEC, p), SPEC, 25, batch_size=10).shape == (25, 1, SIDE, SIDE)


def test_speed_is_the_median_and_stops_when_time_is_up():
    times = iter([0, 2, 10, 14, 20, 21])  # three runs of 2, 4 and 1 seconds
    speed = sampling_speed(pixels(), SPEC, 8, repeats=3, clock=lambda: next(times))
    assert speed.images_per_second == 8 / 2 and speed.repeats == 3
    times = iter([0, 60])
    assert sampling_speed(pixels(), SPEC, 8, seconds=10, clock=lambda: next(times)).repeats == 1


def test_random_rows_are_different_rows():
    assert sorted(random_rows(10, 99).tolist()) == list(range(10))
    assert len(set(random_rows(1000, 50).tolist())) == 50


def test_class_balance_by_hand():
    probabilities = torch.tensor([[0.7, 0.2, 0.1]] * 3 + [[0.1, 0.9, 0.0]]).double()
    found = class_balance(probabilities, torch.tensor([0, 1, 1, 2]))
    assert found.shares == [0.75, 0.25, 0.0] and found.min_share == 0.0 and found.present == 2
    assert found.kl == pytest.approx(0.75 * math.log(3) + 0.25 * math.log(0.5))
    assert found.confidence == pytest.approx(0.75)


def test_reconstruction_error_in_decibels():
    a, b = torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.full((1, 1, 2, 2), 51, dtype=torch.uint8)
    assert mean_squared_error(a, b) == pytest.approx(0.04)
    assert peak_signal_to_noise(0.04) == pytest.approx(13.979, abs=1e-3)


def test_linear_probe_reads_a_line_and_nothing_from_noise():
    codes, test_codes = torch.randn(400, 5), torch.randn(200, 5)
    labels, test_labels = ((c[:, 0] > 0.1 * c[:, 1]).long() for c in (codes, test_codes))
    assert linear_probe((codes, labels), (test_codes, test_labels)) > 0.95
    assert linear_probe((torch.randn(400, 5), labels), (torch.randn(200, 5), test_labels)) < 0.65


# ---- the card -------------------------------------------------------------------------------------------------------


def card_of(model, judge, **options):
    return evaluate(model, judge=judge, splits=SPLITS, num_samples=80, batch_size=30, **options)


def test_a_card_without_labels_says_nothing_of_classes(judge):
    """The judge of unlabelled data tells mirrored images; distances come of its features as of any other's."""
    unlabelled = {name: (images.clone(), None) for name, (images, _) in SPLITS.items()}
    for images, _ in unlabelled.values():
        images[:, :, :3, :3] = 255  # a corner, by which a mirrored image can be told
    own = train_judge(*unlabelled["train"], unlabelled["validation"], images_budget=3_000)
    assert own.facts["task"] == "mirrors" and own.num_classes == 4
    assert own.facts["validation"]["accuracy_8_bit"] > 0.95
    card, _ = evaluate(pixels(), judge=own, splits=unlabelled, num_samples=80, batch_size=30)
    named = flatten(card)
    assert not [name for name in named if "class" in name or "judge_" in name or "probe" in name]
    assert {"nats", "fid", "kid", "coverage", "nearest_ratio", "reconstruction_psnr"} <= named.keys()
    assert named["fid_floor"] < named["fid_independent"]


def test_card_of_a_model_that_can_do_everything(judge):
    before = torch.get_rng_state()
    card, pictures = card_of(pixels(), judge)
    assert judge.facts["task"] == "classes"
    assert torch.equal(before, torch.get_rng_state())
    flat = flatten(card)
    assert json.loads(json.dumps(card, allow_nan=False)) == card
    counts = {
        "fid": (100, 80),
        "kid": (100, 80),
        "precision": (80, 80),
        "coverage": (80, 80),
        "min_class_share": (300, 80),
    }
    for name, (n_real, n_fake) in counts.items():
        for suffix in ("", "_floor", "_independent"):
            protocol = card["scores"][name + suffix]["protocol"]
            assert (protocol["n_real"], protocol["n_fake"]) == (n_real, n_fake)
            assert protocol["extractor"] == f"judge {judge.hash}"
    for score in card["scores"].values():
        assert score["protocol"]["space"] == "binary_dynamic" and score["protocol"]["bit_depth"] == 1.0
        assert {"n", "n_real", "n_fake", "batch"} & score["protocol"].keys()
    assert card["scores"]["nats"]["protocol"]["estimator"] == "exact" and flat["nats"] == flat["nats_exact"]
    assert card["scores"]["nats_bound"]["protocol"]["kind"] == "lower bound" and flat["nats_bound"] < flat["nats"]
    assert card["scores"]["nats"]["protocol"]["n_real"] == 100
    assert flat["fid_floor"] < 0.2 * flat["fid"] and flat["coverage_floor"] > 0.85
    assert flat["linear_probe"] > 0.9 and flat["linear_probe_pixels"] > 0.9
    bits = space_view(SPLITS["test"][0], BINARY, seed=1)
    lost = (bits[:, :, 4:].double() / 255).sum() / bits.numel()
    assert flat["reconstruction_mse"] == pytest.approx(float(lost))
    assert {name: tuple(p.shape) for name, p in pictures.items()} == {
        "samples": (64, 1, 8, 8),
        "neighbours": (64, 1, 8, 8),
        "reconstructions": (64, 1, 8, 8),
        "completions": (64, 1, 8, 8),
        "p": (1, 1, 8, 8),
    }
    assert all(p.dtype == torch.uint8 for p in pictures.values())
    given, completed = pictures["completions"][::2], pictures["completions"][1::2]
    assert torch.equal(given[:, :, :4], completed[:, :, :4]) and not torch.equal(given, completed)


def test_the_same_seed_gives_the_same_card_and_another_seed_another(judge):
    def timeless(card):
        return {name: score for name, score in card["scores"].items() if "per_second" not in name}

    (a, shown), (b, shown_again), (c, _) = (card_of(pixels(), judge, seed=s) for s in (3, 3, 4))
    assert timeless(a) == timeless(b) != timeless(c)
    assert all(torch.equal(shown[name], shown_again[name]) for name in shown)


def test_what_a_model_cannot_do_is_absent_and_copies_are_found_out(judge):
    spec = DataSpec((1, SIDE, SIDE), 2, Space.parse("signed"))
    card, pictures = card_of(Obedient(spec), judge)
    assert pictures.keys() == {"samples", "neighbours"}
    flat = flatten(card)
    assert not {"nats", "bits_per_dim", "reconstruction_mse", "linear_probe", "class_accuracy"} & flat.keys()
    assert card["scores"]["fid"]["protocol"]["bit_depth"] == 8.0
    assert flat["nearest_ratio_pixels"] == 0.0 and flat["auth_pct_pixels"] == 0.0 and flat["auth_pct_pixels_floor"] > 20
    assert torch.equal(pictures["neighbours"][::2], pictures["neighbours"][1::2])
    assert flat["fid"] < 0.2 * flat["fid_independent"]


def test_a_conditional_model_is_asked_whether_it_obeys(judge):
    spec = DataSpec((1, SIDE, SIDE), 2, Space.parse("signed"))
    asked = torch.arange(80) // 60  # 60 of the left, 20 of the right
    card, _ = card_of(Obedient(spec), judge, conditions=asked)
    assert flatten(card)["class_accuracy"] > 0.95
    assert flatten(card)["min_class_share"] == pytest.approx(0.25, abs=0.03)
    with pytest.raises(GenError, match="79 labels for 80 samples"):
        card_of(Obedient(spec), judge, conditions=asked[1:])


def test_missing_splits_are_named(judge):
    with pytest.raises(DataError, match="test missing"):
        evaluate(pixels(), judge=judge, splits={"train": SPLITS["train"]})


def test_fixed_seed_gives_the_generator_back_even_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="negative"), fixed_seed(1):
        torch.rand(3), torch.rand(-1)
    assert torch.equal(before, torch.get_rng_state())


def test_views_and_encodings_of_one_seed_show_the_same_bits():
    images = torch.randint(0, 256, (2100, 1, 4, 4), dtype=torch.uint8)
    view, x = space_view(images, BINARY, seed=5), in_space(images, BINARY, seed=5)
    assert torch.equal(view, BINARY.decode(x)) and set(view.unique().tolist()) == {0, 255}
    assert abs(float((x - images / 255).mean())) < 0.01


# ---- predictions ------------------------------------------------------------------------------------------------


class Fade:
    """Predicts frames of one grey, and finds every true frame as probable as the last one before it says."""

    spec = DataSpec((1, 2, 3), 0, Space.parse("levels(3)"), frames=5)

    def given(self):
        return 2

    def predict(self, context, frames):
        return context[:, :, -1:].expand(-1, -1, frames, -1, -1) / 2

    def frame_log_probs(self, x):
        return -1 - x[:, :, 1:-1].sum((1, 3, 4))

    def parameters(self):
        return iter([torch.zeros(1)])

    buffers = parameters


def test_predictions_are_scored_by_frame_and_against_independent_pixels():
    torch.manual_seed(0)
    train, test = (torch.randint(0, 256, (n, 1, 5, 2, 3), dtype=torch.uint8) for n in (40, 30))
    bench = Bench(Fade(), None, (train, None), (test, None), 0, 0, 7, None)
    scores, pictures = predictions(bench.model, bench)
    expected = -1 - bench.test_x[:, :, 1:4].sum((1, 3, 4)).double()  # (30, 3)
    assert scores["nats"]["value"] == pytest.approx(float(expected.mean()), rel=1e-6)
    assert scores["bits_per_dim"]["value"] == pytest.approx(-float(expected.mean()) / (6 * math.log(2)), rel=1e-6)
    facts = scores["nats"]["protocol"]
    assert (facts["kind"], facts["per"], facts["frames_given"], facts["frames_predicted"]) == ("exact", "frame", 2, 3)
    assert facts["standard_error_nats"] == pytest.approx(float(expected.mean(1).std()) / math.sqrt(30), rel=1e-6)
    of_train, of_test = ((view[:, 0, 2:] / 127.5).round() for view in (bench.train_view, bench.test_view))
    total = 0.0
    for t, i, j in itertools.product(range(3), range(2), range(3)):
        for level in of_test[:, t, i, j]:
            total += math.log(((of_train[:, t, i, j] == level).sum() + 1) / 43)
    assert scores["independent_nats"]["value"] == pytest.approx(total / 90, rel=1e-9)
    strips = pictures["predictions"]
    assert strips.shape == (8 * 3, 1, 2 * 16, 5 * (3 * 16 + 2) - 2)
    assert (strips[1, 0, :, : 2 * 50] == PAPER).all(), "below the frames given there is nothing"
    assert torch.equal(strips[1], strips[2]) and not torch.equal(strips[0], strips[1])
    assert (strips[1, 0, :16, 100:116] == strips[0, 0, 0, 50] // 2 + strips[0, 0, 0, 50] % 2).all()


def test_the_judge_sees_the_frames_of_videos():
    videos, labels = torch.randint(0, 256, (6, 3, 5, 4, 2), dtype=torch.uint8), torch.arange(6)
    frames, of_frames = frame_by_frame(videos, labels)
    assert all(torch.equal(frames[n * 5 + t], videos[n, :, t]) for n in range(6) for t in range(5))
    assert of_frames.tolist() == [n for n in range(6) for _ in range(5)]
    assert frame_by_frame(frames, None) == (frames, None)
    of_videos, of_images = (train_judge(x, None, (x, None), images_budget=64) for x in (videos, frames))
    assert of_videos.hash == of_images.hash


# ---- grids ----------------------------------------------------------------------------------------------------------


def test_film_strips_get_fewer_columns():
    strips = torch.zeros(8, 1, 48, 8 * 48)
    assert grid(strips).shape[:2] == (8 * 50 + 2, 8 * 48 + 4)


def test_grid_puts_images_row_by_row_on_light_paper(tmp_path):
    images = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 1, 24, 24) * 10
    sheet = grid(images, columns=3)  # enlarged twice: 48 pixels and gaps of 4
    assert sheet.shape == (2 * 52 + 4, 3 * 52 + 4, 3) and sheet.dtype == np.uint8
    assert [int(sheet[4 + 52 * (i // 3), 4 + 52 * (i % 3), 0]) for i in range(6)] == [0, 10, 20, 30, 40, PAPER]
    assert (sheet[:4] == PAPER).all()
    assert np.array_equal(grid(images.float() / 255, columns=3), sheet)
    save_png(tmp_path / "deep" / "sheet.png", images, columns=3)
    read = np.asarray(Image.open(io.BytesIO((tmp_path / "deep" / "sheet.png").read_bytes())))
    assert np.array_equal(read, sheet)


# ---- the real thing -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_judge_of_the_digits_is_good_enough_to_judge():
    from gen.sources.digits import digits

    splits = {
        name: (torch.from_numpy(split.samples.images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(split.labels))
        for name, split in digits().splits.items()
    }
    judge = train_judge(*splits["train"], splits["validation"])
    images, labels = splits["test"]
    bits = space_view(images, BINARY, seed=0)
    assert accuracy(judge, images, labels) >= 0.96
    assert accuracy(judge, bits, labels) >= 0.95
    train = space_view(splits["train"][0], BINARY, seed=1)
    real = extract(judge, bits)[0]
    floor = frechet_distance(real, extract(judge, train[random_rows(len(train), 1000)])[0])
    noise = frechet_distance(real, extract(judge, independent_pixels(train, 1000))[0])
    assert floor < 1.0 < 30.0 < noise
