"""The plan as tables on stdout."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from hftl.planning.recommend import duration
from hftl.report.table import print_table


_print = partial(print_table, stdout=True)


def show_plan_report(report: dict[str, Any]) -> None:
    """Print what `plan_report` returned."""
    _data(report["data"])
    if "tokens" in report:
        _tokens(report["tokens"])
    else:
        _images(report["images"])
    _stages(report)
    _memory(report["memory"])
    _time(report["time"])
    _recommendation(report["recommendation"])
    for note in report["notes"]:
        _line("Note", note)


def _line(title: str, text: str) -> None:
    _print(title, ("",), [(text,)])


def _data(data: dict[str, Any]) -> None:
    rows = [(part, n, data["origins"].get(part, "")) for part, n in data["rows"].items()]
    _print(f"Data: {data['name']}", ("split", "rows", "origin"), rows)
    _print("Labels", ("id", "label", "rows in train"), [tuple(label.values()) for label in data["labels"]])


def _tokens(tokens: dict[str, Any]) -> None:
    title = (
        f"Tokens: {tokens['min']} to {tokens['max']}, median {tokens['median']:g}, 95% up to {tokens['p95']:g}; "
        f"max_seq_length {tokens['max_seq_length']}, {tokens['truncated_share']:.1%} of the texts are cut"
    )
    _print(title, ("tokens", "texts"), [(f"{b['from']} to {b['to']}", b["texts"]) for b in tokens["histogram"]])


def _images(images: dict[str, Any]) -> None:
    modes = ", ".join(f"{mode} {n}" for mode, n in images["modes"].items())
    title = f"Images ({images['sampled']} looked at): modes {modes}; read at {images['image_size']} pixels a side"
    _print(title, ("size", "images"), [(f"{s['width']} x {s['height']}", s["images"]) for s in images["sizes"]])


def _stages(report: dict[str, Any]) -> None:
    rows: list[Sequence[object]] = []
    for stage in report["stages"]:
        count, share = f"{stage['trainable_parameters']:,}", f"{stage['share']:.2%}"
        rates, epochs = _rates(stage["learning_rates"]), f"{stage['epochs']:g}"
        rows.append((stage["name"], stage["learns"], count, share, rates, epochs, stage["steps"], stage["reads"]))
    model = report["model"]
    title = f"Stages of {report['method']} on {model['name']} ({model['architecture']}, {model['parameters']:,} parameters)"
    _print(title, ("stage", "learns", "parameters", "of all", "learning rate", "epochs", "steps", "reads"), rows)
    groups = [
        (s["name"], group, f"{rate:.2e}") for s in report["stages"] for group, rate in s["learning_rates"].items()
    ]
    if groups:
        _print("Learning rates", ("stage", "group", "rate"), groups)


def _rates(rates: dict[str, float]) -> str:
    if not rates:
        return "closed form"
    low, high = min(rates.values()), max(rates.values())
    return f"{low:.1e}" if low == high else f"{low:.1e} to {high:.1e}"


def _memory(memory: dict[str, Any]) -> None:
    machine, cache, batch = memory["machine"], memory["cache"], memory["batch_rows"]
    activations = memory["activations_bytes"] or {"typical": None, "longest": None}
    sizes = {"weights": memory["weights_bytes"]}
    if batch:
        sizes["copy of the weights, to start a stage again"] = memory["restart_copy_bytes"]
        sizes["gradients"] = memory["gradients_bytes"]
        sizes[f"optimizer ({memory['optimizer']})"] = memory["optimizer_bytes"]
        sizes[f"activations, {batch} typical rows"] = activations["typical"]
        sizes[f"activations, {batch} longest rows"] = activations["longest"]
    sizes["in all"] = memory["total_bytes"]
    sizes["free in this machine"] = machine["memory_free_bytes"]
    if machine["gpu"]:
        sizes[f"free on {machine['gpu']['name']}"] = machine["gpu"]["free_bytes"]
    sizes["features on disk"] = cache["features_bytes"]
    sizes["states of frozen layers on disk"] = cache["states_bytes"]
    sizes["free on disk"] = machine["disk_free_bytes"]
    rows = [*((name, _size(value)) for name, value in sizes.items()), ("fits", "yes" if memory["fits"] else "NO")]
    _print(f"Memory of the stage {memory['stage']!r} (estimate)", ("", "size"), rows)
    if not memory["fits"]:
        _line("It will not fit", memory["mend"])


def _size(value: float | None) -> str:
    if value is None:
        return "unknown"
    if value < 1024:
        return f"{value:.0f} B"
    unit, size = next((u, value / n) for u, n in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)) if value >= n)
    return f"{size:.1f} {unit}"


def _time(times: dict[str, Any]) -> None:
    origins = ", ".join(f"{part} {how}" for part, how in times["features"].items())
    rows: list[Sequence[object]] = [
        (f"frozen features ({origins})", "", "", duration(times["features_seconds"])),
        ("the probe's regression", "", "", duration(times["regression_seconds"])),
        ("states of frozen layers", "", "", duration(times["states_seconds"])),
    ]
    for stage in times["stages"]:
        if stage["steps"]:
            step, whole = duration(stage["seconds_per_step"]), duration(stage["train_seconds"])
            rows.append((f"train: {stage['name']}", stage["steps"], step, whole))
            rows.append((f"validate: {stage['name']}", "", "", duration(stage["evaluation_seconds"])))
    rows.append(("predict validation and test", "", "", duration(times["prediction_seconds"])))
    seeds = "" if times["seeds"] == 1 else f"{times['seeds']} seeds "
    rows.append((f"{seeds}in all", "", "", duration(times["total_seconds"])))
    _print(f"Time. {times['note']}", ("part", "steps", "a step", "about"), rows)


def _recommendation(advice: dict[str, Any]) -> None:
    figures = advice["comparison"]
    if figures:
        accuracies = {"probe": figures["probe_accuracy"], figures["baseline"]: figures["baseline_accuracy"]}
        rows = [(name, f"{accuracy:.3f}") for name, accuracy in accuracies.items()]
        _print(f"3-fold cross-validation on {figures['rows']} training rows", ("model", "accuracy"), rows)
    _line(f"Recommended: {advice['method']}", advice["reason"])
