"""What a run's evidence says about where its model is weak or unproven: for the card and for the demo."""

from collections.abc import Mapping
from typing import Any

from hftl.report.statements import Statement, counted, headline_of, output_of, percent, scales_of
from hftl.tasks import task_of


LOCAL = "local data"  # what a public report says instead of a file's name
WEAKEST = 3  # classes, slices and confusions that are named
FEW_ROWS = 30  # test rows of a class below which its figures say little: the half-width of 95% is 18 points
SMALL_TEST = 200  # test rows below which an accuracy is known to 7 points at best
_FINDINGS = {  # check of the doctor -> what its count counts
    "missing_values": "rows without an input or a label",
    "empty_or_truncated_texts": "texts that are empty or look cut off",
    "broken_images": "images that could not be read",
    "tiny_or_odd_images": "images of an unusual size or kind",
    "file_groups": "images whose group, by their file names, is in several splits, which flatters the test",
    "exact_duplicates": "rows that repeat another of their split",
    "cross_split_duplicates": "rows of validation or test that an earlier split holds too, which flatters the test",
    "near_duplicates": "rows that are nearly the same as another",
    "conflicting_labels": "inputs with several labels",
    "similar_class_names": "spellings too many of one class",
    "missing_classes": "classes that a split lacks",
    "imbalance": "classes with less than a fifth of the rows of the largest",
    "too_few_rows": "classes with few training rows",
    "leaky_feature": "features that give the label away, such as a length",
}  # sorted_rows is left out: hftl shuffles


def counted_in(report: Mapping[str, Any]) -> list[str]:
    """Return what a confusion counts where that is not rows, as a list: "pixels"."""
    output = output_of(report)
    return [] if output.units is not None else [output.words["units"]]


def limits(report: Mapping[str, Any]) -> list[Statement]:
    """Return the limits of the model of a public report, a sentence each."""
    inputs = task_of(report).inputs
    data, evidence = report["data"], report.get("evidence") or {}
    rows = f"{inputs.called}s"
    origin = "its own data" if data["name"] == LOCAL else data["name"]
    classes, tests = len(data["labels"]), data["rows"]["test"]
    skipped, cut = data.get("skipped_count"), data.get("cut")
    found = [f for f in evidence.get("doctor") or [] if f["level"] in ("WARN", "FAIL") and f["count"]]
    findings = [f"{_FINDINGS[f['check']]} ({f['count']:,})" for f in found if f["check"] in _FINDINGS]
    return [
        Statement(output_of(report).words["always"].format(n=classes, rows=rows, row=inputs.noun)),
        Statement(f"The figures hold for {rows} like those of {{}}. It was not tested on other {rows}.", (origin,)),
        *([Statement(inputs.caveat)] if inputs.caveat else []),
        *_where(tests < SMALL_TEST, f"The test has only {tests:,} rows: read the intervals, not the figures alone."),
        *_weak_classes(report),
        *weak_slices(report, evidence),
        *(_where(cut, _cut(cut, inputs.called)) if cut else []),
        *_confusions(data["labels"], evidence, *counted_in(report)),
        *_where(skipped, f"{counted(skipped or 0, 'row', 'rows')} of the data could not be read and were left out."),
        *_where(findings, f"The check of the data found {'; '.join(findings)}."),
        Statement("Fairness towards groups of people was not examined. Do not let it decide about people on its own."),
    ]


def _where(there_is_one: Any, text: str, names: tuple[str, ...] = ()) -> list[Statement]:
    return [Statement(text, names)] if there_is_one else []


def _cut(cut: Mapping[str, int], kind: str) -> str:
    share = percent(cut["rows"] / cut["of"])
    return (
        f"It reads the first {cut['tokens']} tokens of a {kind} and nothing after them; {share} of the {kind}s for training and "
        "validation are that long or longer."
    )


def _weak_classes(report: Mapping[str, Any]) -> list[Statement]:
    classes, words = report.get("per_class") or [], output_of(report).words
    tested = [c for c in classes if c["support"]]
    mean = sum(c["f1"] for c in tested) / max(len(tested), 1)
    weak = sorted((c for c in tested if c["f1"] < mean), key=lambda c: (c["f1"], -c["support"]))[:WEAKEST]
    figures = ", ".join(f"{{}} (F1 {percent(c['f1'])}, {c['support']:,} test {words['units']})" for c in weak)
    few = sorted((c for c in tested if c["support"] < FEW_ROWS), key=lambda c: c["support"])
    counts = ", ".join(f"{{}} ({c['support']})" for c in few[:WEAKEST])
    more = f" and {len(few) - WEAKEST} more" if len(few) > WEAKEST else ""
    small = f"Fewer than {FEW_ROWS} test {words['units']}, so their figures are uncertain: {counts}{more}."
    untested, name, names = len(classes) - len(tested), words["name"], words["names"]
    unit = words["units"].removesuffix("s")
    return [
        *_where(weak, f"The {names} with the lowest F1: {figures}.", tuple(c["label"] for c in weak)),
        *_where(few, small, tuple(c["label"] for c in few[:WEAKEST])),
        *_where(untested, f"{counted(untested, f'{name} has', f'{names} have')} no test {unit} at all."),
    ]


def weak_slices(report: Mapping[str, Any], evidence: Mapping[str, Any]) -> list[Statement]:
    """Return a sentence for each of the slices that are worse than the rest by more than chance, the worst first."""
    score = headline_of(report)
    scale = scales_of(report)[score]
    weak = sorted((s for s in evidence.get("slices") or [] if s["weak"]), key=lambda s: s[score]["value"])[:WEAKEST]
    values = [f"{scale.name} {scale.value(s[score]['value'])} on {s['count']:,} test rows" for s in weak]
    names = [(s["by"], s["slice"]) for s in weak]
    return [Statement(f"Weaker than overall by {{}}, {{}}: {v}.", n) for v, n in zip(values, names, strict=True)]


def _confusions(labels: list[str], evidence: Mapping[str, Any], of: str = "") -> list[Statement]:
    cells = [c for c in evidence.get("confusion") or [] if c[0] != c[1] and c[2] > 1]
    worst = sorted(cells, key=lambda c: -c[2])[:WEAKEST]
    pairs = ", ".join(f"{{}} taken for {{}} ({f'{count:,} {of}'.strip()})" for _, _, count in worst)
    names = tuple(labels[i] for true, guess, _ in worst for i in (true, guess))
    return _where(worst, f"The most frequent mistakes in the test: {pairs}.", names)
