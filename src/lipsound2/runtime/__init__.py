"""What the rest stands on: files, processes, devices, weights and the terminal."""
