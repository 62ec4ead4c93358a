"""Samples: how clips are prepared, stored and read back as batches."""
