"""`hftl predict` and `hftl eval`: labels for new rows, and scores on labelled ones."""

import json
from typing import Any

from hftl.errors import ConfigError
from hftl.flags import Flags, check_flags, is_on
from hftl.progress import quiet_libraries


_DATA = {
    "data": "file, folder, sample:<name> or Hub id",
    "text_column": "column with the text",
    "image_column": "column with the image",
    "revision": "branch, tag or commit of a Hub model",
    "strict": "a broken image is an error",
}
_JSON = {"json": "print one JSON document and nothing else on stdout"}
PREDICT_FLAGS = _DATA | {"output": "CSV to write: the input's columns plus prediction and probability"} | _JSON
EVAL_FLAGS = _DATA | {"label_column": "column with the label"} | _JSON


def predict_verb(positional: list[str], flags: Flags) -> None:
    """Print a label and its probability per input, or write the CSV of `--output`."""
    if not positional:
        raise ConfigError('hftl predict needs a RUN or model, such as: hftl predict runs/tickets "my card was stolen"')
    check_flags(flags, set(PREDICT_FLAGS), "predict")
    if bool(positional[1:]) == ("data" in flags):
        raise ConfigError("hftl predict needs either texts (or image paths) as arguments, or --data new.csv.")
    as_json = is_on(flags, "json")
    from hftl.predict_file import answers_for, load_predictor, predict_data

    quiet_libraries()
    predictor = load_predictor(positional[0], flags.get("revision"))
    if "data" in flags:
        rows = predict_data(predictor, flags)
        if as_json:
            print_json(rows)
        elif "output" not in flags:
            for row in rows:
                print(f"{row['prediction']}\t{row['probability']:.4f}")
        return
    rows = answers_for(predictor, positional[1:])
    if as_json:
        print_json(rows)
        return
    for row in rows:
        print(f"{row['prediction']}\t{row['probability']:.4f}\t{row['input']}")


def eval_verb(positional: list[str], flags: Flags) -> None:
    """Print the metrics of a model on labelled rows, with their intervals."""
    check_flags(flags, set(EVAL_FLAGS), "eval")
    if len(positional) != 1 or "data" not in flags:
        raise ConfigError("hftl eval needs a RUN and --data, such as: hftl eval runs/tickets --data test.csv")
    as_json = is_on(flags, "json")
    from hftl.predict_file import evaluate_data

    quiet_libraries()
    scores = evaluate_data(positional[0], flags)
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


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    print(json.dumps(value, ensure_ascii=False, default=str))
