"""Variational models: a decoder, and an encoder in place of its posterior, trained on a bound of the likelihood."""
