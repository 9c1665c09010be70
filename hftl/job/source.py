"""Where a job gets hftl from: a wheel beside its script, or a requirement; and the head of the script that says so."""

import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import hftl
from hftl.config import RunConfig
from hftl.errors import ConfigError
from hftl.models.packaged import packaged_as
from hftl.paths import typed_path


_BUILT_FROM = ("hftl", "recipes", "spaces_demo", "pyproject.toml", "setup.py", "README.md", "LICENSE")
_SETUPTOOLS = 77  # the oldest that pyproject.toml asks for
_TRACKERS = ("tensorboard", "wandb", "trackio")  # each an extra of that name


def find_source(typed: str | None) -> Path | str:
    """Return the wheel, the folder of sources or the requirement that `typed` names; by default this checkout.

    Raises `ConfigError` when it is none of them, or when hftl was not installed from a checkout.
    """
    here = Path(hftl.__file__).resolve().parents[1]
    if typed is None and not (here / "pyproject.toml").is_file():
        raise ConfigError(
            "hftl was not installed from a checkout, so there is nothing to build its wheel from. Say where the job "
            f"gets it: --hftl_source takes a wheel, a folder of sources or a requirement such as hftl=={hftl.__version__}."
        )
    path = here if typed is None else typed_path(typed)
    if path.is_dir() and (path / "pyproject.toml").is_file() and (path / "hftl" / "__init__.py").is_file():
        return path
    if path.is_file() and re.fullmatch(r"hftl-.*\.whl", path.name):
        return path
    words = str(typed)
    if not path.exists() and re.match(r"hftl\s*(\[[\w, .-]*\])?\s*([=<>!~@]|$)", words):
        from packaging.requirements import InvalidRequirement, Requirement

        try:
            Requirement(words)
        except InvalidRequirement as error:
            raise ConfigError(f"--hftl_source {words!r} is no requirement: {str(error).splitlines()[0]}.") from None
        return words
    raise ConfigError(
        f"--hftl_source {words!r} is no wheel of hftl, no folder of its sources and no requirement such as "
        f"hftl=={hftl.__version__}."
    )


def put_wheel(source: Path, folder: Path) -> str:
    """Copy a wheel, or build one of a folder of sources, into `folder`; return its name. Raises `ConfigError`."""
    if source.is_file():
        shutil.copy(source, folder)
        return source.name
    with tempfile.TemporaryDirectory() as place:  # setuptools leaves files beside what it builds
        for name in _BUILT_FROM:
            path = source / name
            if path.is_dir():
                shutil.copytree(path, Path(place) / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif path.is_file():
                shutil.copy(path, place)
        words = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "wheel", "--no-deps"]
        words += ["--no-build-isolation"] if _has_setuptools() else []
        done = subprocess.run([*words, "-w", str(folder), place], capture_output=True, text=True)
    found = [path.name for path in folder.glob("hftl-*.whl")]
    if done.returncode != 0 or len(found) != 1:
        last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "pip gave no reason")
        raise ConfigError(f"The wheel of hftl cannot be built: {last.strip()[:200]}. Give one with --hftl_source.")
    return found[0]


def _has_setuptools() -> bool:
    try:
        return int(version("setuptools").split(".")[0]) >= _SETUPTOOLS
    except (ImportError, ValueError):
        return False


def extras(config: RunConfig) -> list[str]:
    """Return the extras of hftl that a run needs: what it reads from packages, and what it reports to."""
    asked = config.training.get("report_to") or []
    found = {name for name in _TRACKERS if name in ([asked] if isinstance(asked, str) else asked)}
    model = str(config.model.model or "")
    packaged = packaged_as(model)
    found |= {packaged.extra} if packaged else {"timm"} if model.startswith("timm/") else set()
    if any(str(name).startswith("sample:") for name in (config.data.data, config.retain)):
        found.add("offline")
    return sorted(found)


def head(source: Path | str, wheel: str | None, wanted: list[str]) -> str:
    """Return the metadata of a script (PEP 723) whose environment has hftl with these extras."""
    more = f"[{','.join(wanted)}]" if wanted else ""
    if wheel is None:
        from packaging.requirements import Requirement

        asked = Requirement(str(source))
        asked.extras |= set(wanted)
        lines = [f"dependencies = ['{asked}']"]
    else:
        lines = [f'dependencies = ["hftl{more}"]', "", "[tool.uv.sources]", f'hftl = {{ path = "{wheel}" }}']
    lines = ['requires-python = ">=3.11"', *lines]
    return "\n".join(["# /// script", *(f"# {line}".rstrip() for line in lines), "# ///", ""])
