"""Checkpoints of other projects -> packs and models of this one, read without running anything in them."""
