"""The plan as tables on stdout."""

from typing import Any

from hftl.report.table import print_table


def show_plan_report(report: dict[str, Any]) -> None:
    """Print what `plan_report` found out."""
    _data(report)
    _inputs(report)
    _stages(report)
    _memory(report["memory"])
    _time(report["time"])
    _recommendation(report["recommendation"])
    for note in report["notes"]:
        print_table("Note", ("",), [(note,)], stdout=True)


def _data(report: dict[str, Any]) -> None:
    data = report["data"]
    rows = [(part, n, data["origins"].get(part, "")) for part, n in data["rows"].items()]
    print_table(f"Data: {data['name']}", ("split", "rows", "origin"), rows, stdout=True)
    labels = [(entry["id"], entry["label"], entry["train_rows"]) for entry in data["labels"]]
    print_table("Labels", ("id", "label", "rows in train"), labels, stdout=True)


def _inputs(report: dict[str, Any]) -> None:
    if "tokens" in report:
        tokens = report["tokens"]
        rows = [(f"{b['from']} to {b['to']}", b["texts"]) for b in tokens["histogram"]]
        title = (
            f"Tokens: {tokens['min']} to {tokens['max']}, median {tokens['median']:g}, 95% up to {tokens['p95']:g}; "
            f"max_seq_length {tokens['max_seq_length']}, {tokens['truncated_share']:.1%} of the texts are cut"
        )
        print_table(title, ("tokens", "texts"), rows, stdout=True)
        return
    images = report["images"]
    rows = [(f"{s['width']} x {s['height']}", s["images"]) for s in images["sizes"]]
    modes = ", ".join(f"{mode} {n}" for mode, n in images["modes"].items())
    title = f"Images ({images['sampled']} looked at): modes {modes}; read at {images['image_size']} pixels a side"
    print_table(title, ("size", "images"), rows, stdout=True)


def _stages(report: dict[str, Any]) -> None:
    rows = [
        (
            stage["name"], stage["learns"], f"{stage['trainable_parameters']:,}", f"{stage['share']:.2%}",
            _rates(stage["learning_rates"]), f"{stage['epochs']:g}", stage["steps"], stage["reads"],
        )
        for stage in report["stages"]
    ]  # fmt: skip
    model = report["model"]
    title = f"Stages of {report['method']} on {model['name']} ({model['architecture']}, {model['parameters']:,} parameters)"
    header = ("stage", "learns", "parameters", "of all", "learning rate", "epochs", "steps", "reads")
    print_table(title, header, rows, stdout=True)
    grouped = [(s["name"], g, f"{r:.2e}") for s in report["stages"] for g, r in s["learning_rates"].items()]
    if grouped:
        print_table("Learning rates", ("stage", "group", "rate"), grouped, stdout=True)


def _rates(rates: dict[str, float]) -> str:
    if not rates:
        return "closed form"
    low, high = min(rates.values()), max(rates.values())
    return f"{low:.1e}" if low == high else f"{low:.1e} to {high:.1e}"


def _memory(memory: dict[str, Any]) -> None:
    machine = memory["machine"]
    rows = [
        ("weights", _bytes(memory["weights_bytes"])),
        *(_learning(memory) if memory["batch_rows"] else []),
        ("in all", _bytes(memory["total_bytes"])),
        ("free in this machine", _bytes(machine["memory_free_bytes"])),
        *([(f"free on {machine['gpu']['name']}", _bytes(machine["gpu"]["free_bytes"]))] if machine["gpu"] else []),
        ("features on disk", _bytes(memory["cache"]["features_bytes"])),
        ("states of frozen layers on disk", _bytes(memory["cache"]["states_bytes"])),
        ("free on disk", _bytes(machine["disk_free_bytes"])),
    ]
    rows.append(("fits", {True: "yes", False: "NO", None: "unknown"}[memory["fits"]]))
    print_table(f"Memory of the stage {memory['stage']!r} (estimate)", ("", "size"), rows, stdout=True)
    if memory["fits"] is None:
        print_table("Does it fit?", ("",), [("Unknown: the optimizer's states are not counted.",)], stdout=True)
    elif not memory["fits"]:
        print_table("It will not fit", ("",), [(memory["mend"],)], stdout=True)


def _learning(memory: dict[str, Any]) -> list[tuple[str, str]]:
    activations = memory["activations_bytes"]
    return [
        ("copy of the weights, to start a stage again", _bytes(memory["restart_copy_bytes"])),
        ("gradients", _bytes(memory["gradients_bytes"])),
        (f"optimizer ({memory['optimizer']})", _bytes(memory["optimizer_bytes"])),
        (f"activations, {memory['batch_rows']} typical rows", _bytes(activations and activations["typical"])),
        (f"activations, {memory['batch_rows']} longest rows", _bytes(activations and activations["longest"])),
    ]


def _bytes(value: int | None) -> str:
    if value is None:
        return "unknown"
    size, unit = float(value), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def _time(times: dict[str, Any]) -> None:
    found = ", ".join(f"{part} {how}" for part, how in times["features"].items())
    rows = [(f"frozen features ({found})", "", "", _seconds(times["features_seconds"]))]
    rows.append(("the probe's regression", "", "", _seconds(times["regression_seconds"])))
    rows.append(("states of frozen layers", "", "", _seconds(times["states_seconds"])))
    for stage in times["stages"]:
        if stage["steps"]:
            each = _seconds(stage["seconds_per_step"])
            rows.append((f"train: {stage['name']}", stage["steps"], each, _seconds(stage["train_seconds"])))
            rows.append((f"validate: {stage['name']}", "", "", _seconds(stage["evaluation_seconds"])))
    rows.append(("predict validation and test", "", "", _seconds(times["prediction_seconds"])))
    rows.append(
        (
            "in all" if times["seeds"] == 1 else f"{times['seeds']} seeds in all",
            "",
            "",
            _seconds(times["total_seconds"]),
        )
    )
    print_table(f"Time. {times['note']}", ("part", "steps", "a step", "about"), rows, stdout=True)


def _seconds(value: float | None) -> str:
    if value is None:
        return "unknown"
    if value < 90:
        return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 5400 else f"{value / 3600:.1f} h"


def _recommendation(found: dict[str, Any]) -> None:
    compared = found["comparison"]
    if compared:
        rows = [
            ("probe", f"{compared['probe_accuracy']:.3f}"),
            (compared["baseline"], f"{compared['baseline_accuracy']:.3f}"),
        ]
        title = f"3-fold cross-validation on {compared['rows']} training rows"
        print_table(title, ("model", "accuracy"), rows, stdout=True)
    print_table(f"Recommended: {found['method']}", ("",), [(found["reason"],)], stdout=True)
