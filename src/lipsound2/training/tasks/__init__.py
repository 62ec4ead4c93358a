"""Tasks: a model with its data, its loss and its validation, for the one training loop."""
