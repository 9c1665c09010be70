"""What pyproject.toml cannot say: the README as PyPI shows it, where relative links and pictures lead nowhere."""

import re
import tomllib
from pathlib import Path

from setuptools import setup


ROOT = Path(__file__).resolve().parent
_BADGE = re.compile(r"\[(!\[[^\]]*\]\(https:[^)\s]+\))\]\((?!https?:)[^)\s]+\)")
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def address() -> str:
    """Return the project's address on the web, from the one place that names it; "" as long as there is none."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project.get("urls", {}).get("Repository", "")).rstrip("/")


def settle_links(text: str, folder: Path, home: str, kept: Path | None = None) -> str:
    """Return Markdown of a file in `folder` whose links lead to the project at `home`, but for those into `kept`.

    Without a home a link becomes its words and the name of the file, and a picture goes.
    """

    def settle(found: re.Match[str]) -> str:
        mark, words, target = found.groups()
        place = (folder / target.partition("#")[0]).resolve()
        if re.match(r"[a-z]+:|#", target) or (kept and place.is_relative_to(kept)):
            return found[0]
        name = place.relative_to(ROOT).as_posix()
        if home:
            return f"{mark}[{words}]({home}/{'raw' if mark else 'blob'}/HEAD/{name})"
        plain = words.strip("`")
        return "" if mark else words if name.startswith(plain) else f"{words} (`{name}`)"

    return _LINK.sub(settle, _BADGE.sub(r"\1", text))


if __name__ == "__main__":
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    setup(long_description=settle_links(readme, ROOT, address()), long_description_content_type="text/markdown")
