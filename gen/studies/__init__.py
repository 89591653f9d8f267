"""The lecture's demonstrations, in its order: one line per study."""

from gen.studies import sparse, denoising, chains, latents, generators, bounds, posteriors  # isort: skip
from gen.studies import completions, conditions, places, heads, recurrences, coherence  # isort: skip

__all__ = [
    "bounds",
    "chains",
    "coherence",
    "completions",
    "conditions",
    "denoising",
    "generators",
    "heads",
    "latents",
    "places",
    "posteriors",
    "recurrences",
    "sparse",
]
