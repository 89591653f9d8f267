"""Linear models: a few causes, mixed linearly; likelihood and posterior can be written down."""
