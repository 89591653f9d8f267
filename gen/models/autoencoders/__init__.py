"""Autoencoders: networks that squeeze an image through a code and rebuild it."""
