"""A Hub on this machine for tests: `server` serves and takes repositories, `target` points clients at it."""
