"""hftl's verbs as Typer commands: how their words are read, and what `--help` says.

Typer declares the flags, completes them in the shell and calls the verb. What differs from its defaults: `-` and `_` are
alike, a switch may have a value (`--evidence off`), and help is plain text that shortens no name on a narrow terminal.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Annotated, Any

from typer import Argument, Exit, Option, Typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from hftl.cli.words import is_on, one_value, read_words
from hftl.errors import ConfigError, did_you_mean


WIDTH = 119  # columns of the help, at most
SWITCH = "on|off"  # metavar of a flag whose value may be left out
TRAIN, USE, LIST = PANELS = ("Train", "Use a trained model", "What there is")  # of verbs, in `hftl --help`
NAMES_ONLY = "Training, every field of transformers.TrainingArguments"  # a panel that lists its flags without a text

Json = Annotated[bool, Option("--json", help="print one JSON document and nothing else on stdout")]
Revision = Annotated[str | None, Option("--revision", help="branch, tag or commit of a Hub model")]
RunOrModel = Annotated[str, Argument(metavar="RUN_OR_MODEL", help="one run, model folder or Hub id")]


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
        switches = {name for name, option in options.items() if option.is_flag or option.metavar == SWITCH}
        positional, flags = read_words(args, switches, one_target=self.trains)
        plain: list[str] = []
        for name, value in flags.items():
            if name not in options:
                shown = [name for name, option in options.items() if not option.hidden]
                raise ConfigError(f"hftl {self.name} has no flag --{name}.{did_you_mean(name, shown)}")
            if options[name].is_flag:
                plain += [f"--{name}"] if is_on(flags, name) else []
            elif options[name].multiple and value is not True:
                plain += [f"--{name}={one}" for one in (value if isinstance(value, list) else [value])]
            elif name in switches and value is True:
                plain.append(f"--{name}=true")
            else:
                plain.append(f"--{name}={one_value(flags, name, may_be_empty=self.trains)}")
        self._check_count(positional)
        return [*plain, "--", *positional]

    def _check_count(self, positional: list[str]) -> None:
        arguments = [a for a in self.params if isinstance(a, TyperArgument)]
        if not arguments and positional:
            raise ConfigError(f"hftl {self.name} takes no further words, but got {positional[0]!r}.")
        required = [a for a in arguments if a.required]
        if len(positional) < len(required) or (len(positional) > len(arguments) and arguments[-1].nargs != -1):
            needs = " and ".join(a.help or "" for a in required)
            got = f", but got {len(positional)}: {' '.join(positional)}" if positional else ""
            raise ConfigError(f"hftl {self.name} needs {needs}{got}, such as: {self.epilog}")

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
                panels[str(verb.rich_help_panel)].append((name, verb.help or ""))
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
    name: str, panel: str, summary: str, example: str, cls: type[Verb] = Verb
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make the function below a verb of `hftl`; its parameters are the flags, or words where they are `Argument`s."""
    return app.command(name, cls=cls, help=summary, epilog=example, rich_help_panel=panel)
