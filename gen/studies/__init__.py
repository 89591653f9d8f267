"""The lecture's demonstrations, in its order: one line per study."""

from gen.studies import sparse, denoising, chains, latents, generators, bounds, posteriors, completions  # isort: skip

__all__ = ["bounds", "chains", "completions", "denoising", "generators", "latents", "posteriors", "sparse"]
