"""Where a trained classifier lies, and the report beside it: a run, a model folder, or a repository on the Hub."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from hftl.errors import ModelError
from hftl.hub_errors import hub_errors
from hftl.models.load import find_checkpoint
from hftl.paths import typed_path


# What serving a model needs of a repository; weights in other formats and adapters stay where they are.
_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.py", "*.jinja", "config.yaml", "README.md")


@dataclass(frozen=True)
class Artifact:
    """A trained classifier as files of this machine."""

    name: str  # as the user gave it
    folder: Path  # config.json, safetensors, processor: what plain transformers loads
    run: Path | None  # the run folder, when there is one
    report: dict[str, Any] | None  # report.json, when there is one
    revision: str | None = None  # the commit, when it came from the Hub

    @property
    def evidence(self) -> dict[str, Any] | None:
        """The report's evidence; None where there is none."""
        return self.report.get("evidence") if self.report else None


def open_artifact(run_or_model: str | Path, revision: str | None = None) -> Artifact:
    """Find a run folder, a model folder (such as RUN/final) or a Hub id, which is downloaded into the Hub cache.

    Raises `ModelError` when there is no such model, or a report that cannot be read lies beside it.
    """
    name = str(run_or_model)
    path = typed_path(name)
    if (path / "final" / "config.json").is_file():
        return Artifact(name, path / "final", path, _read(path / "report.json"))
    checkpoint = find_checkpoint(name, revision)
    if checkpoint.source == "folder":
        folder = Path(checkpoint.path)
        is_final = folder.resolve().name == "final" and (folder.resolve().parent / "report.json").is_file()
        run = folder.resolve().parent if is_final else None
        return Artifact(name, folder, run, _read((run or folder) / "report.json"))
    if checkpoint.source == "packaged":
        return Artifact(name, Path(checkpoint.path), None, None, checkpoint.revision)
    with hub_errors(name, "loading it", trusting=False):
        found = Path(
            snapshot_download(
                checkpoint.path, revision=revision, allow_patterns=list(_FILES), local_files_only=checkpoint.local_only
            )
        )
    return Artifact(name, found, None, _read(found / "report.json"), found.name)


def _read(path: Path) -> dict[str, Any] | None:
    """Return report.json, or None when there is none, or one that is not hftl's."""
    if not path.is_file():
        return None
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error}): restore it, or remove it to go on without.") from None
    return report if isinstance(report, dict) and "schema_version" in report else None
