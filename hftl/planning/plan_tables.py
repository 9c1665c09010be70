"""The report of `hftl plan` as tables on the terminal."""

from collections.abc import Iterator, Sequence
from typing import Any

from hftl.methods.policy import duration
from hftl.report.table import print_table
from hftl.selection.race_plan import race_table


_Table = tuple[str, Sequence[str], Sequence[Sequence[object]]]  # title, header, rows


def show_plan_report(report: dict[str, Any]) -> None:
    """Print what `plan_report` returned, as tables on stdout."""
    for title, header, rows in [
        *_data_tables(report),
        *_stage_tables(report),
        *_memory_tables(report["memory"]),
        *([race_table(report["race"])] if report["race"] else []),
        _time_table(report["time"]),
        *_advice_tables(report["recommendation"]),
        *(_note("Note", note) for note in report["notes"]),
    ]:
        print_table(title, header, rows, stdout=True)


def _note(title: str, text: str) -> _Table:
    return title, ("",), [(text,)]


def _data_tables(report: dict[str, Any]) -> Iterator[_Table]:
    data, tokens, images = report["data"], report.get("tokens"), report.get("images")
    origins = [(part, n, data["origins"].get(part, "")) for part, n in data["rows"].items()]
    yield f"Data: {data['name']}", ("split", "rows", "origin"), origins
    yield "Labels", ("id", "label", "rows in train"), [tuple(label.values()) for label in data["labels"]]
    if tokens:
        title = (
            f"Tokens: {tokens['min']} to {tokens['max']}, median {tokens['median']:g}, 95% up to {tokens['p95']:g}; "
            f"max_seq_length {tokens['max_seq_length']}, {tokens['truncated_share']:.1%} of the texts are cut"
        )
        yield title, ("tokens", "texts"), [(f"{b['from']} to {b['to']}", b["texts"]) for b in tokens["histogram"]]
    if images:
        modes = ", ".join(f"{mode} {n}" for mode, n in images["modes"].items())
        title = f"Images ({images['sampled']} looked at): modes {modes}; read at {images['image_size']} pixels a side"
        yield title, ("size", "images"), [(f"{s['width']} x {s['height']}", s["images"]) for s in images["sizes"]]


def _stage_tables(report: dict[str, Any]) -> Iterator[_Table]:
    stages, model, method = report["stages"], report["model"], report["method"]
    title = f"Stages of {method} on {model['name']} ({model['architecture']}, {model['parameters']:,} parameters)"
    rows: list[Sequence[object]] = []
    for s in stages:
        count, share, epochs = f"{s['trainable_parameters']:,}", f"{s['share']:.2%}", f"{s['epochs']:g}"
        rates = [f"{rate:.1e}" for rate in sorted(s["learning_rates"].values())] or ["closed form"]
        span = " to ".join(dict.fromkeys((rates[0], rates[-1])))
        rows.append((s["name"], s["learns"], count, share, span, epochs, s["steps"], s["reads"]))
    yield title, ("stage", "learns", "parameters", "of all", "learning rate", "epochs", "steps", "reads"), rows
    groups = [(s["name"], group, f"{rate:.2e}") for s in stages for group, rate in s["learning_rates"].items()]
    if groups:
        yield "Learning rates", ("stage", "group", "rate"), groups


def _memory_tables(memory: dict[str, Any]) -> Iterator[_Table]:
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
    yield f"Memory of the stage {memory['stage']!r} (estimate)", ("", "size"), rows
    if not memory["fits"]:
        yield _note("It will not fit", memory["fix"])


def _size(value: float | None) -> str:
    if value is None:
        return "unknown"
    units = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
    return next((f"{value / size:.1f} {unit}" for size, unit in units if value >= size), f"{value:.0f} B")


def _time_table(times: dict[str, Any]) -> _Table:
    origins = ", ".join(f"{part} {how}" for part, how in times["features"].items())
    rows: list[tuple[str, object, str, float | None]] = [
        (f"frozen features ({origins})", "", "", times["features_seconds"]),
        ("the probe's regression", "", "", times["regression_seconds"]),
        ("states of frozen layers", "", "", times["states_seconds"]),
    ]
    for stage in times["stages"]:
        if stage["steps"]:
            step = duration(stage["seconds_per_step"])
            rows.append((f"train: {stage['name']}", stage["steps"], step, stage["train_seconds"]))
            rows.append((f"validate: {stage['name']}", "", "", stage["evaluation_seconds"]))
    seeds = "" if times["seeds"] == 1 else f"{times['seeds']} seeds "
    if "race_seconds" in times:
        rows.append(("the race, at most", "", "", times["race_seconds"]))
    rows.append(("predict validation and test", "", "", times["prediction_seconds"]))
    rows.append((f"{seeds}in all", "", "", times["total_seconds"]))
    table = [(part, steps, step, duration(took)) for part, steps, step, took in rows]
    return f"Time. {times['note']}", ("part", "steps", "a step", "about"), table


def _advice_tables(advice: dict[str, Any]) -> Iterator[_Table]:
    figures = advice["comparison"]
    if figures:
        accuracies = {"probe": figures["probe_accuracy"], figures["baseline"]: figures["baseline_accuracy"]}
        rows = [(name, f"{accuracy:.3f}") for name, accuracy in accuracies.items()]
        yield f"3-fold cross-validation on {figures['rows']} training rows", ("model", advice["score"]), rows
    yield _note(f"Recommended: {advice['method']}", advice["reason"])
