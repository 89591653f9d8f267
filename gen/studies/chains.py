"""Chains: how long must an RBM dream before it forgets where it began?

An RBM is sampled by a Markov chain: hidden units given the pixels, pixels given the hidden units, again and again. A
chain from noise has to find the digits; a chain from a test image has to leave it. After enough steps the two are told
apart by nothing, and until then what they show are not samples of the model. Their free energies, F(v) = -log p(v) up
to a constant, say when that is: both come to that of the model's own samples, one from above and one from below.

The constant, log Z, takes annealing: particles that walk from a distribution whose Z is known to the RBM give an
estimate that leans low [1], and particles that walk back from samples of the RBM one that leans high [2]. The bracket
closes with the number of temperatures, and only a closed one is a measurement.

[1] R. Salakhutdinov, I. Murray. On the quantitative analysis of deep belief networks. ICML 2008.
[2] Y. Burda, R. Grosse, R. Salakhutdinov. Accurate and conservative estimates of MRF log-likelihood using reverse
    annealing. AISTATS 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from gen.errors import RecipeError
from gen.inference import ais
from gen.inference.gibbs import gibbs
from gen.nets.boltzmann import Harmonium
from gen.nets.units import sample_bits
from gen.studies.canvas import BLUE, FAINT, ORANGE, drawing, nats, rows, rule
from gen.studies.study import Figure, Findings, Trained, spread, study

STEPS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # at which chains are measured
SEEN = (0, 1, 10, 100, 1000)  # and shown
TEMPERATURES = (10, 30, 100, 300, 1000)
Points = list[tuple[float, float]]  # mean and standard error


class Dreams(Protocol):
    """A model that is an RBM, and shows its filters."""

    @property
    def rbm(self) -> Harmonium:
        """The RBM."""
        ...

    def sample(self, count: int) -> Tensor:
        """Images in the model's space, (count, C, H, W)."""
        ...

    def pictures(self) -> dict[str, Tensor]:
        """Small pictures by name, ``filters`` among them."""
        ...


@study("chains")
@torch.no_grad()
def chains(*, rbm: Trained[Dreams], seed: int, particles: int = 100, shown: int = 3, filters: int = 48) -> Findings:
    """See module.

    Args:
        rbm: an RBM of bits.
        seed: of all that is drawn.
        particles: chains of either kind, and annealed particles of either direction.
        shown: chains of either kind drawn.
        filters: hidden units drawn.
    """
    if rbm.spec.space.levels != 2:
        raise RecipeError(f"study chains: {rbm.recipe} lives in '{rbm.spec.space}'; 'rbm' is for an RBM of bits.")
    energy, shape = rbm.model.rbm, rbm.spec.shape
    test = rbm.images("test", seed=seed).flatten(1)
    own = rbm.model.sample(particles).flatten(1)
    data = rbm.images("test", seed=seed, count=particles).flatten(1)
    noise = sample_bits(torch.zeros(particles, rbm.spec.dims))
    level = float(energy.free_energy(own).mean())
    walked = {"noise": walk(energy, noise, SEEN, shown), "test images": walk(energy, data, SEEN, shown)}
    curves = {name: [(mean - level, error) for mean, error in points] for name, (points, _) in walked.items()}

    free_energy = float(energy.free_energy(test).mean())
    found = {count: ais.bracket(energy, own, count) for count in TEMPERATURES}
    forward = [(-free_energy - float(each.forward.value), float(each.forward.error)) for each in found.values()]
    reverse = [(-free_energy - float(each.reverse.value), float(each.reverse.error)) for each in found.values()]

    fantasies = [
        [(name if not place else "", images[:, place].unflatten(1, shape)) for place in range(shown)]
        for name, (_, images) in walked.items()
    ]
    (noise_first, *_, noise_last), (data_first, *_, data_last) = (
        [value for value, _ in curves[name]] for name in ("noise", "test images")
    )
    return Findings(
        figures={
            "fantasies": Figure(
                rows(fantasies, heads=[f"{count:,}" for count in SEEN]),
                "Probabilities of the pixels after so many steps",
            ),
            "energies": Figure(_energies(curves), f"Mean free energy of {particles} chains of either kind"),
            "bracket": Figure(_bracket(forward, reverse), "Mean log p of test images by annealing from both sides"),
            "filters": Figure(
                rows([[("", part) for part in rbm.model.pictures()["filters"][:filters].split(8)]]),
                f"Weights of the first {filters} hidden units, grey where zero",
            ),
        },
        sentences=(
            f"Counted from that of the model's own samples, the mean free energy of chains goes in {STEPS[-1]:,} steps "
            f"from {nats(noise_first, 0)} to {nats(noise_last, 1)} nats (from noise) and from {nats(data_first, 1)} to "
            f"{nats(data_last, 1)} nats (from test images), with a standard error of {curves['noise'][-1][1]:.1f}.",
            f"Annealing with {TEMPERATURES[0]} temperatures puts the mean log p of {len(test):,} test images at "
            f"{nats(reverse[0][0], 1)} (reverse) and {nats(forward[0][0], 1)} nats (forward), with "
            f"{TEMPERATURES[-1]:,} at {nats(reverse[-1][0], 1)} and {nats(forward[-1][0], 1)}.",
        ),
        numbers={
            "free_energy_of_samples": level,
            "chains": {
                name: {str(count): value for count, (value, _) in zip(STEPS, points, strict=True)}
                for name, points in curves.items()
            },
            "annealing": {
                str(count): {"forward": up[0], "forward_error": up[1], "reverse": down[0], "reverse_error": down[1]}
                for count, up, down in zip(TEMPERATURES, forward, reverse, strict=True)
            },
            "particles": particles,
        },
    )


def walk(rbm: Harmonium, v: Tensor, seen: Sequence[int], shown: int) -> tuple[Points, Tensor]:
    """Run a chain from every row of v, (N, D).

    Returns:
        Mean free energy and its standard error after each of :data:`STEPS`; and what ``shown`` of the chains look
        like after each of ``seen``: the start itself, then the probabilities of the pixels, (len(seen), shown, D).
    """
    points, images, some = [], [], spread(len(v), shown)
    for last, count in pairwise((0, *STEPS)):
        v = gibbs(rbm, v, count - last)
        energies = rbm.free_energy(v)
        points.append((float(energies.mean()), float(energies.std() / len(v) ** 0.5)))
        if count in seen:
            images.append(rbm.visible(sample_bits(rbm.hidden_logits(v[some]))).mean() if count else v[some])
    return points, torch.stack(images)


def _energies(curves: dict[str, Points]) -> bytes:
    """Mean free energies over steps, above that of the model's samples."""
    with drawing(4.6, 3.4) as made:
        axes = made.axes(left=0.9)
        axes.axhline(0, color=FAINT, linewidth=1.0)
        axes.text(0, 0, " samples of the model", fontsize=9, color=FAINT, va="top")
        for (name, points), hue, dash in zip(curves.items(), (BLUE, ORANGE), ("-", (0, (5, 1.5))), strict=True):
            values, errors = zip(*points, strict=True)
            axes.errorbar(
                STEPS,
                values,
                [2 * e for e in errors],
                color=hue,
                linestyle=dash,
                marker="o",
                markersize=3.5,
                label=name,
            )
        axes.set_xscale("symlog", linthresh=1, linscale=0.5)
        axes.set_yscale("symlog", linthresh=10)
        axes.set_xticks(SEEN, [f"{count:,}" for count in SEEN])
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:+,.0f}".replace("-", "−").replace("+0", "0"))
        axes.minorticks_off()
        axes.set_xlabel("Gibbs steps")
        axes.set_ylabel("free energy, nats")
        axes.legend(title="chains from", frameon=False, fontsize=9, title_fontsize=9)
        rule(axes)
    return made.png


def _bracket(forward: Points, reverse: Points) -> bytes:
    """Both estimates over the number of temperatures, and what lies between them."""
    with drawing(4.6, 3.4) as made:
        axes = made.axes(left=0.75)
        axes.fill_between(TEMPERATURES, [v for v, _ in forward], [v for v, _ in reverse], color=BLUE, alpha=0.08)
        sides = (("forward", forward, BLUE, "-"), ("reverse", reverse, ORANGE, (0, (5, 1.5))))
        for name, points, hue, dash in sides:
            values, errors = zip(*points, strict=True)
            axes.errorbar(
                TEMPERATURES, values, [2 * e for e in errors], color=hue, linestyle=dash, marker="o", markersize=4,
                capsize=2, label=name,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_xticks(TEMPERATURES, [f"{count:,}" for count in TEMPERATURES])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}".replace("-", "−"))
        axes.set_xlabel("temperatures")
        axes.set_ylabel("log p(x), nats")
        axes.legend(frameon=False, fontsize=9)
        rule(axes)
    return made.png
