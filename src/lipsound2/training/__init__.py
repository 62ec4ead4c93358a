"""Training: one loop for every model; a task supplies data, loss and validation."""
