"""The same training as one would write it for one model alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from gen.data.order import order
from gen.data.reader import everything
from gen.data.spaces import DataSpec, Space
from gen.model import SGD, Adam, GenerativeModel
from gen.recipe import Recipe
from gen.registry import build, entry
from gen.train.loop import INITIAL_IMAGES
from gen.train.optim import override

Step = Callable[[Tensor], Tensor]
"""One step on uint8 images (B, C, H, W); returns the loss, detached."""


def dcgan(model: GenerativeModel, recipe: Recipe) -> Step:
    G, D, latents = model.generator, model.discriminator, model.latents
    optims = override(model.optimizers(), recipe.optim)
    optimizer_d, optimizer_g = _adam(D, optims["discriminator"]), _adam(G, optims["generator"])
    of_d, of_g = list(D.parameters()), list(G.parameters())
    bf16 = recipe.training.precision == "bf16"

    def step(pixels: Tensor) -> Tensor:
        x = pixels.to(torch.float32) / 127.5 - 1
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            with torch.no_grad():
                fakes = G(torch.rand(len(x), latents) * 2 - 1)
            loss_d = F.softplus(-D(x).float()).mean() + F.softplus(D(fakes).float()).mean()
        optimizer_d.zero_grad(set_to_none=True)
        loss_d.backward(inputs=of_d)
        optimizer_d.step()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss_g = F.softplus(-D(G(torch.rand(len(x), latents) * 2 - 1)).float()).mean()
        optimizer_g.zero_grad(set_to_none=True)
        loss_g.backward(inputs=of_g)
        optimizer_g.step()
        return loss_d.detach() + loss_g.detach()

    return step


def vae(model: GenerativeModel, recipe: Recipe) -> Step:
    encoder, decoder = model.encoder, model.decoder
    optimizer = _adam(model, override(model.optimizers(), recipe.optim)["model"])

    def step(pixels: Tensor) -> Tensor:
        x = pixels.flatten(1).to(torch.float32)
        x = (torch.rand_like(x) * 255 < x).float()  # faster than torch.bernoulli
        mean, log_var = encoder(x).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        reconstruction = F.binary_cross_entropy_with_logits(decoder(z).flatten(1), x, reduction="sum")
        kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum()
        loss = (reconstruction + kl) / len(x)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def rbm(model: GenerativeModel, recipe: Recipe) -> Step:
    layer, steps, chains = model.rbm, model.steps, model.chains.clone()
    optimizer = _sgd(model, override(model.optimizers(), recipe.optim)["model"])

    def bits(logits: Tensor) -> Tensor:
        return (torch.rand_like(logits) < torch.sigmoid(logits)).float()

    def step(pixels: Tensor) -> Tensor:
        x = pixels.flatten(1).to(torch.float32)
        v, v_k = (torch.rand_like(x) * 255 < x).float(), chains
        with torch.no_grad():
            for _ in range(steps):
                v_k = bits(layer.visible_logits(bits(layer.hidden_logits(v_k))))
        loss = layer.free_energy(v).mean() - layer.free_energy(v_k).mean()
        loss = loss + 0.5 * model.weight_cost * layer.W.square().sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        chains.copy_(v_k)
        return loss.detach()

    return step


def factor(model: GenerativeModel, recipe: Recipe) -> Step:
    statistics_ = [p.detach() for p in (model.mean, model.variance, model.cross, model.latent)]
    rate = override(model.optimizers(), recipe.optim)["statistics"].lr / 2

    @torch.no_grad()
    def step(pixels: Tensor) -> Tensor:
        x = pixels.flatten(1).to(torch.float32)
        x = (x + torch.rand_like(x)) / 256
        mean, variance, cross, latent = statistics_
        # M-step of the statistics so far, then the posterior of h under it
        W = torch.linalg.solve_triangular(torch.linalg.cholesky(latent), cross.T, upper=False).T
        psi = model.pool(variance - W.square().sum(1)).clamp(min=model.floor)
        L = torch.linalg.cholesky(torch.eye(len(latent)) + (W.T / psi) @ W)
        residual = x - mean
        h = torch.cholesky_solve((residual / psi @ W).T, L).T
        quadratic = ((residual - h @ W.T).square() / psi).sum(1) + h.square().sum(1)
        log_det = psi.log().sum() + 2 * L.diagonal().log().sum()
        expected = (
            x.mean(0),
            residual.square().mean(0),
            residual.T @ h / len(x),
            torch.cholesky_inverse(L) + h.T @ h / len(x),
        )
        for statistic, target in zip(statistics_, expected, strict=True):
            statistic.lerp_(target, rate)
        return (quadratic.mean() + log_det) / 2

    return step


BY_HAND = {"dcgan": dcgan, "vae": vae, "rbm": rbm, "factor": factor}


def _adam(net: torch.nn.Module, optim: Adam) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        net.parameters(), lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay, fused=True
    )


def _sgd(net: torch.nn.Module, optim: SGD) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=optim.lr / 2, momentum=optim.momentum, fused=True)


def plain_loop(recipe: Recipe, shards: Path) -> Iterator[Tensor]:
    """The loop by hand: every ``next`` does one step and gives the sum of the losses so far."""
    pixels, _ = everything(shards, "train")
    spec = DataSpec(tuple(pixels.shape[1:]), 10, Space.parse(recipe.space))
    torch.manual_seed(0)
    model = build(recipe.model, spec, **recipe.hyper)
    model.initialize(spec.space.encode(pixels[torch.from_numpy(order(0, 0, len(pixels))[:INITIAL_IMAGES].copy())]))
    step, batch = BY_HAND[entry(recipe.model).name](model.train(), recipe), recipe.training.batch
    leading = list(model.parameters())
    trailing = [p.detach().clone() for p in leading]
    keep = 0.5 ** (batch / recipe.training.ema) if recipe.training.ema else 0.0
    total = torch.zeros((), dtype=torch.float64)
    while True:
        for rows in torch.randperm(len(pixels)).split(batch):
            if len(rows) == batch:
                total += step(pixels.index_select(0, rows))
                if keep:
                    with torch.no_grad():
                        torch._foreach_lerp_(trailing, leading, 1 - keep)
                yield total
