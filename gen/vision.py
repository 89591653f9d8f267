"""The one door to torchvision.

The torchvision on PyPI is compiled against CUDA builds of torch. Beside a CPU build its compiled operators fail to load
and ``import torchvision`` raises "operator torchvision::nms does not exist", although nothing here needs them.
Declaring the two schemas first makes data sets, transforms and utils work. ``gen doctor`` says when this was needed.
"""

from __future__ import annotations

import torch

SCHEMAS = tuple(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for name in ("nms", "qnms"))


def _declare_operators() -> torch.library.Library | None:
    """Declare the schemas torchvision registers fake kernels for, if its own library could not."""
    try:
        import torchvision  # noqa: F401  # the attempt itself
    except RuntimeError as problem:
        if "torchvision::" not in str(problem):
            raise
    else:
        return None
    library = torch.library.Library("torchvision", "DEF")
    for schema in SCHEMAS:
        library.define(schema)
    return library


patched = _declare_operators()
"""Keeps the declaration alive; ``None`` where torchvision's own operators loaded."""

import torchvision  # noqa: E402
from torchvision.utils import make_grid  # noqa: E402

__all__ = ["make_grid", "patched", "torchvision"]
