"""gen: classic deep generative models, each trained for real by one loop."""

__version__ = "0.1.0"
