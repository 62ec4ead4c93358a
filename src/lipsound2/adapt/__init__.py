"""A folder of one person's videos -> a pack with their voice: what `adapt` does."""
