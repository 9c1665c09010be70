"""`hftl train`, `plan`, `compare` and `curve`: their flags are the fields of hftl's configs and of `transformers.TrainingArguments`."""

import dataclasses
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

from typer import Argument

from hftl.cli.command import JSON, NAMES_ONLY, TRAIN, VERBOSE, Flag, Verb, on_stderr, own_flag, print_json, verb
from hftl.cli.early import check_pick, check_run
from hftl.config import (
    OWN_FLAGS,
    OWNED,
    SECTIONS,
    SHORTLISTS,
    TASK_NAMES,
    RunConfig,
    build_config,
    data_config,
    read_yaml,
)
from hftl.errors import ConfigError, RunError
from hftl.methods import OF_METHODS, check_name, get_method
from hftl.surroundings import importing
from hftl.values import check_bounds, trainer_fields


_TITLES = ("Data", "Model", "Method", "Run")  # of the sections of a config


def _trainer_flag(name: str, kind: str) -> Flag:
    switch = kind in ("bool", "bool | None")
    return Flag(
        "a field of transformers.TrainingArguments",
        kind=list[str] if "list[" in kind else str,
        switch=switch,
        choices=("true", "false") if switch else (),
        panel=NAMES_ONLY,
        hidden=name in OWNED or name.startswith("hub_"),
    )


_FLAGS = {
    field.name: own_flag(field, title)
    for title, section in zip(_TITLES, SECTIONS, strict=True)
    for field in dataclasses.fields(section)
}
_FLAGS |= JSON | VERBOSE
_FLAGS |= {name: _trainer_flag(name, kind) for name, kind in trainer_fields().items() if name not in OWN_FLAGS}
Target = Annotated[
    str | None,
    Argument(
        metavar="TASK|config.yaml",
        help="one TASK or config.yaml (when left out, the task is found from --data)",
        autocompletion=lambda: list(TASK_NAMES),
    ),
]


class _TrainingVerb(Verb):
    trains = True


def _asked(target: str | None, flags: dict[str, Any], example: str) -> tuple[str | None, dict[str, Any]]:
    """Return the task, None where the data are to say it, and the values that a TASK or config.yaml and the flags give.

    Raises an `HftlError` for what is wrong with them, before anything heavy is imported.
    """
    values: dict[str, Any] = {"task": target}
    if target is not None and target.endswith((".yaml", ".yml")):
        values = read_yaml(Path(target))
    if target is None and flags.get("data") is None:
        verb = " ".join(example.split()[:2])
        raise ConfigError(f"{verb} needs one TASK or config.yaml, or --data alone, such as: {example}")
    typed = {name: value for name, value in flags.items() if value is not None}
    check_name(typed.get("method"))
    if "method" in typed:  # what the run that is repeated had for its own method is of no other
        unread = OF_METHODS - {*get_method(typed["method"]).flags}
        values = {name: value for name, value in values.items() if name not in unread}
    values |= {
        name: value[0] if isinstance(value, list) and len(value) == 1 else value for name, value in typed.items()
    }
    check_name(values.get("method"))
    task = values.pop("task")
    check_run(build_config(next(iter(TASK_NAMES)) if task is None else task, values), task, example.split()[1])
    return task, values


def _config(target: str | None, flags: dict[str, Any], example: str) -> RunConfig:
    """Return the run that a TASK or config.yaml and the flags ask for. Raises `ConfigError`."""
    task, values = _asked(target, flags, example)
    if task is None:
        from hftl.data.settle import find_task  # late: reading data takes heavy imports

        with on_stderr():
            task = find_task(data_config(values))
    return build_config(task, values)


@verb(TRAIN, _FLAGS, cls=_TrainingVerb)
def train(target: Target = None, *, json: bool, verbose: bool, **flags: Any) -> None:
    """Adapt a pretrained model to labelled data.

    Example: hftl train text-classification --data tickets.csv --model distilbert/distilbert-base-uncased --method lora
    """
    config = _config(target, flags, "hftl train text-classification --data tickets.csv")
    with importing():
        from hftl.adapt import complete, run

    is_main = os.environ.get("RANK", "0") == "0"
    with on_stderr(verbose=verbose):
        config = complete(config, claimed=True)
        assert config.output_dir is not None
        try:
            result = run(config)
        except BaseException as error:  # Ctrl-C, SIGTERM, a crash: what is finished is still there
            if not isinstance(error, ConfigError | RunError) and is_main:  # these kept nothing
                _say_how_to_resume(config.output_dir, ["--overwrite"] if config.overwrite else [])
            raise
    if json and is_main:
        print_json({"run_dir": str(result.run_dir), **result.report})


_COMPARE = {
    "methods": Flag("methods to compare, with commas between them (default: probe,lora,full)", panel="Method"),
    **{name: flag for name, flag in _FLAGS.items() if name != "method"},
}
_CURVE = {
    "method": Flag("methods, with commas between them (default: probe)", panel="Method"),
    "sizes": Flag("how many sizes: all training rows, a half, a quarter ... (default: 5)", int, panel="Method"),
    "draws": Flag("how often each size is drawn anew (default: 5)", int, panel="Method"),
    **{name: flag for name, flag in _FLAGS.items() if name != "method"},
}


@verb(TRAIN, _COMPARE, "compare", cls=_TrainingVerb)
def compare_methods(target: Target = None, *, json: bool, verbose: bool, methods: str | None, **flags: Any) -> None:
    """Adapt the model by several methods: what each reaches on the same test rows, what it costs, who wins where.

    Runs that the same flags made in the folder are taken as they are, so that the same command goes on.

    Example: hftl compare text-classification --data tickets.csv --model roberta-base --methods probe,lora,full --seeds 3
    """
    for name in methods.split(",") if methods else ():
        check_name(name.strip())
    task, values = _asked(target, flags, "hftl compare --data tickets.csv --methods probe,full")
    from hftl.selection.compare import compare

    with on_stderr(verbose=verbose):
        document = compare(task, **values | ({} if methods is None else {"methods": methods}))
    if json:
        print_json(document)


@verb(TRAIN, _CURVE, "curve", cls=_TrainingVerb)
def curve(
    target: Target = None,
    *,
    json: bool,
    verbose: bool,
    method: str | None,
    sizes: int | None,
    draws: int | None,
    **flags: Any,
) -> None:
    """Show how the score grows with the training rows, beside a baseline without pretraining.

    The probe learns from features of one forward pass; each point of another method is a run of its own.

    Example: hftl curve text-classification --data tickets.csv --model distilbert/distilbert-base-uncased
    """
    for name in method.split(",") if method else ():
        check_name(name.strip())
    own = {
        name: value for name, value in (("method", method), ("sizes", sizes), ("draws", draws)) if value is not None
    }
    for name, value in own.items():
        check_bounds(name, value)
    task, values = _asked(target, flags, "hftl curve --data tickets.csv")
    from hftl.selection.curve import curve

    with on_stderr(verbose=verbose):
        document = curve(task, **values | own)
    if json:
        print_json(document)


_WISHES = {
    "models": Flag(
        "models, with commas between them (default: a shortlist, and what lies on this machine)", panel="Model"
    ),
    "shortlist": Flag("models to look at [default: small]", choices=SHORTLISTS, panel="Model"),
    "max_parameters": Flag("leave larger models out", int, panel="Model"),
    "licence": Flag(
        "permissive, or an identifier of the Hub: leave others out (also --license)", also=("license",), panel="Model"
    ),
    "language": Flag("code of a language, such as de: leave models out that do not read it", panel="Model"),
    "race": Flag("train the finalists, by auto unless --method says otherwise", bool, panel="Model"),
}


@verb(TRAIN, {name: flag for name, flag in _FLAGS.items() if name != "model"} | _WISHES, "pick", cls=_TrainingVerb)
def pick_model(target: Target = None, *, json: bool, verbose: bool, **flags: Any) -> None:
    """Rank pretrained models by what their frozen features say of the data, beside size, latency and licence.

    Example: hftl pick text-classification --data tickets.csv --licence permissive --race
    """
    wishes = {name: value for name in _WISHES if (value := flags.pop(name)) is not None}
    check_pick(wishes.get("models"), {k: v for k, v in wishes.items() if k not in ("models", "race")})
    task, values = _asked(target, flags, "hftl pick --data tickets.csv")
    from hftl.selection.pick import pick

    with on_stderr(verbose=verbose):
        document = pick(task, **values | wishes)
    if json:
        print_json(document)


def _say_how_to_resume(output_dir: Path, flags: list[str]) -> None:
    from hftl.run_folder import partial_of
    from hftl.seeds import seeds_folder

    config = partial_of(output_dir) / "config.yaml"
    if seeds_folder(output_dir).is_dir():
        line = f"{seeds_folder(output_dir)} holds what is finished. Go on with the same command and --resume."
        print(line, file=sys.stderr)
    elif config.is_file():
        words = ["hftl", "train", str(config), "--output_dir", str(output_dir), "--resume", *flags]
        print(f"Interrupted. Go on with: {shlex.join(words)}", file=sys.stderr)


@verb(TRAIN, _FLAGS, cls=_TrainingVerb)
def plan(target: Target = None, *, json: bool, verbose: bool, **flags: Any) -> None:
    """Show what hftl train would do, need and take, and which method fits; nothing is trained.

    Example: hftl plan text-classification --data tickets.csv --model distilbert/distilbert-base-uncased --method lora
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("hftl plan runs in one process: start it without torchrun or accelerate launch.")
    config = _config(target, flags, "hftl plan text-classification --data tickets.csv")
    with importing():
        from hftl.adapt import complete
        from hftl.planning.plan_report import plan_report
        from hftl.planning.plan_tables import show_plan_report

    with on_stderr(verbose=verbose):
        report = plan_report(complete(config))
    if json:
        print_json(report)
    else:
        show_plan_report(report)
