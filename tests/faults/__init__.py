"""Runs that are killed, stopped, short of memory or of disk, and caches that are broken: nothing is lost or wrong."""
