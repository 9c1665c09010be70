"""`hftl predict`, `eval`, `export` and `demo`: what is done with a trained model."""

import importlib.util
import os
import shlex
import sys
from typing import Annotated, Any

from typer import Argument

from hftl.cli.command import COLUMNS, JSON, USE, Flag, RunOrModel, on_stderr, own_flag, print_json, verb
from hftl.cli.early import check_use
from hftl.config import OWN_FLAGS
from hftl.demo import AUTH_VARIABLE, free_port
from hftl.errors import ConfigError, install_extra
from hftl.surroundings import importing, quiet_libraries
from hftl.values import check_export


_REVISION = {"revision": Flag("branch, tag or commit of a Hub model")}
_ROWS = {
    "data": Flag("file, folder, sample:<name> or Hub id"),
    **COLUMNS,
    **_REVISION,
    "strict": Flag("a broken image is an error", bool),
    **JSON,
}
_PREDICT = {name: flag for name, flag in _ROWS.items() if name != "label_column"}
_PREDICT["top_k"] = Flag("also name so many of the likeliest labels, each with its probability", int)
_PREDICT["text_pair"] = Flag("the second text of a pair, whose first one is the argument")
_PREDICT["output"] = Flag(
    "CSV to write: the input's columns plus the prediction, its probability or interval, not_sure; of masks a PNG or a "
    "new folder of them"
)
_EXPORT = {
    "format": Flag("onnx (the only one so far)"),
    "int8": Flag("also write model_int8.onnx, judged on the validation rows of the run's data", bool),
    "output_dir": Flag("a new folder (default: RUN/onnx, or <name>-onnx)"),
    "max_drop": Flag("share of validation accuracy that int8 may lose (default: 0.01)", float),
    "data": Flag("data to read instead of those that the run was trained on"),
    "overwrite": Flag("replace an earlier export", bool),
    "json": Flag("print export.json and nothing else on stdout", bool),
}
_DEMO = {
    "port": Flag("port on 127.0.0.1 (default: 7860; 0 takes any free one)", int),
    "share": Flag("also open a public address through gradio.live; says what becomes public", bool),
    "auth": Flag(f"user:password that the page asks for; better in the environment, as {AUTH_VARIABLE}"),
    "feedback": Flag("folder that corrections are appended to, as data for hftl train"),
    "data": Flag("data to take the examples from, where the run's own have moved"),
    **_REVISION,
    "json": Flag('print {"url": ..., "share_url": ...} when the page is up', bool),
}


@verb(USE, _PREDICT)
def predict(
    model: Annotated[str, Argument(metavar="RUN_OR_MODEL", help="a RUN or model")],
    inputs: Annotated[list[str] | None, Argument(metavar="TEXT|IMAGE", help="texts or image files")] = None,
    *,
    json: bool,
    top_k: int | None,
    **flags: Any,
) -> None:
    """Label new texts, pairs or images.

    Example: hftl predict runs/tickets --data new.csv --output out.csv
    """
    pair = flags.pop("text_pair")
    if bool(inputs) == (flags["data"] is not None):
        raise ConfigError("hftl predict needs either texts (or image paths) as arguments, or --data new.csv.")
    if pair is not None and len(inputs or []) != 1:
        raise ConfigError("--text_pair is the second text of one pair: give the first one as the argument.")
    if top_k is not None and top_k < 1:
        raise ConfigError(f"--top_k is a number from 1 on, not {top_k}.")
    check_use(model, flags)
    with importing():
        from hftl.predict import load_predictor
        from hftl.predict_file import (
            NOT_SURE,
            Wish,
            answers_for,
            images_of,
            predict_data,
            threshold_of,
            write_pictures,
        )

    quiet_libraries()
    predictor = load_predictor(model, flags["revision"])
    wish = Wish(top_k, threshold_of(model))
    asked = _asked(predictor.task, inputs or [], pair, flags["output"])
    if predictor.task.output.picture is not None and flags["output"] is not None:
        if not asked:
            asked = images_of(predictor, flags)
        else:  # a broken one is said before the first mask is written
            predictor.task.inputs.table(asked)
        written = write_pictures(predictor, asked, flags["output"])
        print_json(written) if json else print(*(f"{row['output']}\t{row['prediction']}" for row in written), sep="\n")
        return
    rows, names = answers_for(predictor, asked, wish) if asked else predict_data(predictor, flags, wish)
    if json:
        print_json(rows)
    elif flags["output"] is None:
        for row in rows:
            said = {name: row[column] for name, column in names.items()}
            bounds = [said[name] for name in ("probability", "low", "high") if said.get(name) is not None]
            words = [" to ".join(f"{value:.4f}" for value in bounds)] * bool(bounds) + ["not sure"] * bool(
                said.get(NOT_SURE)
            )
            words += [
                f"{said[f'label_{k}']} {said[f'probability_{k}']:.4f}"
                for k in range(1, (top_k or 0) + 1)
                if said.get(f"label_{k}")
            ]
            print(_in_words(said["prediction"]), *words, *([_in_words(row["input"])] if inputs else []), sep="\t")


def _asked(task: Any, inputs: list[str], pair: str | None, output: str | None) -> list[Any]:
    """Return the inputs, with `--text_pair` the two texts of one. Raises `ConfigError` for what the model cannot mean."""
    file = next(filter(os.path.isfile, inputs), None)
    if file is not None and "image" not in task.inputs.columns:
        raise ConfigError(f"{file} is a file, and the arguments are texts: --data {file} reads it.")
    if inputs and output is not None and task.output.picture is None:
        raise ConfigError("--output takes the answers to the rows of --data: leave it out, and they are printed.")
    if pair is None:
        return [*inputs]
    if len(task.inputs.columns) < 2:
        raise ConfigError(
            f"--text_pair is for a model of pairs, and this one reads one {task.inputs.kind}: leave it out."
        )
    return [{"text": inputs[0], "text_pair": pair}]


def _in_words(value: Any) -> str:
    """Return an answer, or an input, in one line."""
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(map(_in_words, value)) or "-"
    if isinstance(value, dict):  # an entity, or a pair
        return f"{value['text']} ({value['label']})" if "label" in value else " | ".join(map(str, value.values()))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@verb(USE, _ROWS | {"skip_bad_rows": own_flag(OWN_FLAGS["skip_bad_rows"])}, "eval")
def evaluate(model: RunOrModel, *, json: bool, **flags: Any) -> None:
    """Score a run on labelled rows.

    Example: hftl eval runs/tickets --data test.csv
    """
    if flags["data"] is None:
        raise ConfigError("hftl eval needs a RUN and --data, such as: hftl eval runs/tickets --data test.csv")
    check_use(model, flags)
    with importing():
        from hftl.evaluation.scale import score_name
        from hftl.predict_file import evaluate_data
        from hftl.report.statements import counted
        from hftl.report.table import print_table

    quiet_libraries()
    scores = evaluate_data(model, flags)
    if json:
        print_json(scores)
        return
    rows = []
    for name, score in scores["metrics"].items():
        value = score if isinstance(score, dict) else {"value": score}
        interval = f"{value['low']:.4f} to {value['high']:.4f}" if "low" in value else ""
        rows.append((score_name(name), f"{value['value']:.4f}", interval))
    left_out = f", {len(scores['skipped']):,} left out" if scores["skipped"] else ""
    title = f"{counted(scores['rows'], 'row', 'rows')}{left_out}"
    print_table(title, ("metric", "value", "95% interval"), rows, stdout=True)


@verb(USE, _EXPORT)
def export(model: RunOrModel, *, json: bool, **flags: Any) -> None:
    """Write the model as ONNX with a predict.py of its own, checked against the original.

    Example: hftl export runs/tickets --format onnx --int8
    """
    options = {name: value for name, value in flags.items() if value is not None}
    if "max_drop" in options and not options["int8"]:
        raise ConfigError("--max_drop is for --int8: the fp32 export must equal the model.")
    check_export(**{name: options[name] for name in ("format", "max_drop") if name in options})
    check_use(model, flags)
    from hftl.export import export as export_model
    from hftl.export.timing import table
    from hftl.report.statements import compared, counted
    from hftl.report.table import print_table
    from hftl.tasks import get_task

    with on_stderr():
        report = export_model(model, **options)
    values = report.values
    if json:
        print_json({**values, "output_dir": str(report.output_dir)})
        return
    threads = counted(values["latency"]["threads"], "thread", "threads")
    title = f"{values['model']['name']}: {threads}, time by batch size"
    print_table(f"{title}, score on validation" if values["int8"] else title, *table(values), stdout=True)
    task = get_task(values["task"], values["problem_type"], values["rows"])
    print(compared("onnx", values["parity"], task.output.words["same"]))
    example: Any = task.inputs.example
    words = example.values() if isinstance(example, dict) else [example]
    print(f"Try it: python {report.output_dir / 'predict.py'} {shlex.join(words)}")


@verb(USE, _DEMO)
def demo(model: RunOrModel, *, port: int | None, share: bool, auth: str | None, json: bool, **options: Any) -> None:
    """Try the model in the browser: answers, why, batches, evidence.

    Example: hftl demo runs/tickets --port 7860
    """
    port = port_of(port)
    login = login_of(auth, AUTH_VARIABLE)
    need_gradio("demo")
    check_use(model, options)
    port = free_port(port)  # before the model is loaded: whether it is free is known at once
    if share:
        _say_what_is_public(auth=login is not None, feedback=options["feedback"] is not None)
    print(f"Loading {model} ... the page will open at http://127.0.0.1:{port}", file=sys.stderr, flush=True)
    from hftl.demo.app import launch_demo, wait

    with on_stderr():
        page = launch_demo(model, port=port, share=share, auth=login, **options)
    if json:
        print_json({"url": page.local_url, "share_url": page.share_url})
    else:
        print(*filter(None, (page.local_url, page.share_url)), sep="\n")
    sys.stdout.flush()
    wait(page)


def port_of(port: int | None) -> int:
    """Return the port to serve on. Raises `ConfigError`."""
    port = 7860 if port is None else port
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port needs a number from 0 to 65535, but got {port}.")
    return port


def need_gradio(verb: str) -> None:
    """Raise `ConfigError` where the extra of this verb's name is not installed."""
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError(f"hftl {verb} needs gradio: {install_extra(verb)}")


def login_of(given: str | None, variable: str) -> tuple[str, str] | None:
    """Return user and password, given or of the environment; no message ever holds them."""
    value = given or os.environ.get(variable)
    if not value:
        return None
    user, colon, password = value.partition(":")
    if not (user and colon and password):
        raise ConfigError(f"--auth (or {variable}) needs user:password, both of at least one character.")
    return user, password


def _say_what_is_public(*, auth: bool, feedback: bool) -> None:
    sentences = [
        "--share: whoever has the address can use the model, and read its labels and the report's figures.",
        "What visitors send passes through gradio.live and is stored on this machine while the page is up.",
    ]
    if feedback:
        sentences.append("Visitors can add rows to the feedback folder.")
    if not auth:
        sentences.append(f"There is no password: --auth user:password or {AUTH_VARIABLE} asks for one.")
    print(*sentences, file=sys.stderr)
