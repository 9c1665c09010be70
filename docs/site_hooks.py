"""What mkdocs does beside copying pages: it writes the reference from hftl itself, and settles links into the source.

`pages()` makes every page of reference/ that would otherwise repeat the code: verbs from the Typer app, flags from the
configs, fields of report.json from its schema, tasks and methods from their tables, Python names from `hftl.__all__`.
"""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import hftl
from hftl.cli import VERBS
from hftl.cli.command import NAMES_ONLY
from hftl.config import OWN_FLAGS, OWNED, SECTIONS
from hftl.methods import METHODS
from hftl.report import schema
from hftl.tasks import TASKS, combinations
from setup import address, settle_links


DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
# What the types of hftl are read from, beside the public names; a page of the site documents each.
TYPES = {
    "Tasks": "hftl.tasks.task",
    "Methods": "hftl.methods.plan",
    "Errors": "hftl.errors",
    "Doctor": "hftl.doctor.findings",
}
RULES = {
    "number": "a number or true, false",
    "score": "a score: a number, or value, low, high",
    "word": "a name",
    "label": "a class name",
    "sentence": "a sentence",
    "group": "the name of a group of rows",
    "ids": "numbers of classes",
    "private": "never leaves the run",
}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def pages() -> dict[str, str]:
    """Return the pages of the reference that are written by hftl itself: path below docs/ → Markdown."""
    made = {f"reference/hftl-{name}.md": _verb(name) for name in VERBS}
    made["reference/verbs.md"] = _verbs()
    made["reference/flags.md"] = _flags()
    made["reference/report-fields.md"] = _report_fields()
    made["reference/tasks.md"] = _tasks()
    made["reference/methods.md"] = _methods()
    made["reference/python.md"] = _python()
    made["reference/types.md"] = _types()
    made["explanation/comparison.md"] = "# How it compares\n\n" + from_readme("Beside other tools", "explanation")
    return made


def from_readme(title: str, folder: str) -> str:
    """Return a section of README.md without its heading, for a page in `folder` of docs/: links are told from there."""
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    up = "../" * (len(PurePosixPath(folder).parts) + 1)
    return _LINK.sub(
        lambda m: m[0] if ":" in m[3] else f"{m[1]}[{m[2]}]({up}{m[3]})".replace(f"{up}docs/", up[3:]), text
    )


def _plain(text: str | None) -> str:
    """Return words of a help text as Markdown that shows them as they are."""
    return re.sub(r"([\[\]*])", r"\\\1", (text or "").replace("<", "&lt;"))


def _cell(value: Any) -> str:
    return re.sub(r"\s+", " ", str(value)).replace("|", "&#124;")


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines) + "\n"


def _code(text: Any) -> str:
    return f"<code>{text}</code>" if "|" in str(text) else f"`{text}`"  # of a table: a bar ends a cell, even in `a|b`


def _verbs() -> str:
    rows = [(f"[`{n}`](hftl-{n}.md)", _plain(v.help).partition("\n\n")[0]) for n, v in VERBS.items()]
    intro = (
        "# Verbs\n\n`hftl VERB --help` prints each of these pages. [Every verb with an example](../commands.md).\n\n"
    )
    return intro + _table(("verb", "what it does"), rows)


def _verb(name: str) -> str:
    verb = VERBS[name]
    options = [p for p in verb.params if hasattr(p, "rich_help_panel") and p.param_type_name == "option"]
    text = [f"# hftl {name}", _plain(verb.help)]
    arguments = [p for p in verb.params if p.param_type_name == "argument"]
    if arguments:
        rows = [(_code(a.metavar or a.name), _plain(a.help), "yes" if a.required else "no") for a in arguments]
        text.append(_table(("argument", "what it is", "needed"), rows))
    panels: dict[str, list[Any]] = {}
    for option in options:
        panels.setdefault(option.rich_help_panel or "Flags", []).append(option)
    for panel, found in panels.items():
        if panel == NAMES_ONLY:
            text += [f"## {panel}", "transformers documents them.", _names(o for o in found if not o.hidden)]
            refused = [(_code(o.opts[0]), OWNED.get(o.opts[0][2:], "")) for o in found if o.hidden]
            text += ["Refused, each with what to use instead:", _table(("flag", "instead"), refused)]
        else:
            rows = [(", ".join(map(_code, o.opts)), _plain(o.help)) for o in found if not o.hidden]
            text += [f"## {panel}", _table(("flag", "what it does"), rows)]
    return "\n\n".join([*text, "## Example", f"```\n{verb.epilog}\n```"]) + "\n"


def _names(options: Iterator[Any]) -> str:
    return " ".join(_code(option.opts[0]) for option in options)


def _flags() -> str:
    text = [
        "# Flags",
        "The flags of a run, by what they settle. Python takes the same names, and so does config.yaml.",
    ]
    for section in SECTIONS:
        rows = []
        for field in dataclasses.fields(section):
            if field.name not in OWN_FLAGS:
                continue
            told = field.metadata
            values = ", ".join(tuple(METHODS) if field.name == "method" else told["choices"])
            default = "" if field.default is None else _code(field.default)
            rows.append((_code(f"--{field.name}"), told["kind"].__name__, values, default, _plain(told["help"])))
        head = ("flag", "type", "values", "default", "what it does")
        text += [f"## {section.__name__}", section.__doc__ or "", _table(head, rows)]
    return "\n\n".join(text)


def report_fields(shape: Any = schema.REPORT, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (path, rule) of every field of report.json, depth first."""
    if callable(shape):
        yield path, getattr(shape, "__name__", "number")
    elif isinstance(shape, list):
        yield from report_fields(shape[0], f"{path}[]")
    else:
        for name, inner in shape.items():
            key = "NAME" if name is str else name
            yield from report_fields(inner, f"{path}.{key}" if path else key)


def _report_fields() -> str:
    rows = [(_code(p), RULES[rule], "no" if rule == "private" else "yes") for p, rule in report_fields()]
    intro = """# Fields of report.json

Written from `hftl/report/schema.py`. `[]` is a list, `NAME` stands for any name. Any value may be null. What "published"
leaves out never reaches the Hub: a push sends the other fields alone. [A run on disk](../report.md) says what they mean.
"""
    return intro + "\n" + _table(("field", "holds", "published"), rows)


def _tasks() -> str:
    rows = []
    for name, task in TASKS.items():
        for one in combinations(name):
            scores = ", ".join(map(_code, one.output.scores))
            rows.append((_code(name), one.inputs.kind, _code(one.output.problem_type), scores, _code(task.auto_model)))
    head = ("task", "a row is", "the answer is", "scores", "saved as")
    return "# Tasks\n\nThe columns of your data say which line it is ([answers](../answers.md)).\n\n" + _table(
        head, rows
    )


def _methods() -> str:
    rows = [(_code(m.name), m.summary, ", ".join(_code(f"--{f}") for f in m.flags), m.rows) for m in METHODS.values()]
    head = ("method", "what it does, and when to take it", "flags of its own", "rows per class, at least")
    return "# Methods\n\nHow each works, with its paper: [methods](../methods.md).\n\n" + _table(head, rows)


def _python() -> str:
    text = ["# Python", "How to use these: [From Python](../python.md)."]
    for name in (one for one in hftl.__all__ if hftl._PUBLIC[one] not in TYPES.values()):
        where = f"{hftl._PUBLIC[name]}.{name}"
        if (ROOT / where.replace(".", "/")).with_suffix(".py").is_file():  # a module of the function's own name
            where += f".{name}"
        known = f"::: {where}\n    options:\n      heading: hftl.{name}\n      toc_label: {name}"
        text.append(known if not name.isupper() else f"## {name}\n\n`hftl.{name}`: [table]({name.lower()}.md).")
    return "\n\n".join(text) + "\n"


def _types() -> str:
    text = ["# Types", "What a task, a method, a finding and an error are made of."]
    for title, module in TYPES.items():
        text += [f"## {title}", f"::: {module}\n    options:\n      show_root_heading: false\n      heading_level: 3"]
    return "\n\n".join(text) + "\n"


def on_config(config: Any) -> Any:
    """Put a page for every verb into the navigation."""
    for section in config.nav:
        for item in section.get("Reference", []) if isinstance(section, dict) else []:
            if isinstance(item, dict) and item.get("Verbs") == []:
                item["Verbs"] = ["reference/verbs.md", *({n: f"reference/hftl-{n}.md"} for n in VERBS)]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Settle the links of a page that lead out of docs/, which the site does not hold."""
    return settle_links(markdown, (DOCS / page.file.src_uri).parent, address(), kept=DOCS)
