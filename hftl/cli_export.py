"""`hftl export`: a trained classifier as an ONNX folder for a phone, a small computer or a browser."""

import contextlib
import json
import sys
from typing import Any

from hftl.errors import ConfigError
from hftl.flags import Flags, check_flags, is_on
from hftl.progress import hide_bars, quiet_libraries


EXPORT_FLAGS = {
    "format": "onnx (the only one so far)",
    "int8": "also write model_int8.onnx, judged on the validation rows of the run's data",
    "output_dir": "a new folder (default: RUN/onnx, or <name>-onnx)",
    "max_drop": "share of validation accuracy that int8 may lose (default: 0.01)",
    "data": "data to read instead of those that the run was trained on",
    "overwrite": "replace an earlier export",
    "json": "print export.json and nothing else on stdout",
}


def export_verb(positional: list[str], flags: Flags) -> None:
    """Print the table of sizes, accuracy and times, or with `--json` export.json."""
    check_flags(flags, set(EXPORT_FLAGS), "export")
    if len(positional) != 1:
        got = f", but got {len(positional)}: {' '.join(positional)}" if positional else ""
        raise ConfigError(f"hftl export needs one run, model folder or Hub id{got}, such as: hftl export runs/mine")
    as_json = is_on(flags, "json")
    options: dict[str, Any] = {name: flags[name] for name in ("format", "output_dir", "data") if name in flags}
    for switch in ("int8", "overwrite"):
        options[switch] = is_on(flags, switch)
    if "max_drop" in flags:
        if not options["int8"]:
            raise ConfigError("--max_drop is for --int8: the fp32 export must equal the model.")
        options["max_drop"] = _share(flags["max_drop"])
    import datasets

    from hftl.export import export
    from hftl.export.timing import HEADER, table_rows
    from hftl.report.table import print_table

    quiet_libraries()
    if hide_bars():
        datasets.disable_progress_bars()
    with contextlib.redirect_stdout(sys.stderr):
        report = export(positional[0], **options)
    values = report.values
    if as_json:
        sys.stdout.write(json.dumps({**values, "output_dir": str(report.output_dir)}, ensure_ascii=False) + "\n")
        return
    threads, parity = values["latency"]["threads"], values["parity"]
    title = (
        f"{values['model']['name']}: {threads} thread{'s' * (threads > 1)}, time by batch size, accuracy on validation"
    )
    print_table(title, HEADER, table_rows(values), stdout=True)
    sys.stdout.write(
        f"predict.py gives the labels of the PyTorch model on {parity['rows']} rows ({parity['origin']}); probabilities "
        f"differ by at most {parity['max_difference']:.1g}.\n"
    )
    example = '"a text"' if values["task"] == "text-classification" else "image.png"
    sys.stdout.write(f"Try it: python {report.output_dir / 'predict.py'} {example}\n")


def _share(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ConfigError(f"--max_drop {value} is not a share of accuracy, such as 0.01 for one point.") from None
