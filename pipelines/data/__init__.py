"""The commands ``gen data ...``."""
