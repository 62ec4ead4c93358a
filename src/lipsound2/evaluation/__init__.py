"""A pack and reference clips -> metrics, with what is needed to reproduce them."""
