"""Tests of `hftl plan`: every figure against a count of its own, and nothing changed or written."""
