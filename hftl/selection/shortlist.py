"""The table of checkpoints in the package, and what `hftl pick` may be asked for. Nothing heavy is imported."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from hftl.config import SHORTLISTS
from hftl.errors import ConfigError, ModelError, did_you_mean
from hftl.publishing.licences import LICENSES, PERMISSIVE


@dataclass(frozen=True)
class Candidate:
    """A checkpoint, and what is known of it without loading it; None or nothing where it is not."""

    name: str
    lists: tuple[str, ...] = ()
    family: str | None = None  # transformers' model_type
    parameters: int | None = None
    licence: str | None = None
    languages: tuple[str, ...] = ()  # codes; "*" is any
    context: int | None = None  # tokens that it was trained to read, or pixels per side
    prior: float | None = None  # percent on the benchmark that `source` names
    source: str | None = None
    local: bool = False


@dataclass(frozen=True)
class Wanted:
    """What the checkpoints are to be."""

    models: tuple[str, ...] = ()  # these alone
    shortlist: str | None = None
    max_parameters: int | None = None
    licence: str | None = None  # "permissive", or an identifier of the Hub
    language: str | None = None  # its code: "de"

    @classmethod
    def of(cls, models: Sequence[str] | str, wishes: dict[str, Any]) -> "Wanted":
        """Return what is wanted; `models` is a sequence, or names with commas between them. Raises `ConfigError`."""
        names = models.split(",") if isinstance(models, str) else models
        return cls(tuple(name.strip() for name in names), **wishes)

    def __post_init__(self) -> None:
        if self.models and self.shortlist:
            raise ConfigError("--models names the models, --shortlist finds some: give one of them.")
        if self.shortlist is not None and self.shortlist not in SHORTLISTS:
            hint = did_you_mean(self.shortlist, SHORTLISTS)
            raise ConfigError(f"--shortlist is one of {', '.join(SHORTLISTS)}, not {self.shortlist!r}.{hint}")
        if self.licence is not None and self.licence.lower() not in ("permissive", *LICENSES):
            hint = did_you_mean(self.licence, ("permissive", *LICENSES))
            raise ConfigError(f"--licence is permissive, or an identifier of the Hub, not {self.licence!r}.{hint}")
        known = {code for row in table().values() for code in row.languages}
        if self.language is not None and self.language.lower() not in known:
            raise ConfigError(
                f"No model of the table reads the language {self.language!r}: --language takes a code, such as de."
            )

    def refusal(self, one: Candidate) -> str:
        """Say which of the wishes a candidate does not meet, as far as is known; "" where it meets all."""
        if self.max_parameters is not None and (one.parameters or 0) > self.max_parameters:
            return f"{one.parameters:,} parameters are more than --max_parameters {self.max_parameters:,}"
        if self.licence and one.licence not in (
            PERMISSIVE if self.licence == "permissive" else {self.licence.lower()}
        ):
            return f"the licence is {one.licence or 'not known'}, not {self.licence}"
        if self.language and not {self.language.lower(), "*"} & {*one.languages}:
            return f"not known to read the language {self.language!r}"
        return ""


@cache
def table() -> dict[str, Candidate]:
    """Return the rows of shortlist.csv by name; its `date` is when licence and prior were read."""
    text = files("hftl.selection").joinpath("shortlist.csv").read_text(encoding="utf-8")
    rows = {row["model"]: row for row in csv.DictReader(text.splitlines())}
    known = {}
    for name, row in rows.items():
        alike = row["languages"].removeprefix("as ")
        languages = rows[alike]["languages"] if alike in rows else alike
        facts = (int(row["parameters"]), row["licence"], tuple(languages.split()), int(row["context"]))
        prior = float(row["prior"]) if row["prior"] else None
        known[name] = Candidate(name, tuple(row["lists"].split()), row["family"], *facts, prior, row["source"] or None)
    return known


def none_usable(reasons: Iterable[str]) -> ModelError:
    """Return the error for models of which not one can be used."""
    return ModelError(f"No model could be used. {' '.join(reasons)}")
