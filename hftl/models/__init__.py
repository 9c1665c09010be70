"""Checkpoints in: any model with the task's Auto class becomes `Loaded`."""
