"""The silent failures of this stack, each held against our own code (the other tests of runs cover the rest)."""
