"""Videos in, speech and text out: what `speak` and `read` do."""
