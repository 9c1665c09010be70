"""What a run's evidence says about where its model is weak or unproven: for the card and for the demo."""

import re
from collections.abc import Mapping
from typing import Any

from hftl.report.statements import Statement, counted, percent


LOCAL = "local data"  # what a public report says instead of a file's name
WEAKEST = 3  # classes, slices and confusions that are named
FEW_ROWS = 30  # test rows of a class below which its figures say little: the half-width of 95% is 18 points
SMALL_TEST = 200  # test rows below which an accuracy is known to 7 points at best
_CUT = re.compile(r"(\d+) of (\d+) texts \(([\d.]+%)\) reach or pass (\d+) tokens and are cut there\.")
_FINDINGS = {  # check of the doctor -> what its count counts, of one and of several
    "missing_values": ("row without an input or a label", "rows without an input or a label"),
    "empty_or_truncated_texts": ("text that is empty or seems cut off", "texts that are empty or seem cut off"),
    "broken_images": ("image that could not be read", "images that could not be read"),
    "tiny_or_odd_images": ("image of an unusual size or kind", "images of an unusual size or kind"),
    "exact_duplicates": ("row that repeats another of its split", "rows that repeat another of their split"),
    "cross_split_duplicates": (
        "row of validation or test that an earlier split holds too, so that the test figures may be too good",
        "rows of validation or test that an earlier split holds too, so that the test figures may be too good",
    ),
    "near_duplicates": ("row that is nearly the same as another", "rows that are nearly the same as another"),
    "conflicting_labels": ("input with several labels", "inputs with several labels"),
    "similar_class_names": ("spelling too many of one class", "spellings too many of one class"),
    "missing_classes": ("class that a split lacks", "classes that a split lacks"),
    "imbalance": (
        "class with less than a fifth of the rows of the largest",
        "classes with less than a fifth of the rows of the largest",
    ),
    "too_few_rows": ("class with few training rows", "classes with few training rows"),
    "leaky_feature": (
        "feature that tells the label by itself, such as a length or a file name",
        "features that tell the label by themselves, such as a length or a file name",
    ),
}  # sorted_rows is left out: hftl shuffles


def limits(report: Mapping[str, Any]) -> list[Statement]:
    """Return the limits of the model of a public report, a sentence each."""
    text = report["task"] == "text-classification"
    data, evidence = report["data"], report.get("evidence") or {}
    inputs = "texts" if text else "images"
    origin = ("its own data",) if data["name"] == LOCAL else (data["name"],)
    skipped = data.get("skipped_count") or 0
    findings = [
        counted(int(f["count"]), *_FINDINGS[f["check"]])
        for f in evidence.get("doctor") or []
        if f["level"] in ("WARN", "FAIL") and f["check"] in _FINDINGS and f["count"]
    ]
    always = f"It always answers with one of its {len(data['labels'])} classes, also for {inputs} that belong to none of them."
    few = f"The test has only {data['rows']['test']:,} rows: read the intervals, not the figures alone."
    languages = "The languages of the texts were not recorded: expect nothing of others than those in the data."
    return [
        Statement(always),
        Statement(
            f"The figures hold for {inputs} like those of {{}}. On {inputs} of other origin it was not tested.", origin
        ),
        *([Statement(languages)] if text else []),
        *([Statement(few)] if data["rows"]["test"] < SMALL_TEST else []),
        *_weak_classes(report),
        *_weak_slices(evidence),
        *_cut_texts(report),
        *_confusions(data["labels"], evidence),
        *(
            [Statement(f"{counted(skipped, 'image', 'images')} of the data could not be read and were left out.")]
            if skipped
            else []
        ),
        *([Statement(f"The check of the data found {'; '.join(findings)}.")] if findings else []),
        Statement("Fairness to groups of people was not examined. Do not let it decide about people by itself."),
    ]


def _weak_classes(report: Mapping[str, Any]) -> list[Statement]:
    classes = report.get("per_class") or []
    tested = [c for c in classes if c["support"]]
    overall = report["metrics"]["test"]["macro_f1"]["value"]
    weak = sorted((c for c in tested if c["f1"] < overall), key=lambda c: (c["f1"], -c["support"]))[:WEAKEST]
    statements = []
    if weak and len(tested) > 1:
        figures = ", ".join(f"{{}} (F1 {percent(c['f1'])}, {_tests(c['support'])})" for c in weak)
        lead = "The weakest class is" if len(weak) == 1 else "The weakest classes are"
        statements.append(Statement(f"{lead} {figures}.", tuple(c["label"] for c in weak)))
    few = sorted((c for c in tested if c["support"] < FEW_ROWS), key=lambda c: c["support"])
    if few:
        figures = ", ".join(f"{{}} ({c['support']})" for c in few[:WEAKEST])
        more = f" and {len(few) - WEAKEST} more" if len(few) > WEAKEST else ""
        text = f"Fewer than {FEW_ROWS} test rows, hence uncertain figures: {figures}{more}."
        statements.append(Statement(text, tuple(c["label"] for c in few[:WEAKEST])))
    untested = len(classes) - len(tested)
    if untested:
        statements.append(Statement(f"{counted(untested, 'class has', 'classes have')} no test row at all."))
    return statements


def _tests(support: int) -> str:
    return counted(support, "test row", "test rows")


def _weak_slices(evidence: Mapping[str, Any]) -> list[Statement]:
    weak = [s for s in evidence.get("slices") or [] if s["weak"]][:WEAKEST]
    return [
        Statement(
            f"Weaker than overall by {{}}, {{}}: right in {percent(s['accuracy']['value'])} of {_tests(s['count'])}.",
            (s["by"], s["slice"]),
        )
        for s in weak
    ]


def _cut_texts(report: Mapping[str, Any]) -> list[Statement]:
    notes = [_CUT.fullmatch(str(note)) for note in report.get("warnings") or []]
    return [
        Statement(
            f"It reads the first {note[4]} tokens of a text; {note[3]} of the texts of training and validation are that "
            "long or longer, and what follows is not seen."
        )
        for note in notes
        if note
    ]


def _confusions(labels: list[str], evidence: Mapping[str, Any]) -> list[Statement]:
    cells = [c for c in evidence.get("confusion") or [] if c[0] != c[1] and c[2] > 1]
    worst = sorted(cells, key=lambda c: -c[2])[:WEAKEST]
    if not worst:
        return []
    pairs = ", ".join(f"{{}} taken for {{}} ({count:,})" for _, _, count in worst)
    names = tuple(labels[i] for true, guess, _ in worst for i in (true, guess))
    return [Statement(f"The most frequent mistakes in the test: {pairs}.", names)]
