"""Adversarial models: a generator, and a second network that tells its samples from data."""
