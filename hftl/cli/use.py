"""`hftl predict`, `eval`, `demo` and `export`: what is done with a trained model."""

import contextlib
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from hftl.cli.command import USE, Json, Revision, RunOrModel, verb
from hftl.errors import ConfigError
from hftl.progress import hide_bars, quiet_libraries


AUTH_VARIABLE = "HFTL_DEMO_AUTH"

Data = Annotated[str | None, Option("--data", help="file, folder, sample:<name> or Hub id")]
TextColumn = Annotated[str | None, Option("--text_column", help="column with the text")]
ImageColumn = Annotated[str | None, Option("--image_column", help="column with the image")]
LabelColumn = Annotated[str | None, Option("--label_column", help="column with the label")]
Strict = Annotated[bool, Option("--strict", help="a broken image is an error")]


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    print(json.dumps(value, ensure_ascii=False, default=str))


@verb("predict", USE, "label new texts or images", "hftl predict runs/tickets --data new.csv --output out.csv")
def predict(
    model: Annotated[str, Argument(metavar="RUN_OR_MODEL", help="a RUN or model")],
    inputs: Annotated[list[str] | None, Argument(metavar="TEXT|IMAGE", help="texts or image files")] = None,
    data: Data = None,
    text_column: TextColumn = None,
    image_column: ImageColumn = None,
    revision: Revision = None,
    strict: Strict = False,
    output: Annotated[
        str | None, Option("--output", help="CSV to write: the input's columns plus prediction and probability")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a label and its probability per input, or write the CSV of `--output`."""
    if bool(inputs) == (data is not None):
        raise ConfigError("hftl predict needs either texts (or image paths) as arguments, or --data new.csv.")
    from hftl.predict_file import answers_for, load_predictor, predict_data

    quiet_libraries()
    predictor = load_predictor(model, revision)
    if inputs:
        rows = answers_for(predictor, inputs)
    else:
        flags = {"data": data, "text_column": text_column, "image_column": image_column, "output": output}
        rows = predict_data(predictor, {**flags, "strict": strict})
    if as_json:
        print_json(rows)
    elif output is None:
        for row in rows:
            print(f"{row['prediction']}\t{row['probability']:.4f}", *([row["input"]] if inputs else []), sep="\t")


@verb("eval", USE, "score a run on labelled rows", "hftl eval runs/tickets --data test.csv")
def evaluate(
    model: RunOrModel,
    data: Data = None,
    text_column: TextColumn = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    revision: Revision = None,
    strict: Strict = False,
    as_json: Json = False,
) -> None:
    """Print the metrics of a model on labelled rows, with their intervals."""
    if data is None:
        raise ConfigError("hftl eval needs a RUN and --data, such as: hftl eval runs/tickets --data test.csv")
    from hftl.predict_file import evaluate_data

    quiet_libraries()
    flags = {"data": data, "text_column": text_column, "image_column": image_column, "label_column": label_column}
    scores = evaluate_data(model, {**flags, "strict": strict, "revision": revision})
    if as_json:
        print_json(scores)
        return
    from hftl.report.table import print_table

    rows = [
        (name, f"{v['value']:.4f}", f"{v['low']:.4f} to {v['high']:.4f}")
        if isinstance(v, dict)
        else (name, f"{v:.4f}", "")
        for name, v in scores["metrics"].items()
    ]
    print_table(f"{scores['rows']} rows", ("metric", "value", "95% interval"), rows, stdout=True)


@verb(
    "export",
    USE,
    "write the model as ONNX with a predict.py of its own, checked against the original",
    "hftl export runs/tickets --format onnx --int8",
)
def export(
    model: RunOrModel,
    format: Annotated[str, Option("--format", help="onnx (the only one so far)")] = "onnx",
    int8: Annotated[
        bool, Option("--int8", help="also write model_int8.onnx, judged on the validation rows of the run's data")
    ] = False,
    output_dir: Annotated[
        str | None, Option("--output_dir", help="a new folder (default: RUN/onnx, or <name>-onnx)")
    ] = None,
    max_drop: Annotated[
        str | None, Option("--max_drop", help="share of validation accuracy that int8 may lose (default: 0.01)")
    ] = None,
    data: Annotated[
        str | None, Option("--data", help="data to read instead of those that the run was trained on")
    ] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="replace an earlier export")] = False,
    as_json: Annotated[bool, Option("--json", help="print export.json and nothing else on stdout")] = False,
) -> None:
    """Print the table of sizes, accuracy and times, or with `--json` export.json."""
    if max_drop is not None and not int8:
        raise ConfigError("--max_drop is for --int8: the fp32 export must equal the model.")
    options = {"max_drop": _share(max_drop)} if max_drop is not None else {}
    import datasets

    from hftl.export import export as export_model
    from hftl.export.table import HEADER, table_rows
    from hftl.report.table import print_table

    quiet_libraries()
    if hide_bars():
        datasets.disable_progress_bars()
    with contextlib.redirect_stdout(sys.stderr):
        report = export_model(
            model, format, int8=int8, output_dir=output_dir, data=data, overwrite=overwrite, **options
        )
    values = report.values
    if as_json:
        print_json({**values, "output_dir": str(report.output_dir)})
        return
    threads, parity = values["latency"]["threads"], values["parity"]
    title = (
        f"{values['model']['name']}: {threads} thread{'s' * (threads > 1)}, time by batch size, accuracy on validation"
    )
    print_table(title, HEADER, table_rows(values), stdout=True)
    print(
        f"predict.py gives the labels of the PyTorch model on {parity['rows']} rows ({parity['origin']}); probabilities "
        f"differ by at most {parity['max_difference']:.1g}."
    )
    example = '"a text"' if values["task"] == "text-classification" else "image.png"
    print(f"Try it: python {report.output_dir / 'predict.py'} {example}")


def _share(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ConfigError(f"--max_drop {value} is not a share of accuracy, such as 0.01 for one point.") from None


@verb(
    "demo",
    USE,
    "try the model in the browser: answers, why, batches, evidence",
    "hftl demo runs/tickets --port 7860",
)
def demo(
    model: Annotated[str, Argument(metavar="RUN_OR_MODEL", help="one RUN or model")],
    port: Annotated[str, Option("--port", help="port on 127.0.0.1 (default: 7860; 0 takes any free one)")] = "7860",
    share: Annotated[
        bool, Option("--share", help="also open a public address through gradio.live; says what becomes public")
    ] = False,
    auth: Annotated[
        str | None,
        Option("--auth", help=f"user:password that the page asks for; better in the environment, as {AUTH_VARIABLE}"),
    ] = None,
    feedback: Annotated[
        str | None, Option("--feedback", help="folder that corrections are appended to, as data for hftl train")
    ] = None,
    data: Annotated[
        str | None, Option("--data", help="data to take the examples from, where the run's own have moved")
    ] = None,
    revision: Revision = None,
    as_json: Annotated[
        bool, Option("--json", help='print {"url": ..., "share_url": ...} when the page is up')
    ] = False,
) -> None:
    """Serve the page until Ctrl-C or SIGTERM; its address is printed on stdout once it answers.

    Raises `ConfigError` for wrong flags, `ModelError` for no such model, `RunError` for a port or folder in the way.
    """
    if not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise ConfigError(f"--port needs a number from 0 to 65535, but got {port!r}.")
    login = _login(auth or os.environ.get(AUTH_VARIABLE))
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError('hftl demo needs gradio: pip install "hftl[demo]"')
    from hftl.demo.port import free_port

    number = free_port(int(port))  # before the model is loaded: whether it is free is known at once
    if share:
        _say_what_is_public(auth=login is not None, feedback=feedback is not None)
    from hftl.demo.app import launch_demo, wait

    quiet_libraries()
    with contextlib.redirect_stdout(sys.stderr):
        page = launch_demo(
            model,
            port=number,
            share=share,
            auth=login,
            feedback=Path(feedback) if feedback is not None else None,
            data=data,
            revision=revision,
        )
    urls = {"url": page.local_url, "share_url": page.share_url}
    for line in [json.dumps(urls)] if as_json else [url for url in urls.values() if url]:
        print(line)
    sys.stdout.flush()
    wait(page)


def _login(value: str | None) -> tuple[str, str] | None:
    """Return user and password; no message ever holds them."""
    if not value:
        return None
    user, colon, password = value.partition(":")
    if not (user and colon and password):
        raise ConfigError(f"--auth (or {AUTH_VARIABLE}) needs user:password, both of at least one character.")
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
