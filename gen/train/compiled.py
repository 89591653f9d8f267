"""``torch.compile`` for the networks of a training step, and for nothing else.

Networks of many small operations between their convolutions gain by it; the recurrences lose, being unrolled (``python
-m benchmarks.compiling`` measures both). The results differ from those of eager networks by rounding, so it is the
recipe that decides, and an interrupted run goes on bit for bit on the same machine and version of torch.

The networks are compiled in place, for the fixed shapes of training batches: weights, their names, checkpoints and
copies of the model are what they would be without. Validation and pictures, whose shapes vary, run them as written.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from gen.errors import RecipeError
from gen.model import GenerativeModel


def compile_networks(model: GenerativeModel) -> None:
    """Compile each network of a model (its direct children) at its first call.

    Raises:
        RecipeError: code for CPUs has to be compiled, and there is no compiler.
    """
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # processes beside ours: cores are shared already
    compiler = os.environ.get("CXX", "g++")
    if next(model.parameters()).device.type == "cpu" and shutil.which(compiler) is None:
        raise RecipeError(
            f"training.compile: found true, but there is no C++ compiler ({compiler}), and torch.compile needs one on "
            "CPUs. Install one, name another in CXX, or leave it out."
        )
    for name, network in model.named_children():
        if name not in model.eager:
            network._compiled_call_impl = _compiled(network._call_impl)


def _compiled(call: Callable[..., Any]) -> Callable[..., Any]:
    """As ``Module.compile`` does, in a frame of ours: torch passes over frames of its own, such as Sequential's."""

    def run(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs)

    return torch.compile(run, dynamic=False)


def as_written(compiled: bool) -> AbstractContextManager[object]:
    """Where networks that were compiled run as if they were not."""
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()
