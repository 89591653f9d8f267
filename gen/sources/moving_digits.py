"""Moving MNIST: digits that move across a canvas, bounce off its edges and pass through each other [1].

A digit keeps its direction, uniform on the circle, and its speed, uniform over a range, until it meets an edge. There
it is reflected (`deterministic`, [1]): its whole path follows from the first two frames. Or it leaves the edge in a
new random direction at a new random speed (`stochastic`, [2]): what comes after an edge cannot be known before it.

[1] Srivastava, Mansimov, Salakhutdinov: Unsupervised learning of video representations using LSTMs. ICML 2015
[2] Denton, Fergus: Stochastic video generation with a learned prior. ICML 2018
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gen.data.sample import Collection, Sample, Source
from gen.sources.common.glyphs import alphabet
from gen.sources.common.synthetic import check, generated, generator

Floats = NDArray[np.float64]
_BOUNCES = ("deterministic", "stochastic")


def moving_digits(
    path: Path | None = None,
    *,
    size: int = 64,
    frames: int = 20,
    digits: int = 2,
    bounce: Literal["deterministic", "stochastic"] = "deterministic",
    slowest: float = 2.0,
    fastest: float = 5.0,
    train: int = 2_000,
    validation: int = 200,
    test: int = 200,
    seed: int = 0,
) -> Collection:
    """Videos, uint8 (frames, size, size, 1), without labels.

    Args:
        path: the digits, MNIST or stored like it; the embedded ones if it is not given.
        size: side of the canvas in pixels, more than a digit's (28).
        frames: length of a video.
        digits: how many of them move in it. Where they overlap the brighter one is seen, as in [1].
        bounce: what happens at an edge; see the module.
        slowest: lower end of the range of speeds, in pixels per frame.
        fastest: upper end of it. In the code of [1] all move at 3.6, in that of [2] at up to 5.7.
        train: number of videos to train on.
        validation: number of videos to tune on.
        test: number of videos to report on.
        seed: of everything random.

    Raises:
        DataError: an option is not possible, or the digits cannot be had.
    """
    glyphs = alphabet(path)
    sizes = {"train": train, "validation": validation, "test": test}
    glyphs.check(sizes)
    room = size - glyphs.side
    check("moving_digits", bounce in _BOUNCES, f"bounce: {bounce}", " or ".join(_BOUNCES))
    for option, value, least in (("seed", seed, 0), ("frames", frames, 1), ("digits", digits, 1)):
        check("moving_digits", value >= least, f"{option}: {value}", f"{least} or more")
    check("moving_digits", room > 0, f"size: {size}", f"more than the {glyphs.side} pixels of a digit")
    check(
        "moving_digits",
        0 <= slowest <= fastest <= room,
        f"slowest: {slowest:g} and fastest: {fastest:g}",
        f"0 <= slowest <= fastest <= {room}, the way from edge to edge",
    )
    scene = Scene(glyphs.path, size, frames, digits, bounce, slowest, fastest, seed)
    source = Source(
        f"moving_digits ({bounce})",
        f"computed from {glyphs.source.name}: {digits} digits, {slowest:g} to {fastest:g} pixels a frame, seed {seed}",
        glyphs.source.licence,
        "Srivastava, Mansimov, Salakhutdinov: Unsupervised learning of video representations using LSTMs. ICML 2015",
    )
    return generated(source, sizes, scene.sample, files=glyphs.files)


@dataclass(frozen=True, slots=True)
class Scene:
    """The options of :func:`moving_digits`, and how a video is drawn."""

    path: Path | None
    size: int
    frames: int
    digits: int
    bounce: Literal["deterministic", "stochastic"]
    slowest: float
    fastest: float
    seed: int

    def sample(self, split: str, k: int) -> Sample:
        """Video ``k`` of a split."""
        rng, images = generator(self.seed, split, k), alphabet(self.path)[split].images
        height, width = images.shape[1:]
        room = np.array([self.size - height, self.size - width], float)
        video = np.zeros((self.frames, self.size, self.size), np.uint8)
        for row in rng.integers(len(images), size=self.digits):
            path = self.trajectory(rng, room)
            for frame, (y, x) in zip(video, path.round().astype(int), strict=True):
                seen = frame[y : y + height, x : x + width]
                np.maximum(seen, images[row], out=seen)
        return Sample(video[..., None], origin=f"video {k} of {split}")

    def trajectory(self, rng: np.random.Generator, room: Floats) -> Floats:
        """Where a digit's top left corner is in each frame: y and x in pixels, 0 to ``room`` (2,); (frames, 2)."""
        start = rng.uniform(0, room)
        if self.bounce == "deterministic":
            return reflected(start, self._velocity(rng), self.frames, room)
        path = np.empty((self.frames, 2))
        path[0], velocity = start, self._velocity(rng)
        for t in range(1, self.frames):
            free = path[t - 1] + velocity
            path[t] = free.clip(0, room)
            if (inward := np.sign(path[t] - free)).any():
                velocity = self._velocity(rng)
                velocity = np.where(inward, inward * np.abs(velocity), velocity)
        return path

    def _velocity(self, rng: np.random.Generator) -> Floats:
        """In a uniform direction at a uniform speed; (2,) in pixels per frame."""
        angle = rng.uniform(0, 2 * math.pi)
        return rng.uniform(self.slowest, self.fastest) * np.array([math.sin(angle), math.cos(angle)])


def reflected(start: Floats, velocity: Floats, frames: int, room: Floats) -> Floats:
    """A straight path folded at the edges like light between mirrors: |room - |room - x| mod 2 room| in each direction.

    Args:
        start: (2,), 0 to ``room``.
        velocity: (2,), per frame.
        frames: how many, the first of them at ``start``.
        room: (2,), where the other edge is.

    Returns:
        (frames, 2).
    """
    straight = start + velocity * np.arange(frames)[:, None]
    return room - np.abs(straight % (2 * room) - room)
