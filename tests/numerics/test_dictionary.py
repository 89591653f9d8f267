"""Dictionary learning: its gradient, its constraint, dead atoms, whitening, a planted truth, digits and photographs."""

import copy

import pytest
import torch
from torch.nn.functional import normalize, unfold

from gen.data.spaces import DataSpec, Space
from gen.errors import RecipeError
from gen.inference.sparse import fista, objective
from gen.model import Batch, Progress
from gen.models.linear.sparse_coding import SparseCoding
from gen.train.parallel import Parallel
from gen.train.step import Stepper

SIGNED = Space.parse("signed")
PENALTY = 0.3


def spec(channels=1, height=9, width=11):
    return DataSpec((channels, height, width), 0, SIGNED)


def build(data_spec, **hyper):
    torch.manual_seed(0)
    return SparseCoding(data_spec, **hyper).double()


def step(m, x, lr):
    """One update as the loop makes it, with plain SGD; no stretch ends."""
    updates = m.updates(iter([Batch(x)]), Progress(0, 0, 1))
    update = next(updates)
    (gradient,) = torch.autograd.grad(update.loss, m.groups()[update.group])
    with torch.no_grad():
        m.dictionary -= lr * gradient
    assert next(updates, None) is None
    return update.metrics


def train(m, x, images, batch, slices=1):
    """As the loop trains, in this process, on images (N, C, H, W); yields the metrics of every step."""
    stepper = Stepper(m, m.optimizers(), Parallel(m.groups(), slices=slices), seed=0)
    torch.manual_seed(0)
    rows = torch.cat([torch.randperm(len(x)) for _ in range(-(-images // len(x)))])
    for i in range(images // batch):
        parts = x[rows[i * batch : (i + 1) * batch]].chunk(slices)
        yield stepper(Progress(i, i * batch, images), lambda n, part, parts=parts: Batch(parts[part]))[1]


def test_gradient_with_codes_fixed_is_that_of_the_minimum():
    """Danskin: d/dD min_h F(D, h) = dF/dD at h*, here against central differences of the minimum itself."""
    torch.manual_seed(0)
    x = torch.randn(60, 16, dtype=torch.float64)
    m = build(spec(height=4, width=4), atoms=24, patch=4, penalty=PENALTY)

    def minimum(D):
        h = fista(x, D, PENALTY, iterations=20_000, tolerance=1e-11)
        return objective(x, D, h, PENALTY).mean()

    D = m.dictionary.detach()
    loss, _ = m.reconstruct(x, fista(x, D, PENALTY, iterations=20_000, tolerance=1e-11))
    loss.backward()
    for _ in range(5):
        direction = normalize(torch.randn_like(D), dim=(0, 1))
        difference = (minimum(D + 1e-5 * direction) - minimum(D - 1e-5 * direction)) / 2e-5
        torch.testing.assert_close((m.dictionary.grad * direction).sum(), difference, rtol=1e-5, atol=1e-8)


def test_atoms_stay_in_the_unit_ball_and_projecting_twice_changes_nothing():
    m = build(spec(), atoms=20, patch=5)
    x = torch.rand(8, 1, 9, 11, dtype=torch.float64) * 2 - 1
    m.initialize(x)
    with torch.no_grad():
        m.dictionary[:, 0] *= 0.5
    step(m, x, lr=50.0)
    norms = m.dictionary.norm(dim=0)
    assert norms.max() <= 1 + 1e-6
    before = m.dictionary.detach().clone()
    step(m, x, lr=0.0)
    assert torch.equal(before, m.dictionary)
    with torch.no_grad():
        m.dictionary.mul_(0.5)
    before = m.dictionary.detach().clone()
    step(m, x, lr=0.0)
    assert torch.equal(before, m.dictionary)  # shorter atoms are left alone


@pytest.mark.parametrize(("channels", "height", "width", "patch"), [(1, 9, 11, 4), (3, 8, 8, 8), (2, 10, 7, 3)])
def test_patches_are_cut_and_put_back_exactly(channels, height, width, patch):
    data_spec = spec(channels, height, width)
    d = channels * patch**2
    m = build(data_spec, atoms=d, patch=patch, penalty=1e-9)
    x = torch.rand(3, channels, height, width, dtype=torch.float64) * 2 - 1
    every = (torch.arange(height - patch + 1)[:, None] * width + torch.arange(width - patch + 1)).flatten()
    torch.testing.assert_close(m.patches.cut(x, every), unfold(x, patch).transpose(1, 2).reshape(-1, d))
    per_image = torch.stack([every[:1], every[-1:], every[:1]])
    torch.testing.assert_close(m.patches.cut(x, per_image)[1:2], m.patches.cut(x[1:2], every[-1:]))
    with torch.no_grad():
        m.dictionary.copy_(torch.eye(d))  # every patch is its own code
    torch.testing.assert_close(m.decode(m.encode(x)), x, rtol=0, atol=1e-6)


def test_initial_atoms_are_distinct_patches_of_unit_length():
    m = build(spec(), atoms=10, patch=5)
    x = torch.rand(20, 1, 9, 11, dtype=torch.float64) * 2 - 1
    x[:5] = -1  # blank images cannot become atoms
    m.initialize(x)
    D = m.dictionary.detach()
    torch.testing.assert_close(D.norm(dim=0), torch.ones(10, dtype=torch.float64))
    candidates = normalize(m.centred(m.patches.covering(x))[0], dim=1)
    assert ((candidates @ D).amax(0) > 1 - 1e-12).all()
    assert (D.T @ D).fill_diagonal_(0).max() < 1 - 1e-6


def test_learning_recovers_a_planted_dictionary():
    torch.manual_seed(3)
    K, patch = 12, 5
    truth = torch.randn(patch**2, K, dtype=torch.float64)
    truth = normalize(truth - truth.mean(0), dim=0)

    def draw(count):
        h = (
            torch.randn(count, K, dtype=torch.float64).sign()
            * (1 + torch.rand(count, K))
            * (torch.rand(count, K) < 0.15)
        )
        return (h @ truth.T + 0.01 * torch.randn(count, patch**2)).view(count, 1, patch, patch)

    m = build(spec(1, patch, patch), atoms=K + 4, patch=patch, penalty=0.1, patches_per_image=1)
    m.initialize(draw(200))
    metrics = [step(m, draw(200), lr=1.0) for _ in range(150)]
    matches = (truth.T @ normalize(m.dictionary.detach(), dim=0)).abs().amax(1)
    assert matches.min() > 0.98
    assert metrics[-1]["objective"] < 0.8 * metrics[0]["objective"]


def planted(count, K=12, patch=5):
    """Patches of three or so of K random atoms, and the atoms (d, K)."""
    torch.manual_seed(3)
    truth = torch.randn(patch**2, K, dtype=torch.float64)
    truth = normalize(truth - truth.mean(0), dim=0)
    h = torch.randn(count, K, dtype=torch.float64) * (torch.rand(count, K) < 0.25)
    return (h @ truth.T).view(count, 1, patch, patch), truth


@pytest.mark.parametrize("slices", [1, 4])
def test_dead_atoms_are_revived_and_used(slices):
    """Atoms that no patch can use, as they are all but zero: at the end of the stretch each is one again."""
    x, truth = planted(600)
    m = build(spec(1, 5, 5), atoms=20, patch=5, penalty=0.2, patches_per_image=1, stretch=200)
    m.initialize(x)
    dead = torch.arange(0, 20, 3)
    with torch.no_grad():
        m.dictionary[:, dead] *= 1e-3
    steps = list(train(m, x, 4000, 40, slices))
    revived = [metrics.get("revived", torch.zeros(())).item() for metrics in steps]
    assert revived[:5] == [0] * 5, "the first stretch is 5 batches of 40 images"
    assert revived[5] == len(dead)
    m.dictionary.requires_grad_(False)
    torch.testing.assert_close(m.dictionary.norm(dim=0)[dead], torch.ones(len(dead)).double(), rtol=0, atol=0.3)
    usage = (fista(m.centred(x.flatten(1))[0], m.dictionary, 0.2) != 0).double().mean(0)
    assert usage.min() > 0.01, "of 600 patches"
    matches = (truth.T @ normalize(m.dictionary, dim=0)).abs().amax(1)
    assert matches.min() > 0.98


def test_a_dead_atom_becomes_the_worst_patch():
    x, _ = planted(40)
    m = build(spec(1, 5, 5), atoms=6, patch=5, penalty=0.2, patches_per_image=1, stretch=40)
    m.initialize(x)
    with torch.no_grad():
        m.dictionary[:, [1, 4]] = 0.0
    m.used += torch.tensor([1.0, 0, 1, 1, 0, 1])
    patches = m.centred(x.flatten(1))[0]
    error = (patches - fista(patches, m.dictionary, 0.2, iterations=m.iterations) @ m.dictionary.T).square().sum(1)
    worst = normalize(patches[error.argsort(descending=True)[:2]], dim=1)
    updates = m.updates(iter([Batch(x)]), Progress(1, 40, 400))
    assert next(updates).group == "dictionary"
    update = next(updates)
    assert update.group == "revival"
    assert update.metrics["revived"] == 2
    (gradient,) = torch.autograd.grad(update.loss, m.groups()["revival"])
    assert (gradient[:, [0, 2, 3, 5]] == 0).all(), "the living are left alone"
    with torch.no_grad():
        m.dictionary -= m.optimizers()["revival"].lr * gradient
    assert next(updates, None) is None
    torch.testing.assert_close(m.dictionary.detach()[:, [1, 4]], worst.T)
    assert m.used.max() <= 1, "a new stretch began with this batch"


def test_stretches_are_counted_in_images():
    m = build(spec(), atoms=4, patch=5, stretch=100)
    for batch in (7, 40, 64, 100, 250):
        ends = [m.stretch_ends(Progress(i, i * batch, 2000)) for i in range(2000 // batch)]
        expected = [i > 0 and i * batch // 100 > (i - 1) * batch // 100 for i in range(len(ends))]
        assert ends == expected


def test_no_atom_dies_that_is_used_on_one_slice_only():
    """Usage is averaged over slices, so it is zero only where it is zero on all of them."""
    x, _ = planted(64)
    x[32:] = 0.0  # blank: the second slice of every batch uses nothing
    m = build(spec(1, 5, 5), atoms=3, patch=5, penalty=0.05, patches_per_image=1, stretch=64)
    m.initialize(x[:32])
    stepper = Stepper(m, m.optimizers(), Parallel(m.groups(), slices=2), seed=0)
    for i in range(3):
        _, metrics = stepper(Progress(i, 64 * i, 640), lambda n, part: Batch(x.chunk(2)[part]))
        assert "revived" not in metrics
    assert (m.used > 0).all()


def test_dictionaries_saved_without_a_count_still_load():
    m = build(spec(), atoms=7, patch=4)
    state = copy.deepcopy(m.state_dict())
    assert set(state) == {"dictionary", "used"}
    del state["used"]
    fresh = SparseCoding(spec(), atoms=7, patch=4).double()
    fresh.load_state_dict(state)
    assert torch.equal(fresh.dictionary, m.dictionary)


@pytest.mark.parametrize("whiten", [None, 0.1])
def test_images_survive_codes_in_a_complete_basis(whiten):
    m = build(spec(2, 10, 7), atoms=18, patch=3, penalty=1e-9, whiten=whiten)
    x = torch.rand(20, 2, 10, 7, dtype=torch.float64) * 2 - 1
    m.initialize(x)
    with torch.no_grad():
        m.dictionary.copy_(torch.eye(18))
    torch.testing.assert_close(m.decode(m.encode(x)), x, rtol=0, atol=1e-6)
    if whiten is not None:
        patches = m.centred(m.patches.covering(x))[0]
        torch.testing.assert_close(patches.square().sum(), (x_centred(m, x)).square().sum())


def x_centred(m, x):
    patches = m.patches.covering(x)
    return patches - patches.mean(1, keepdim=True)


@pytest.mark.parametrize(
    "hyper",
    [
        {"atoms": 0},
        {"patch": 1},
        {"patch": 10},
        {"penalty": 0.0},
        {"patches_per_image": 0},
        {"iterations": 0},
        {"stretch": 0},
        {"whiten": 0.0},
    ],
    ids=str,
)
def test_impossible_recipes_are_refused(hyper):
    with pytest.raises(RecipeError, match=f"hyper.{next(iter(hyper))}.*found.*allowed"):
        SparseCoding(spec(), **{"patch": 5, **hyper})
