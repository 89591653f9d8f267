"""``gen sweep`` and ``gen adopt``: search for a better recipe, keep every trial, put the best into params.yaml."""
