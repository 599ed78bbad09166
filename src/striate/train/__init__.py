"""The training loop, its run directory, checkpoints and exact resume."""
