"""Boltzmann machines: energies over pixels and hidden units, trained against samples of their own."""
