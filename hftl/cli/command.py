"""hftl's verbs as Typer commands: what a flag is, how the words of a line are read, and what `--help` says.

Typer completes words in the shell and calls the verb. What differs from its defaults: `-` and `_` are alike, a switch may
have a value (`--evidence off`), and help is plain text that shortens no name on a narrow terminal.
"""

import inspect
import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import Field, dataclass
from typing import Annotated, Any

from typer import Argument, Exit, Option, Typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from hftl.config import ALIASES, COLUMN_FLAGS, OWN_FLAGS, TASK_NAMES
from hftl.errors import ConfigError, did_you_mean
from hftl.methods import METHODS
from hftl.surroundings import quiet_libraries
from hftl.terminal import be_verbose
from hftl.values import KIND_WORDS, convert


WIDTH = 119  # columns of the help, at most
TRAIN, USE, LIST = PANELS = ("Train", "Use a trained model", "What there is")  # of verbs, in `hftl --help`
NAMES_ONLY = "Training, every field of transformers.TrainingArguments"  # a panel that lists its flags without a text
_NARROW = 40  # characters of the values of a flag; longer lists may be broken into lines at their commas
_SWITCH = "on|off"  # metavar of a flag that may stand alone, though its value is a text


@dataclass(frozen=True)
class Flag:
    """What follows two dashes. A `bool` stands alone, or before on or off; a `switch` too, but its value stays a text."""

    help: str
    kind: Any = str  # or bool, int, float, list[str]
    switch: bool = False
    also: tuple[str, ...] = ()  # other names
    choices: Iterable[str] = ()  # that the shell offers
    panel: str = "Flags"
    hidden: bool = False

    def parameter(self, name: str) -> inspect.Parameter:
        """Return the parameter of a verb's function that Typer makes this flag of."""
        option = Option(
            *[f"--{one}" for one in (name, *self.also)],
            help=self.help,
            rich_help_panel=self.panel,
            hidden=self.hidden,
            metavar=_SWITCH if self.switch else None,
            autocompletion=(lambda: list(self.choices)) if self.choices else None,
        )
        kind, default = (bool, False) if self.kind is bool else (self.kind | None, None)
        return inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
        )


def own_flag(field: Field, panel: str = "Flags") -> Flag:
    """Return a field of hftl's configs as a flag: its text, its other name, the values that it takes, its default."""
    kind, choices, default = field.metadata["kind"], field.metadata["choices"], field.default
    if kind is bool:
        choices, default = ("on", "off"), "on" if default else "off"
    if field.name == "method":
        choices = tuple(METHODS)
    also = tuple(alias for alias, name in ALIASES.items() if name == field.name)
    joined = "|".join(choices)
    values = [joined if len(joined) <= _NARROW else ", ".join(choices)] if choices else []
    values += [f"default: {default}"] if default is not None else []
    text = " ".join([field.metadata["help"], *(f"(also --{alias})" for alias in also)])
    return Flag(
        f"{text} [{'; '.join(values)}]" if values else text,
        kind=list[str] if kind is tuple else str,
        switch=kind is bool or field.name == "evidence",
        also=also,
        choices=choices,
        panel=panel,
    )


JSON = {"json": Flag("print one JSON document and nothing else on stdout", bool)}
VERBOSE = {"verbose": Flag("also print what trains, the whole ladder and all of the evidence", bool)}
COLUMNS = {name: own_flag(OWN_FLAGS[name]) for name in COLUMN_FLAGS}
RunOrModel = Annotated[str, Argument(metavar="RUN_OR_MODEL", help="one run, model folder or Hub id")]


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    print(json.dumps(value, ensure_ascii=False, default=str))


@contextmanager
def on_stderr(*, verbose: bool = False) -> Iterator[None]:
    """Silence the notices of the libraries, and send what is printed to stderr: stdout is for results."""
    quiet_libraries()
    be_verbose(verbose)
    with redirect_stdout(sys.stderr):
        yield


Flags = dict[str, list[str]]  # the values of each flag; none where it stands alone
_ON_OFF = ("true", "false", "on", "off")
_ALSO = ("yes", "no", "1", "0", "full", "quick")  # as transformers reads its own switches; of --evidence


def read_words(words: list[str], switches: Collection[str], *, one_target: bool = False) -> tuple[list[str], Flags]:
    """Split the words after the verb into positional ones and flags.

    `--a b`, `--a=b`, `--a` and `--a b c` all work, with `-` and `_` alike; every word after a bare `--` is positional.
    One of `switches` stands alone, or before on or off. With `one_target` the verb takes one TASK or config.yaml: a
    second word right after a switch was meant as its value. Raises `ConfigError` for that, and for a flag with one dash.
    """
    end = words.index("--") if "--" in words else len(words)
    positional: list[str] = []
    flags: Flags = {}
    current: str | None = None
    misplaced: list[str] = []
    choice = False  # one of those values was to be one of several, and no task or file
    for word in words[:end]:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            current = name.replace("-", "_")
            flags[current] = [value] if equals else []
            current = None if equals else current
        elif re.match(r"-[^\d.]", word) and current is None:
            raise ConfigError(f"There is no flag {word}: flags begin with two dashes, such as --data.")
        elif current is not None and (current not in switches or _is_value(word, one_target)):
            flags[current].append(word)
        else:
            if current is not None and word not in TASK_NAMES and not word.endswith((".yaml", ".yml")):
                own = OWN_FLAGS[current].metadata["choices"] if current in OWN_FLAGS else ()
                misplaced.append(f"--{current} is {' or '.join(own or ('on', 'off'))}, not {word!r}.")
                choice = choice or bool(own)
            positional.append(word)
            current = None
    positional += words[end + 1 :]
    if one_target and misplaced and (choice or len(positional) > 1):
        raise ConfigError(misplaced[0])
    return positional, flags


def _is_value(word: str, one_target: bool) -> bool:
    """Is it the value of the switch before it? A verb that takes texts may be given the text "no"."""
    return word.lower() in _ON_OFF or (one_target and word.lower() in _ALSO)


def _is_on(name: str, values: list[str]) -> bool:
    try:
        return bool(convert(bool, values[0] if len(values) == 1 else values or True))
    except ValueError:
        raise ConfigError(f"--{name} stands alone, or needs {KIND_WORDS[bool]}, not {' '.join(values)!r}.") from None


def _write_panels(formatter: Any, panels: dict[str, list[tuple[str, str]]]) -> None:
    width = max(len(name) for rows in panels.values() for name, _ in rows)
    for title, rows in panels.items():
        with formatter.section(title):
            formatter.write_dl([(name.ljust(width), text) for name, text in rows], col_max=width)


def _by_panel(options: Iterable[Any]) -> dict[str, list[tuple[str, str]]]:
    panels: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for option in options:
        if isinstance(option, TyperOption) and not option.hidden and option.rich_help_panel != NAMES_ONLY:
            panels[option.rich_help_panel or "Flags"].append((option.opts[0], option.help or ""))
    return panels


def flag_names(verb: Any) -> dict[str, TyperOption]:
    """Return the flags of a verb by name, without the dashes; a flag of two names twice."""
    options = [option for option in verb.params if isinstance(option, TyperOption)]
    return {name.removeprefix("--"): option for option in options for name in option.opts}


class Verb(TyperCommand):
    """A word after `hftl`. Its epilog is an example; the help of its arguments completes "hftl VERB needs ..."."""

    trains = False  # takes one TASK or config.yaml, and flags that are checked where all of a run's are

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words after the verb. Raises `ConfigError` for a flag that it lacks, or one without its value."""
        before = args[: args.index("--")] if "--" in args else args
        if {"--help", "-h"} & set(before):
            args = ["--help"]
        elif not ctx.resilient_parsing:
            args = self._plain(args)
        return super().parse_args(ctx, args)

    def _plain(self, args: list[str]) -> list[str]:
        """The same words with every flag as --name=value, and after a bare -- those that belong to no flag."""
        options = flag_names(self)
        switches = {name for name, option in options.items() if option.is_flag or option.metavar == _SWITCH}
        positional, flags = read_words(args, switches, one_target=self.trains)
        arguments = [a for a in self.params if isinstance(a, TyperArgument)]
        needs = [a.help or "" for a in arguments if a.required]
        plain: list[str] = []
        for name, values in flags.items():
            option = options.get(name)
            if option is None:
                visible = [name for name, option in options.items() if not option.hidden]
                raise ConfigError(f"hftl {self.name} has no flag --{name}.{did_you_mean(name, visible)}")
            if option.is_flag:
                plain += [f"--{name}"] if _is_on(name, values) else []
                continue
            if name in switches and not values:
                values = ["true"]
            missing = len(needs) - len(positional)
            if not option.multiple and missing and len(values) == 1 + missing:  # --flag value WORD
                positional += values[1:]
                values = values[:1]
            one = len(values) == 1 and (values[0] or self.trains)  # of a run, an empty value is judged later
            if not one and not (option.multiple and values):
                raise ConfigError(f"--{name} needs one value, but got {' '.join(map(repr, values)) or 'nothing'}.")
            plain += [f"--{name}={value}" for value in values]
        more = len(positional) > len(arguments) and not any(a.nargs == -1 for a in arguments)
        if more or len(positional) < len(needs):
            got = f", but got {len(positional)}: {' '.join(positional)}" if positional else ""
            needed = " and ".join(needs or [a.help or "" for a in arguments]) or "no further words"
            raise ConfigError(f"hftl {self.name} needs {needed}{got}, such as: {self.epilog}")
        return [*plain, "--", *positional]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write usage, summary, the flags in their panels, and the example."""
        arguments = [a for a in self.params if isinstance(a, TyperArgument)]
        words = [str(a.metavar) if a.required else f"[{a.metavar} ...]" for a in arguments]
        formatter.write_usage(ctx.command_path, " ".join([*words, "[flags]"]), prefix="usage: ")
        self.format_help_text(ctx, formatter)
        panels = {"Arguments": [(str(a.metavar), a.help or "") for a in arguments]} if arguments else {}
        _write_panels(formatter, panels | _by_panel(self.get_params(ctx)))
        fields = [o for o in self.params if isinstance(o, TyperOption) and o.rich_help_panel == NAMES_ONLY]
        if fields:
            with formatter.section(NAMES_ONLY):
                formatter.write_text(" ".join(o.opts[0] for o in fields if not o.hidden))
                refused = " ".join(o.opts[0] for o in fields if o.hidden)
                formatter.write_text(f"Refused, each with what to use instead: {refused}")
        with formatter.section("Example"):
            formatter.write(f"  {self.epilog}\n")


class Verbs(TyperGroup):
    """`hftl` itself."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the verb. Raises `ConfigError` when there is no such one."""
        if args[0] not in self.commands and not ctx.resilient_parsing:
            raise ConfigError(f"hftl has no verb {args[0]!r}.{did_you_mean(args[0], self.commands)} See hftl --help.")
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write usage, summary, the verbs in their panels, and the flags of `hftl` alone."""
        formatter.write_usage("hftl", "VERB ... [--json]", prefix="usage: ")
        self.format_help_text(ctx, formatter)
        panels: dict[str, list[tuple[str, str]]] = {panel: [] for panel in PANELS}
        for name, verb in self.commands.items():
            if isinstance(verb, Verb):
                panels[str(verb.rich_help_panel)].append((name, (verb.help or "").partition("\n\n")[0]))
        _write_panels(formatter, panels | _by_panel(self.get_params(ctx)))
        self.format_epilog(ctx, formatter)


app = Typer(
    cls=Verbs,
    name="hftl",
    help="hftl: adapt any Hugging Face model to your data, and know that it worked.",
    epilog="hftl VERB --help explains a verb. Example: hftl train text-classification --data tickets.csv",
    rich_markup_mode=None,
    context_settings={"max_content_width": WIDTH, "help_option_names": ["--help", "-h"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        import hftl

        print(hftl.__version__)
        raise Exit


@app.callback()
def _hftl(
    version: Annotated[
        bool, Option("--version", help="print the version", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


def verb(
    panel: str, flags: Mapping[str, Flag] = JSON, name: str | None = None, cls: type[Verb] = Verb
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make the function below a verb of `hftl`: its positional parameters are words, and it gets every flag by name.

    Its docstring is the help, with "Example: hftl ..." at the end.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        words = [
            p
            for p in inspect.signature(function, eval_str=True).parameters.values()
            if p.kind is p.POSITIONAL_OR_KEYWORD
        ]
        parameters = [*words, *(flag.parameter(one) for one, flag in flags.items())]
        function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        text, _, example = (inspect.getdoc(function) or "").partition("\n\nExample: ")
        return app.command(name, cls=cls, help=text, epilog=example, rich_help_panel=panel)(function)

    return register
