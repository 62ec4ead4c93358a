"""A waveform -> an embedding of the speaker's voice."""
