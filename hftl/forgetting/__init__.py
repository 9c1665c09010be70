"""Forgetting: what the tuned body no longer tells of what the base told."""
