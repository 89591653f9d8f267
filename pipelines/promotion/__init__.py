"""``gen promote``, ``gen rollback``, ``gen history``: move a model through its aliases, safely, with a way back."""
