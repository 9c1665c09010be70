"""Where hftl keeps what it computed, and paths that a person typed."""

import os
import stat
import uuid
from pathlib import Path

from hftl.errors import ConfigError


def cache_dir() -> Path:
    """Return the cache folder: `HFTL_CACHE`, else ~/.cache/hftl. It may not exist yet."""
    return Path(os.environ.get("HFTL_CACHE") or "~/.cache/hftl").expanduser()


def usual_modes(folder: Path) -> None:
    """Give the files of a folder the mode that a new file gets there: safetensors makes its own readable to one user."""
    new = folder / f".{uuid.uuid4().hex}"
    new.touch()
    mode = stat.S_IMODE(new.stat().st_mode)
    new.unlink()
    for file in folder.iterdir():
        if file.is_file():
            file.chmod(mode)


def bare_name(name: str) -> str:
    """Return a name without the folders of this machine: of a path that exists here, only its last part."""
    path = typed_path(name)
    return path.resolve().name if path.exists() else name


def typed_path(text: str | Path) -> Path:
    """Return the path that a person typed, with ~ filled in; there may be nothing at it.

    Raises `ConfigError` for what no file can be called: too long, a ~user that there is not, a zero byte; and for a place
    in a folder that may not be searched.
    """
    try:
        str(text).encode("utf-8")  # the libraries' files cannot hold other names
        path = Path(text).expanduser()
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass  # whoever reads it says so
    except PermissionError:  # not of the file itself, which `lstat` does not open
        raise ConfigError(f"{str(text)!r} cannot be reached: you have no permission for a folder around it.") from None
    except (OSError, RuntimeError, ValueError) as error:
        name = str(text) if len(str(text)) <= 60 else f"{str(text)[:60]}..."
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{name!r} cannot be the name of a file or folder: {why}.") from None
    return path
