"""`hftl train` and `hftl plan`: their flags are the fields of hftl's configs and of `transformers.TrainingArguments`."""

import ast
import contextlib
import dataclasses
import importlib.util
import inspect
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from hftl.cli.command import NAMES_ONLY, SWITCH, TRAIN, Json, Verb, verb
from hftl.config import ALIASES, OWN_FLAGS, OWNED, SECTIONS, RunConfig, build_config, read_yaml
from hftl.errors import ConfigError, RunError
from hftl.names import METHOD_NAMES, TASK_NAMES, check_method, check_task
from hftl.progress import quiet_libraries


_TITLES = ("Data", "Model", "Method", "Run")  # of the sections of a config


def trainer_fields() -> dict[str, tuple[str, str]]:
    """Return the type and the help text of every field of TrainingArguments, from its source: importing it takes seconds."""
    spec = importlib.util.find_spec("transformers")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).with_name("training_args.py").read_text(encoding="utf-8")
    (definition,) = (
        node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "TrainingArguments"
    )
    return {
        node.target.id: (ast.unparse(node.annotation), _help_of(node.value))
        for node in definition.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def _help_of(value: ast.expr | None) -> str:
    """The text under "help" in `field(metadata={"help": "..."})`."""
    for node in ast.walk(value) if value is not None else ():
        if isinstance(node, ast.Dict):
            for key, text in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "help" and isinstance(text, ast.Constant):
                    return str(text.value)
    return ""


def _parameter(name: str, kind: Any, option: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _own_parameters() -> Iterator[inspect.Parameter]:
    for title, section in zip(_TITLES, SECTIONS, strict=True):
        for field in dataclasses.fields(section):
            name = field.name
            also = [f"--{alias}" for alias, own in ALIASES.items() if own == name]
            text = f"{field.metadata['help']}{f' (also {also[0]})' if also else ''}{_values(field)}"
            switch = field.metadata["kind"] is bool
            choices = ("on", "off") if switch else METHOD_NAMES if name == "method" else field.metadata["choices"]
            option = Option(
                f"--{name}",
                *also,
                help=text,
                rich_help_panel=title,
                metavar=SWITCH if switch else None,
                autocompletion=_complete(choices),
            )
            yield _parameter(name, list[str] if field.metadata["kind"] is tuple else str, option)


def _values(field: Any) -> str:
    """What the flag takes and what it is when not given, as its field says; "" where the help text says it all."""
    default, choices = field.default, field.metadata["choices"]
    if field.metadata["kind"] is bool:
        default, choices = "on" if default else "off", ("on", "off")
    parts = ["|".join(choices)] if choices else []
    parts += [f"default: {default}"] if default is not None else []
    return f" [{'; '.join(parts)}]" if parts else ""


def _trainer_parameters() -> Iterator[inspect.Parameter]:
    for name, (kind, text) in trainer_fields().items():
        if name not in OWN_FLAGS:
            switch = kind in ("bool", "bool | None")
            option = Option(
                f"--{name}",
                help=text,
                rich_help_panel=NAMES_ONLY,
                hidden=name in OWNED or name.startswith("hub_"),
                metavar=SWITCH if switch else None,
                autocompletion=_complete(("true", "false") if switch else ()),
            )
            yield _parameter(name, list[str] if "list[" in kind else str, option)


def _complete(choices: Any) -> Callable[[], list[str]] | None:
    return (lambda: list(choices)) if choices else None


def _training_flags(function: Callable[..., None]) -> Callable[..., None]:
    """Give a function of (target, as_json, **flags) the parameters that Typer makes flags of."""
    target, as_json, _ = inspect.signature(function).parameters.values()
    parameters = [target, *_own_parameters(), as_json, *_trainer_parameters()]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return function


class _TrainingVerb(Verb):
    trains = True


Target = Annotated[
    str, Argument(metavar="TASK|config.yaml", help="one TASK or config.yaml", autocompletion=lambda: list(TASK_NAMES))
]


def _config(target: str, flags: dict[str, Any]) -> RunConfig:
    """Return the run that a TASK or config.yaml and the flags ask for. Raises `ConfigError`."""
    values: dict[str, Any] = {}
    if target.endswith((".yaml", ".yml")):
        values = read_yaml(Path(target))
        target = str(values.pop("task"))
    task = check_task(target)
    for name, value in flags.items():
        if value is not None:
            values[name] = value[0] if isinstance(value, list) and len(value) == 1 else value
    check_method(values.get("method"))
    return build_config(task, values)


@verb(
    "train",
    TRAIN,
    "adapt a pretrained model to labelled data",
    "hftl train text-classification --data tickets.csv --model distilbert/distilbert-base-uncased --method lora",
    _TrainingVerb,
)
@_training_flags
def train(target: Target, *, as_json: Json = False, **flags: Any) -> None:
    """Adapt a model, and print tables on stderr or with `--json` the report on stdout."""
    config = _config(target, flags)
    from hftl.adapt import complete, run

    quiet_libraries()
    config = complete(config, claimed=True)
    assert config.output_dir is not None
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Trainer prints its log lines; stdout is for results
            result = run(config)
    except BaseException as error:  # Ctrl-C, SIGTERM, a crash: what is finished is still there
        if not isinstance(error, ConfigError | RunError):  # these say nothing was kept
            _say_how_to_resume(config.output_dir, ["--overwrite"] if config.overwrite else [])
        raise
    if as_json and int(os.environ.get("RANK", "0")) == 0:
        print(json.dumps({"run_dir": str(result.run_dir), **result.report}, ensure_ascii=False, default=str))


def _say_how_to_resume(output_dir: Path, flags: list[str]) -> None:
    from hftl.run_folder import partial_of
    from hftl.seeds import seeds_folder

    config = partial_of(output_dir) / "config.yaml"
    if int(os.environ.get("RANK", "0")) != 0:
        return
    if seeds_folder(output_dir).is_dir():
        line = f"{seeds_folder(output_dir)} holds what is finished. Go on with the same command and --resume."
        print(line, file=sys.stderr)
    elif config.is_file():
        words = ["hftl", "train", str(config), "--output_dir", str(output_dir), "--resume", *flags]
        print(f"Interrupted. Go on with: {shlex.join(words)}", file=sys.stderr)


@verb(
    "plan",
    TRAIN,
    "show what hftl train would do, need and take, and which method fits; nothing is trained",
    "hftl plan text-classification --data tickets.csv --model distilbert/distilbert-base-uncased --method lora",
    _TrainingVerb,
)
@_training_flags
def plan(target: Target, *, as_json: Json = False, **flags: Any) -> None:
    """Print the plan of a run as tables, or with `--json` as one document."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("hftl plan runs in one process: start it without torchrun or accelerate launch.")
    config = _config(target, flags)
    from hftl.adapt import complete
    from hftl.planning.plan_report import plan_report
    from hftl.planning.show import show_plan_report

    quiet_libraries()
    with contextlib.redirect_stdout(sys.stderr):
        report = plan_report(complete(config))
    if as_json:
        print(json.dumps(report, ensure_ascii=False, default=str))
    else:
        show_plan_report(report)
