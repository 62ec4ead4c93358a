"""Samples: preparing clips, storing them, and loading them as batches."""
