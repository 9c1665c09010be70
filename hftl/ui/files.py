"""Where the page keeps what it is given and what it makes, and what it lets in. No file outside is read through it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


MAX_UPLOAD = "500mb"  # what `--max_upload` is when it is left out


@dataclass(frozen=True)
class Workspace:
    """The folder of `hftl ui FOLDER`; what a page may read lies in it, or in one of `named`."""

    folder: Path
    max_upload: int = 500 * 10**6  # bytes of one upload
    named: tuple[Path, ...] = ()  # more folders that the user named on the command line

    @property
    def data(self) -> Path:
        """Where uploads, cleaned and corrected copies lie."""
        return self.folder / "data"

    @property
    def runs(self) -> Path:
        """Where runs lie."""
        return self.folder / "runs"

    def holds(self, path: Path) -> bool:
        """Tell whether a path, its links followed, lies in a folder that the page may read."""
        raise NotImplementedError

    def new_run(self, data: str, model: str, method: str) -> Path:
        """Return a folder for a run that is not there yet, named as `hftl train` would."""
        raise NotImplementedError


@dataclass(frozen=True)
class Correction:
    """A row of the data whose label is to be another. `split` is train, validation or test, as hftl reads the source."""

    split: str
    row: int  # counted from 0 in that split of the source
    label: str


def parse_size(text: str) -> int:
    """Return the bytes of "500mb", "2gb" or a number. Raises `ConfigError` for anything else."""
    raise NotImplementedError


def take_upload(workspace: Workspace, upload: Path) -> str:
    """Copy an uploaded file into the workspace (a zip is unpacked) and return the value of `--data`.

    Raises `DataError` with one line for what is too large, of another kind, or not safe.
    """
    raise NotImplementedError


def take_text(workspace: Workspace, text: str) -> str:
    """Return the value of `--data` for what was typed: a path inside the workspace, `sample:<name>` or a Hub id.

    Raises `DataError` for a path outside, whether there is something or not.
    """
    raise NotImplementedError


def take_model(workspace: Workspace, text: str) -> str:
    """Return the value of `--model` for what was typed; the same rule. Raises `ModelError`."""
    raise NotImplementedError


def take_flags(text: str) -> list[str]:
    """Return the words of the advanced flags. Raises `ConfigError` for a flag that could read or write elsewhere."""
    raise NotImplementedError


def corrected_copy(workspace: Workspace, data: str, corrections: Sequence[Correction], task: str | None = None) -> str:
    """Write a copy of the data with these labels in the workspace and return the value of `--data` for it.

    Corrections of the same data add up. The data themselves stay as they are. Raises `DataError` for a row that is
    not there.
    """
    raise NotImplementedError
