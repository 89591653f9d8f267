"""The denoising autoencoder against what the best denoiser is known to be: closed forms, enumeration, the score."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gen.data import toys
from gen.data.sample import Arrays, Collection
from gen.data.spaces import DataSpec, Space
from gen.errors import GenError, RecipeError
from gen.evaluate.bench import Bench
from gen.evaluate.codes import linear_probe, mean_squared_error, peak_signal_to_noise
from gen.evaluate.denoising import denoising as measure
from gen.evaluate.grids import grid
from gen.evaluate.judge import Judge, accuracy, train_judge
from gen.inference import corruption
from gen.model import Batch, GenerativeModel
from gen.models.autoencoders import denoising
from gen.models.autoencoders.autoencoder import Autoencoder
from gen.models.autoencoders.denoising import DenoisingAutoencoder


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def descend(model: GenerativeModel, x: Tensor, steps: int, *, lr: float, batch: int | None = None) -> None:
    """Train on images (N, C, H, W): on random ones at a time, or on all of them."""
    model.initialize(x)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    for _ in range(steps):
        loss, _ = model.loss(Batch(x if batch is None else x[torch.randint(len(x), (batch,))]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def test_corruptions_have_the_moments_they_name():
    x = torch.rand(2_000, 3, 4, 4).double() + 1
    noise = corruption.gaussian(x, 0.3) - x
    assert abs(noise.mean()) < 5 * 0.3 / noise.numel() ** 0.5
    assert noise.std().item() == pytest.approx(0.3, rel=0.01)
    masked = corruption.masking(x, 0.3)
    gone = masked == 0
    assert torch.equal(masked[~gone], x[~gone])
    assert torch.equal(gone.all(1), gone.any(1)), "a pixel is masked with all its channels"
    assert gone.double().mean().item() == pytest.approx(0.3, abs=0.015)


@pytest.mark.parametrize("latents", [4, 2])
def test_the_linear_denoiser_shrinks_principal_axes(latents: int, monkeypatch: pytest.MonkeyPatch):
    """With C = sum_i l_i u_i u_i^T the optimum is C (C + sigma^2 I)^-1 = sum_i l_i / (l_i + sigma^2) u_i u_i^T about
    the mean, cut off after as many axes as the code has; (r - x) / sigma^2 is then the score of a Gaussian.

    The noise is made exact: of zero mean, uncorrelated with the images and among pixels, so that the training set's
    optimum is the population's.
    """
    sigma, n, d = 0.7, 40, 4
    x = torch.randn(n, d).double() @ torch.diag(torch.tensor([1.5, 1.0, 0.6, 0.3]).double())
    x = x @ torch.linalg.qr(torch.randn(d, d).double())[0] + 0.4
    taken = torch.cat([torch.ones(n, 1).double(), x], 1)
    noise = torch.linalg.qr(torch.cat([taken, torch.randn(n, d).double()], 1))[0][:, -d:] * sigma * n**0.5
    monkeypatch.setitem(denoising.CORRUPTIONS, "gaussian", lambda x, amount: x + noise.view_as(x))

    spec = DataSpec((1, 2, 2), 0, Space.parse("signed"))
    model = DenoisingAutoencoder(spec, latents=latents, hidden=(), amount=sigma).double()
    descend(model, x.view(n, 1, 2, 2), 1_000, lr=0.03)

    mean, C = x.mean(0), torch.cov(x.T, correction=0)
    values, axes = torch.linalg.eigh(C)
    values, axes = values.flip(0)[:latents], axes.flip(1)[:, :latents]
    W = axes * (values / (values + sigma**2)) @ axes.T
    torch.testing.assert_close(model.decoder[0].weight @ model.encoder[1].weight, W, rtol=0, atol=1e-4)
    probe = torch.randn(5, d).double()
    torch.testing.assert_close(
        model.denoise(probe.view(5, 1, 2, 2)).flatten(1), mean + (probe - mean) @ W, rtol=0, atol=1e-3
    )
    if latents == d:
        covariance = C + sigma**2 * torch.eye(d)
        score = -torch.linalg.solve(covariance, (probe - mean).T).T
        torch.testing.assert_close(model.score(probe.view(5, 1, 2, 2)).flatten(1), score, rtol=0, atol=2e-3)


@pytest.mark.parametrize(("process", "amount"), [("masking", 0.4), ("gaussian", 0.5)])
def test_bits_are_restored_as_bayes_rule_does(process: str, amount: float):
    """Images that can be enumerated: r(x~) is the posterior mean E[x | x~], which no other output can beat."""
    truth = toys.bars_and_stripes(3)
    spec = DataSpec((1, 3, 3), 0, Space.parse("binary_fixed"))
    model = DenoisingAutoencoder(spec, latents=32, hidden=(64,), corruption=process, amount=amount)
    descend(model, truth.sample(5_000), 1_000, lr=0.01, batch=200)

    clean = truth.sample(2_000)
    x = model.corrupt(clean)
    if process == "masking":  # a one is a one; a zero was one or is masked
        likelihood = torch.stack(
            [torch.where(x == 1, i, torch.where(i == 1, amount, 1.0)).flatten(1).prod(1) for i in truth.images], 1
        )
    else:
        likelihood = torch.stack(
            [(-(x - i).square().flatten(1).sum(1) / (2 * amount**2)).exp() for i in truth.images], 1
        )
    posterior = likelihood.double() * truth.probability
    posterior /= posterior.sum(1, keepdim=True)
    best = (posterior @ truth.images.double().flatten(1)).view_as(x)
    restored = model.denoise(x).double()
    assert (restored - best).abs().mean() < 0.02

    hidden = x == 0 if process == "masking" else torch.ones_like(x, dtype=torch.bool)
    guess = truth.images.double().flatten(1).T @ truth.probability  # each pixel's mean
    errors = [((y - clean).square()[hidden]).mean() for y in (best, restored, guess.view(1, 1, 3, 3).expand_as(clean))]
    assert errors[0] < errors[1] < 1.1 * errors[0] < 0.7 * errors[2]


def test_the_residual_is_the_score_of_the_smoothed_mixture():
    """A ring of eight modes as pictures of one pixel with two channels: r(x) - x = sigma^2 grad log p_sigma(x)."""
    sigma, ring = 0.15, toys.ring(radius=0.8, std=0.03)
    spec = DataSpec((2, 1, 1), 0, Space.parse("signed"))
    model = DenoisingAutoencoder(spec, latents=64, hidden=(64,), amount=sigma)
    descend(model, ring.sample(20_000).view(-1, 2, 1, 1), 1_500, lr=5e-3, batch=256)

    smoothed = toys.Mixture(ring.means, (ring.std**2 + sigma**2) ** 0.5)
    x = smoothed.sample(5_000).requires_grad_()
    (score,) = torch.autograd.grad(smoothed.log_prob(x).sum(), x)
    found = model.score(x.detach().view(-1, 2, 1, 1)).flatten(1)
    assert torch.corrcoef(torch.stack([found.flatten(), score.flatten()]))[0, 1] > 0.95
    assert (found - score).square().mean() < 0.1 * score.square().mean(), "and of the same length"


@torch.no_grad()
def test_the_chain_draws_independent_bits_exactly():
    """Where pixels are independent, P is right and linear in the log-odds: logit p + (x~ - 1/2) / sigma^2. Whatever it
    starts from, the chain then converges to the data, however strong the noise [4]."""
    sigma, p = 0.8, torch.tensor([0.1, 0.3, 0.5, 0.9])
    model = DenoisingAutoencoder(
        DataSpec((1, 2, 2), 0, Space.parse("binary_fixed")), latents=4, hidden=(), amount=sigma, steps=30
    )
    encoder, decoder = model.encoder[1], model.decoder[0]
    encoder.weight.copy_(torch.eye(4))
    encoder.bias.zero_()
    decoder.weight.copy_(torch.eye(4) / sigma**2)
    decoder.bias.copy_(p.logit() - 0.5 / sigma**2)
    x = model.sample(20_000).flatten(1)
    torch.testing.assert_close(x.mean(0), p, rtol=0, atol=5 * 0.5 / 20_000**0.5)
    assert (torch.cov(x.T) - torch.diag(p * (1 - p))).abs().max() < 0.01

    known = torch.tensor([True, False, False, True]).view(1, 1, 2, 2).expand(20_000, 1, 2, 2)
    completed = model.complete(torch.ones(20_000, 1, 2, 2), known)
    assert (completed[known] == 1).all()
    torch.testing.assert_close(completed[~known].view(-1, 2).mean(0), p[1:3], rtol=0, atol=5 * 0.5 / 20_000**0.5)


@torch.no_grad()
def test_the_chain_of_a_squared_error_draws_too_narrowly_by_a_known_factor():
    """For N(0, l) it is x~ <- w x~ + sigma e with w = l / (l + sigma^2): samples w x~ have variance
    l^2 / (2 l + sigma^2), about half of l. The temperature multiplies sigma."""
    sigma, variance, temperature = 0.5, 1.0, 0.7
    model = DenoisingAutoencoder(DataSpec((1, 1, 1), 0, Space.parse("signed")), latents=1, hidden=(), amount=sigma)
    for parameter in model.parameters():
        parameter.fill_(0.0)
    model.encoder[1].weight.fill_(1.0)
    model.decoder[0].weight.fill_(variance / (variance + sigma**2))
    expected = variance**2 / (2 * variance + sigma**2)
    assert model.sample(50_000).var().item() == pytest.approx(expected, rel=0.03)
    drawn = model.sample(50_000, temperature=temperature)
    assert drawn.var().item() == pytest.approx(temperature**2 * expected, rel=0.03)


def test_only_gaussian_noise_has_a_score_and_amounts_are_checked():
    spec = DataSpec((1, 3, 3), 0, Space.parse("binary_fixed"))
    with pytest.raises(GenError, match="the corruption is masking"):
        DenoisingAutoencoder(spec, corruption="masking").score(torch.zeros(1, 1, 3, 3))
    for options in ({"amount": 0.0}, {"amount": 1.0, "corruption": "masking"}, {"corruption": "salt"}, {"steps": 0}):
        with pytest.raises(RecipeError, match=r"allowed|Allowed"):
            DenoisingAutoencoder(spec, **options)


@pytest.mark.slow
def test_digits_are_denoised_and_their_codes_are_better_than_those_of_an_autoencoder(digits_data: Collection):
    """sigma = 0.3 of the way from black to white: at least 3 dB over the noisy image, which is clipped to 8 bits; and
    a straight line reads the class from the codes no worse than from those of the same nets trained to copy."""
    spec = DataSpec((1, 28, 28), 10, Space.parse("dequantized"))
    images, labels = {}, {}
    for name in ("train", "test"):
        split = digits_data.splits[name]
        assert isinstance(split.samples, Arrays) and split.labels is not None
        images[name] = spec.space.encode(torch.from_numpy(split.samples.images).movedim(3, 1))
        labels[name] = torch.from_numpy(split.labels)
    codes = {}
    denoiser = DenoisingAutoencoder(spec, latents=32, amount=0.3)
    for model in (denoiser, Autoencoder(spec, latents=32)):
        descend(model, images["train"], 1_500, lr=2e-3, batch=100)
        codes[model] = [(model.encode(images[name]), labels[name]) for name in ("train", "test")]
    noisy, space = denoiser.corrupt(images["test"]), spec.space
    clean = space.decode(images["test"])
    before, after = (
        peak_signal_to_noise(mean_squared_error(space.decode(x), clean)) for x in (noisy, denoiser.denoise(noisy))
    )
    assert after - before >= 3
    of_denoiser, of_autoencoder = (linear_probe(*codes[model]) for model in codes)
    assert of_denoiser >= of_autoencoder


def test_the_gain_of_a_model_that_changes_nothing_is_zero():
    """Grey images, which noise of sigma = 0.1 never clips: 20 dB of noise, less what rounding to 8 bits adds."""
    spec = DataSpec((1, 4, 4), 0, Space.parse("dequantized"))
    model = DenoisingAutoencoder(spec, latents=16, hidden=(), amount=0.1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.eye(16) if parameter.ndim == 2 else torch.zeros(16))
    grey = torch.full((400, 1, 4, 4), 128, dtype=torch.uint8)
    measured, pictures = measure(model, Bench(model, Judge(1, 2), (grey, None), (grey, None), 0, 10, 100, None))
    assert measured["psnr_noisy"]["value"] == pytest.approx(20.0, abs=0.2)
    assert measured["psnr_gain"]["value"] == pytest.approx(0.0, abs=0.01)
    assert pictures["denoised"].shape == (64, 1, 4, 4)


def test_points_of_the_plane_are_judged_and_drawn():
    """Pictures of one pixel with two channels: the judge tells the modes, and a sheet of them is a map."""
    ring = toys.ring(radius=100.0, std=1.0)
    modes = torch.arange(2_000) % 8
    points = (ring.means[modes] + torch.randn(2_000, 2) + 127.5).round().to(torch.uint8).view(-1, 2, 1, 1)
    judge = train_judge(points, modes, (points, modes), images_budget=6_400)
    assert accuracy(judge, points, modes) > 0.98

    sheet = grid(torch.tensor([[0, 0], [255, 255], [255, 255]], dtype=torch.uint8).view(3, 2, 1, 1))
    side = len(sheet)
    assert sheet.shape == (side, side, 3)
    assert sheet[0, -1, 0] < sheet[-1, 0, 0] < sheet[0, 0, 0] == sheet[-1, -1, 0], (
        "twice at the top right, once below left"
    )
