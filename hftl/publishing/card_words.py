"""What a card says of a run in plain words: Markdown in which every name is escaped."""

import re
from typing import Any

from markupsafe import Markup

from hftl.publishing.card_markdown import code, md
from hftl.publishing.public_report import LOCAL
from hftl.report.words import interval, meaning, number, p_value, percent, points, retention, verdict_title


WEAKEST = 3  # classes and confusions that the limits name
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


def verdict(report: dict[str, Any]) -> dict[str, Any] | None:
    """Return `title` and `sentence` of the verdict; None where there is none. Advice is for who trained it, not here."""
    found = (report.get("evidence") or {}).get("verdict")
    if not found:
        return None
    look, title = verdict_title(found)
    bounds = f"95% interval {points(found['low'])} to {points(found['high'])}"
    chance = f"; McNemar's test: {p_value(found['p'])}" if found.get("p") is not None else ""
    sentence = (
        f"{points(found['gap'])} points of accuracy {'over' if look == 'good' else 'against'} {md(found['against'])}, the "
        f"best model here that learned from this data alone ({bounds}{chance}). "
        f"{md(meaning(found, report['data']['rows']['test']), 600)}"
    )
    return {"title": title, "sentence": Markup(sentence)}


def limits(report: dict[str, Any]) -> list[Markup]:
    """Return what the evidence says about where the model is weak or unproven, a sentence each."""
    text = report["task"] == "text-classification"
    labels, rows = report["data"]["labels"], report["data"]["rows"]
    inputs = "texts" if text else "images"
    found = [
        f"It always answers with one of its {len(labels)} classes, also for {inputs} that belong to none of them.",
        f"The figures hold for {inputs} like those of {_data(report['data']['name'])}. On {inputs} of other origin it was "
        "not tested.",
    ]
    if text:
        found.append("The languages of the texts were not recorded: expect nothing of others than those in the data.")
    if rows["test"] < SMALL_TEST:
        found.append(f"The test has only {rows['test']:,} rows: read the intervals, not the figures alone.")
    found += [*_weak_classes(report), *_weak_slices(report), *_cut_texts(report), *_confusions(report)]
    skipped = report["data"].get("skipped_count") or 0
    if skipped:
        found.append(f"{counted(skipped, 'image', 'images')} of the data could not be read and were left out.")
    findings = _findings(report)
    if findings:
        found.append(f"The check of the data found {'; '.join(findings)}.")
    found.append("Fairness to groups of people was not examined. Do not let it decide about people by itself.")
    return [Markup(sentence) for sentence in found]


def counted(count: int, one: str, many: str) -> str:
    """Return "1 row" or "2,000 rows"."""
    return f"{count:,} {one if count == 1 else many}"


def _weak_classes(report: dict[str, Any]) -> list[str]:
    classes = report.get("per_class") or []
    tested = [c for c in classes if c["support"]]
    overall = report["metrics"]["test"]["macro_f1"]["value"]
    weak = sorted((c for c in tested if c["f1"] < overall), key=lambda c: (c["f1"], -c["support"]))[:WEAKEST]
    found = []
    if weak and len(tested) > 1:
        named = ", ".join(f"{md(c['label'])} (F1 {percent(c['f1'])}, {_tests(c['support'])})" for c in weak)
        found.append(f"{'The weakest class is' if len(weak) == 1 else 'The weakest classes are'} {named}.")
    few = sorted((c for c in tested if c["support"] < FEW_ROWS), key=lambda c: c["support"])
    if few:
        named = ", ".join(f"{md(c['label'])} ({c['support']})" for c in few[:WEAKEST])
        more = f" and {len(few) - WEAKEST} more" if len(few) > WEAKEST else ""
        found.append(f"Fewer than {FEW_ROWS} test rows, hence uncertain figures: {named}{more}.")
    untested = len(classes) - len(tested)
    if untested:
        found.append(f"{counted(untested, 'class has', 'classes have')} no test row at all.")
    return found


def _tests(support: int) -> str:
    return counted(support, "test row", "test rows")


def _weak_slices(report: dict[str, Any]) -> list[str]:
    weak = [s for s in (report.get("evidence") or {}).get("slices") or [] if s["weak"]]
    return [
        f"Weaker than overall by {md(s['by'])}, {md(s['slice'])}: right in {percent(s['accuracy']['value'])} of "
        f"{_tests(s['count'])}."
        for s in weak[:WEAKEST]
    ]


def _cut_texts(report: dict[str, Any]) -> list[str]:
    found = [_CUT.fullmatch(str(note)) for note in report.get("warnings") or []]
    return [
        f"It reads the first {m[4]} tokens of a text; {m[3]} of the texts of training and validation are that long or "
        "longer, and what follows is not seen."
        for m in found
        if m
    ]


def _confusions(report: dict[str, Any]) -> list[str]:
    labels = report["data"]["labels"]
    cells = [c for c in (report.get("evidence") or {}).get("confusion") or [] if c[0] != c[1] and c[2] > 1]
    worst = sorted(cells, key=lambda c: -c[2])[:WEAKEST]
    if not worst:
        return []
    named = ", ".join(f"{md(labels[true])} taken for {md(labels[guess])} ({n:,})" for true, guess, n in worst)
    return [f"The most frequent mistakes in the test: {named}."]


def _findings(report: dict[str, Any]) -> list[str]:
    found = (report.get("evidence") or {}).get("doctor") or []
    return [
        counted(int(f["count"]), *_FINDINGS[f["check"]])
        for f in found
        if f["level"] in ("WARN", "FAIL") and f["check"] in _FINDINGS and f["count"]
    ]


def certainty(report: dict[str, Any]) -> list[Markup]:
    """Return what is known of its confidences, and from which one on to trust it."""
    evidence = report.get("evidence") or {}
    found = []
    calibration = evidence.get("calibration")
    if calibration:
        found.append(_calibration(calibration))
    held = evidence.get("abstain")
    if held:
        found.append(_threshold(held))
    return [Markup(sentence) for sentence in found]


def _calibration(found: dict[str, Any]) -> str:
    after, before, temperature = found["after"], found["before"], found["temperature"]
    bounds = ""
    if after.get("ece_low") is not None:
        chance = f"; chance alone: {number(after['ece_if_calibrated'])}" if after.get("ece_if_calibrated") else ""
        bounds = f" (95% interval {number(after['ece_low'])} to {number(after['ece_high'])}{chance})"
    said = f"Expected calibration error, its mean gap to the share of right answers: {number(after['ece'])}{bounds}"
    if temperature == 1:
        return f"{said}; no temperature was needed."
    return (
        f"{said}; {number(before['ece'])} before a temperature of {number(temperature, 2)} was folded into the head. Plain "
        "`pipeline` gives the corrected probabilities."
    )


def _threshold(held: dict[str, Any]) -> str:
    target, right = percent(held["precision"], 0), held.get("test_precision")
    if held.get("threshold") is None:
        return f"No confidence reached the target of {target} right answers on the validation rows: check its answers."
    least = percent(held["threshold"])
    if right is None:
        return f"No test row was answered with a confidence of {least} or more, the threshold for {target} right."
    if held.get("coverage") == 1:
        return (
            f"No threshold is needed for {target} right answers: all test rows were answered, {percent(right['value'])} of "
            f"them right (95% interval {interval(right)})."
        )
    return (
        f"Answers with a confidence of **{least}** or more were right in {percent(right['value'])} of the test rows (95% "
        f"interval {interval(right)}; target: {target}). They are {percent(held.get('coverage'))} of all; treat the "
        'others as "not sure".'
    )


def forgetting(report: dict[str, Any]) -> list[Markup]:
    """Return what became of the base model's own ability."""
    found = (report.get("evidence") or {}).get("forgetting")
    if not found:
        return []
    if found.get("unchanged"):
        return [Markup("All of them: the layers of the base model did not change.")]
    said = []
    if found.get("kept") is not None:
        bounds = f", 95% interval {interval(found)}" if found.get("low") is not None else ""
        rows = f"{found['rows']:,} rows, " if found.get("rows") else ""
        said.append(
            f"**{percent(found['kept'])} of the base model's features can still be read** ({rows}"
            f"{md(retention(found))}{bounds})."
        )
    probe = found.get("probe")
    if probe:
        said.append(
            f"A linear classifier on its features goes from {percent(probe['before'])} to {percent(probe['after'])} right."
        )
    if found.get("knn_agreement") is not None:
        said.append(f"Of the nearest neighbours {percent(found['knn_agreement'])} stayed the same.")
    head = found.get("original_head")
    if head:
        said.append(
            f"The loss of the base's original head ({md(head['kind'])}) goes from {number(head['loss_before'])} to "
            f"{number(head['loss_after'])}."
        )
    if found.get("note"):
        said.append(str(md(found["note"], 600)))
    return [Markup(sentence) for sentence in said]


def parity(report: dict[str, Any]) -> list[Markup]:
    """Return a sentence for each artifact that was loaded in a fresh process without hftl and compared."""
    names = {"final": "The saved model", "hub": "The published model, downloaded again,", "onnx": "The ONNX export"}
    said = []
    for where, found in (report.get("parity") or {}).items():
        if isinstance(found, dict) and found.get("labels_equal") and found.get("max_difference") is not None:
            rows = f"{int(found['rows']):,} {'rows' if found['rows'] != 1 else 'row'}"
            said.append(
                f"{names.get(where, md(where))} was loaded in a fresh process without hftl and compared with the model "
                f"in training on {rows} ({md(found.get('origin') or 'origin unknown')}): the same labels, "
                f"probabilities apart by at most {found['max_difference']:.1g}."
            )
    return [Markup(sentence) for sentence in said]


def _data(name: str) -> Markup:
    """The data's name as code; a file of the machine has none in public."""
    return Markup("its own data") if name == LOCAL else code(name)
