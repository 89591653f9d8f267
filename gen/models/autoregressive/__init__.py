"""Autoregressive models: pixel after pixel, each given those before it; the likelihood is exact."""
