"""A model that answers requests: the same request with the same seed has the same answer, in whatever company.

A request is cut into pieces, each with a random stream of its own: seeded by (seed of the request, number of the row,
images of the row drawn before). So pieces can be worked on in any order, and between those of other requests, and
images that need no noise can be worked on together where that changes nothing (see :mod:`gen.serve.parts`).
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor

from gen.errors import GenError
from gen.evaluate.seeds import fixed_seed
from gen.model import GenerativeModel, Samples
from gen.serve.images import lists, png
from gen.serve.parts import WIDTH, Parts, padded
from gen.serve.requests import Request, Row, parse_request
from gen.serve.schema import tasks_of
from gen.serve.turn import TURN

AT_ONCE = 250
"""Images drawn together: bounds the memory, and how long one piece keeps the others waiting."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Some work of a request that is done without a break.

    Attributes:
        row: of the request.
        seed: of its random stream.
        count: images to draw.
        shared: seed of the request, and of what its rows share.
        temperature: of the request.
    """

    row: Row
    seed: int
    count: int
    shared: int
    temperature: float


class Answerer:
    """A model in evaluation mode. Threads may share it, or have several: they take turns.

    Attributes:
        model: the model.
        tasks: what it can be asked.
    """

    def __init__(self, model: GenerativeModel) -> None:
        self.model = model.eval()
        self.tasks = tasks_of(model)
        self._parts = Parts(self.model)

    def __call__(
        self, rows: Sequence[Mapping[str, Any]], params: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Answer a request at once.

        Raises:
            RequestError: it cannot be met.
        """
        request = self.parse(rows, params)
        pieces = self.pieces(request)
        waiting = deque(sorted(pieces, key=lambda piece: piece.row.task))
        results: dict[Piece, Tensor] = {}
        while waiting:
            together = self.company(list(islice(waiting, WIDTH)))
            results |= dict(zip(together, self.work(together), strict=True))
            for _ in together:  # equal tasks stand together, so these are the first
                waiting.popleft()
        return self.answer(request, [results[piece] for piece in pieces])

    def parse(self, rows: Sequence[Mapping[str, Any]], params: Mapping[str, Any] | None) -> Request:
        """See :func:`gen.serve.requests.parse_request`."""
        return parse_request(rows, params, self.model.spec, self.tasks, conditional=self.model.conditional)

    def pieces(self, request: Request) -> list[Piece]:
        """The work of a request, in the order of its rows."""
        seed, temperature = request.params.seed, request.params.temperature
        return [
            Piece(row, _stream(seed, row.number, start), min(AT_ONCE, row.count - start), seed, temperature)
            for row in request.rows
            for start in range(0, row.count, AT_ONCE)
        ]

    def company(self, waiting: Sequence[Piece]) -> list[Piece]:
        """The first of the waiting pieces, and those that can be worked on together with it, exactly."""
        first, *others = waiting
        with TURN:
            group = self._parts.group(first.row.task, first.shared)
            if group is None:
                return [first]
            fitting = (each for each in others if self._parts.group(each.row.task, each.shared) == group)
            return [first, *islice(fitting, WIDTH - 1)]

    def work(self, pieces: Sequence[Piece]) -> list[Tensor]:
        """Carry out a piece, or several that make a :meth:`company`.

        Returns:
            For each what the task makes: images, uint8 (N, C, H, W); one image (C, H, W); frames (C, T, H, W); a code
            (K,); log p(x), ().

        Raises:
            GenError: what the model makes is not finite; it is broken.
        """
        task = pieces[0].row.task
        with TURN, torch.inference_mode():
            if task == "sample":
                return [self._finished(task, self._sample(piece)) for piece in pieces]
            part = self._parts.of(task, pieces[0].shared)
            if self._parts.together(task):
                results = part(*padded([self._enter(piece) for piece in pieces]))[: len(pieces)]
                return list(self._finished(task, results).unbind())
            return [self._finished(task, self._alone(part, piece))[0] for piece in pieces]

    def answer(self, request: Request, results: Sequence[Tensor]) -> list[dict[str, Any]]:
        """The results of all pieces of a request, in their order, as JSON-able answers, one for each row."""
        write: Callable[[Tensor], Any] = png if request.params.format == "png" else lists
        answers: list[dict[str, Any]] = [{} for _ in request.rows]
        for piece, result in zip(self.pieces(request), results, strict=True):
            answer = answers[piece.row.number]
            match piece.row.task:
                case "sample":
                    answer.setdefault("images", []).extend(write(image) for image in result)
                case "score":
                    answer |= self._score(result.item(), piece.shared)
                case "encode":
                    answer["code"] = result.tolist()
                case "predict":
                    answer["images"] = [write(frame) for frame in result.unbind(1)]
                case _:
                    answer["image"] = write(result)
        return answers

    def prepare(self, seed: int = 0) -> None:
        """Try all parts, and do what all images of a seed share, so that no request has to wait for it."""
        for task in self.tasks:
            with TURN:
                self._parts.group(task, seed)

    def _sample(self, piece: Piece) -> Tensor:
        """Images in the model's space."""
        label, count = piece.row.label, piece.count
        with fixed_seed(piece.seed):
            condition = None if label is None else torch.full((count,), label, device=self._parts.device)
            return cast(Samples, self.model).sample(count, condition=condition, temperature=piece.temperature)

    def _alone(self, part: Callable[..., Tensor], piece: Piece) -> Tensor:
        """What a part makes of one image; its noise follows that of the image in the same stream."""
        assert piece.row.image is not None
        with fixed_seed(piece.seed):
            return part(*self._parts.inputs(piece.row.task, piece.row.image, piece.row.known))

    def _enter(self, piece: Piece) -> tuple[Tensor, ...]:
        """The image alone, in the model's space."""
        assert piece.row.image is not None
        with fixed_seed(piece.seed):
            return self._parts.inputs(piece.row.task, piece.row.image, piece.row.known)

    def _finished(self, task: str, output: Tensor) -> Tensor:
        """What a part made, on the CPU; images as 8-bit pixels."""
        if task == "score":
            return output.double().cpu()
        if not output.isfinite().all():
            raise GenError(
                f"{type(self.model).__name__}: what it makes for '{task}' is not finite. Training diverged; serve "
                "another version."
            )
        return output.cpu() if task == "encode" else self.model.spec.space.decode(output).cpu()

    def _score(self, nats: float, seed: int) -> dict[str, Any]:
        with TURN:
            name, (kind, _) = self._parts.scorer(seed)
        spec, possible = self.model.spec, math.isfinite(nats)
        return {
            "nats": nats if possible else None,
            "bits_per_dim": spec.space.bits_per_dim(nats, spec.dims) if possible else None,
            "estimator": name,
            "kind": kind,
        }


def _stream(seed: int, row: int, start: int) -> int:
    """The seed of a piece, unrelated to all others."""
    return int.from_bytes(hashlib.sha256(f"{seed} {row} {start}".encode()).digest()[:8])
