"""The command line: verbs → functions. Heavy libraries are imported inside the verb that needs them.

To add a verb, write a function `(positional, flags) -> exit code or None` and put it in `VERBS`.
"""

import contextlib
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from hftl.cli_demo import DEMO_FLAGS, demo_verb
from hftl.cli_doctor import DOCTOR_FLAGS, doctor_verb
from hftl.cli_export import EXPORT_FLAGS, export_verb
from hftl.cli_help import Verb, usage, verb_help
from hftl.cli_plan import plan_verb
from hftl.cli_predict import EVAL_FLAGS, PREDICT_FLAGS, eval_verb, predict_verb
from hftl.cli_push import PUSH_FLAGS, push_verb
from hftl.config import SECTIONS
from hftl.errors import ConfigError, HftlError, Preempted, RunError, did_you_mean, shortened
from hftl.flags import Flags, check_flags, is_on, read_words
from hftl.progress import quiet_libraries


def _train(positional: list[str], flags: Flags) -> None:
    from hftl.cli_config import read_config

    as_json = is_on(flags, "json")
    flags.pop("json", None)
    config = read_config("train", positional, flags)
    from hftl.adapt import complete, run

    quiet_libraries()
    config = complete(config, claimed=True)
    assert config.output_dir is not None
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Trainer prints its log lines; stdout is for what was asked for
            result = run(config)
    except BaseException as error:  # Ctrl-C, SIGTERM, a crash: what is finished lies there still
        if not isinstance(error, ConfigError | RunError):  # says nothing where nothing was kept
            _say_how_to_resume(config.output_dir, ["--overwrite"] if config.overwrite else [])
        raise
    if as_json and int(os.environ.get("RANK", "0")) == 0:
        _print_json({"run_dir": str(result.run_dir), **result.report})


def _say_how_to_resume(output_dir: Path, flags: list[str]) -> None:
    from hftl.run_folder import partial_of
    from hftl.seeds import seeds_folder

    where = partial_of(output_dir)
    config = where / "config.yaml"
    if seeds_folder(output_dir).is_dir():
        _say(f"{seeds_folder(output_dir)} holds what is finished. Go on with the same command and --resume.")
    elif config.is_file():
        words = ["hftl", "train", str(config), "--output_dir", str(output_dir), "--resume", *flags]
        _say(f"Interrupted. Go on with: {shlex.join(words)}")


def _tasks(positional: list[str], flags: Flags) -> None:
    from hftl.names import TASK_NAMES

    _listing("tasks", [{"name": k, "summary": v} for k, v in TASK_NAMES.items()], positional, flags)


def _methods(positional: list[str], flags: Flags) -> None:
    from hftl.names import METHOD_NAMES

    _listing("methods", [{"name": k, "summary": v} for k, v in METHOD_NAMES.items()], positional, flags)


def _models(positional: list[str], flags: Flags) -> None:
    from hftl.models.packaged import PACKAGED, is_installed

    _listing(
        "models",
        [
            {"name": p.name, "input": p.input, "parameters": p.parameters, "licence": p.license,
             "installed": is_installed(p.name), "summary": p.description}
            for p in PACKAGED.values()
        ],
        positional,
        flags,
    )  # fmt: skip


def _samples(positional: list[str], flags: Flags) -> None:
    from hftl.data.samples import SAMPLES

    _listing(
        "samples",
        [
            {"name": f"sample:{s.name}", "task": s.task, "licence": s.license, "summary": s.description}
            for s in SAMPLES.values()
        ],
        positional,
        flags,
    )


def _listing(verb: str, rows: list[dict[str, Any]], positional: list[str], flags: Flags) -> None:
    check_flags(flags, {"json"}, verb)
    if positional:
        raise ConfigError(f"hftl {verb} takes no further words, but got {positional[0]!r}.")
    if is_on(flags, "json"):
        _print_json(rows)
        return
    from hftl.report.table import print_table

    header = tuple(rows[0])
    print_table("", header, [tuple(r.values()) for r in rows], stdout=True)


_JSON = {"json": "print one JSON document and nothing else on stdout"}
_TRAIN = {f.name: f.metadata["help"] for s in SECTIONS for f in s.__dataclass_fields__.values()}
VERBS: dict[str, Verb] = {
    "train": Verb(
        _train,
        "hftl train TASK|config.yaml --data DATA [--model MODEL] [--method METHOD] [flags]",
        "adapt a pretrained model to labelled data",
        "hftl train text-classification --data tickets.csv --model distilbert/distilbert-base-uncased --method lora",
        _TRAIN | _JSON,
        training=True,
    ),
    "plan": Verb(
        plan_verb,
        "hftl plan TASK|config.yaml --data DATA [--model MODEL] [--method METHOD] [flags of hftl train]",
        "show what hftl train would do, need and take, and which method fits; nothing is trained",
        "hftl plan text-classification --data tickets.csv --model distilbert/distilbert-base-uncased --method lora",
        _TRAIN | _JSON,
        training=True,
    ),
    "doctor": Verb(
        doctor_verb,
        "hftl doctor DATA [--fix OUT] [flags]",
        "find duplicates, leaks, faulty rows and labels in data, before training",
        "hftl doctor tickets.csv --fix cleaned",
        DOCTOR_FLAGS,
    ),
    "predict": Verb(
        predict_verb,
        "hftl predict RUN_OR_MODEL TEXT|IMAGE ... | --data new.csv [--output out.csv]",
        "label new texts or images",
        "hftl predict runs/tickets --data new.csv --output out.csv",
        PREDICT_FLAGS,
    ),
    "eval": Verb(
        eval_verb,
        "hftl eval RUN_OR_MODEL --data test.csv",
        "score a run on labelled rows",
        "hftl eval runs/tickets --data test.csv",
        EVAL_FLAGS,
    ),
    "demo": Verb(
        demo_verb,
        "hftl demo RUN_OR_MODEL [flags]",
        "try the model in the browser: answers, why, batches, evidence",
        "hftl demo runs/tickets --port 7860",
        DEMO_FLAGS,
    ),
    "push": Verb(
        push_verb,
        "hftl push RUN ns/name [flags]",
        "publish a run on the Hub: weights, card, report; private unless --public",
        "hftl push runs/tickets my-team/tickets --space my-team/tickets-demo",
        PUSH_FLAGS,
    ),
    "export": Verb(
        export_verb,
        "hftl export RUN_OR_MODEL [--format onnx] [--int8] [flags]",
        "write the model as ONNX with a predict.py of its own, checked against the original",
        "hftl export runs/tickets --format onnx --int8",
        EXPORT_FLAGS,
    ),
    "tasks": Verb(_tasks, "hftl tasks", "what can be learned", "hftl tasks --json", _JSON),
    "methods": Verb(_methods, "hftl methods", "how it can be learned", "hftl methods", _JSON),
    "models": Verb(_models, "hftl models", "checkpoints that need no Hub", "hftl models --json", _JSON),
    "samples": Verb(_samples, "hftl samples", "real data that needs no Hub", "hftl samples", _JSON),
}


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, default=str))


def _say(text: str) -> None:
    if int(os.environ.get("RANK", "0")) == 0:
        print(text, file=sys.stderr)


def run_command(argv: list[str]) -> int:
    """Run one command line and return its exit code."""
    if argv and argv[0] in ("--help", "-h", "help"):
        print(usage(VERBS))
        return 0
    if argv and argv[0] == "--version":
        import hftl

        print(hftl.__version__)
        return 0
    if not argv:
        _say(usage(VERBS))
        return 2
    try:
        if argv[0] not in VERBS:
            raise ConfigError(f"hftl has no verb {argv[0]!r}.{did_you_mean(argv[0], VERBS)} See hftl --help.")
        verb = VERBS[argv[0]]
        if "--help" in argv or "-h" in argv:
            print(verb_help(verb))
            return 0
        positional, flags = read_words(argv[1:], one_target=verb.training)
        verb.run(positional, flags)
    except HftlError as error:
        if not isinstance(error, Preempted):  # no error; how to go on has been said
            _say(f"error: {shortened(str(error))}")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def main(argv: list[str] | None = None) -> None:
    """Entry point of `hftl` and `python -m hftl`."""
    # Third-party notices go to stderr already; these two are noise on every run.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        code = run_command(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except BrokenPipeError:  # `hftl ... | head`: nobody reads on, also not what Python would flush at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)
