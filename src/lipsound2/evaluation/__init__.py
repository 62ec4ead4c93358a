"""A pack and true clips -> figures, with what is needed to reproduce them."""
