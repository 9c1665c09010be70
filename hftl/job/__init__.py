"""A run as a job for an engine that exists: its files are written, and no SDK of an engine is imported."""
