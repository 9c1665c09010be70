"""Where hftl keeps what it computed."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return the cache folder: `HFTL_CACHE`, else ~/.cache/hftl. It may not exist yet."""
    return Path(os.environ.get("HFTL_CACHE") or "~/.cache/hftl").expanduser()
