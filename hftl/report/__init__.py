"""What is written down and shown about a run."""
