"""Records as tools for annotation write them (Label Studio, doccano, Dataturks, spaCy): rows with spans or labels, and back."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hftl.data.columns import SPAN_NAMES


SPAN_KEYS = (
    ("start", "start_offset", "begin"),
    ("end", "end_offset"),
    ("label", "labels", "type", "tag", "entity_group", "entity"),
)


def plain_records(records: Any) -> Any:
    """Return records of JSON as rows: spans such as [0, 5, "PER"] are dicts, for a column holds values of one kind.

    Of several annotations that a task of Label Studio has, the first counts that was not cancelled; its choices are
    the label, a list where any task has several. What is no such record is returned as it is.
    """
    if not isinstance(records, list):
        return records
    rows = [_plain(record) for record in records]
    chosen = [row["label"] for row in rows if isinstance(row, _Chosen) and row["label"] is not None]
    if chosen and all(len(choices) == 1 for choices in chosen):
        rows = [
            {**row, "label": row["label"] and row["label"][0]} if isinstance(row, _Chosen) else row for row in rows
        ]
    return rows


class _Chosen(dict[str, Any]):
    """A row of Label Studio whose label is a list of choices."""


def _plain(record: Any) -> Any:
    if isinstance(record, list | tuple) and len(record) == 2 and isinstance(record[1], dict):  # of spaCy
        record = {"text": record[0], **record[1]}
    if not isinstance(record, dict):
        return record
    if _is_studio(record):
        return _of_label_studio(record["data"], record["annotations"])
    if _is_dataturks(record):
        return {key: value for key, value in record.items() if key != "annotation"} | {"entities": _pointed(record)}
    return {key: _dicts(value) if key in SPAN_NAMES else value for key, value in record.items()}


def _dicts(spans: Any) -> Any:
    if not isinstance(spans, list) or not any(isinstance(span, list | tuple) and len(span) == 3 for span in spans):
        return spans
    names = [keys[0] for keys in SPAN_KEYS]
    return [dict(zip(names, span, strict=False)) if isinstance(span, list | tuple) else span for span in spans]


def _of_label_studio(data: dict[str, Any], annotations: list[Any]) -> dict[str, Any]:
    """Return a task as a row, without label where nobody has done it."""
    done = _done(annotations)
    values = [one["value"] for one in _results(done)]
    row = {key: value for key, value in data.items() if isinstance(value, str | int | float)}
    choices = [choice for value in values for choice in value.get("choices") or ()]
    if choices:
        return _Chosen(row, label=choices)
    spans = [{key: value[key] for key in ("start", "end", "labels")} for value in values if value.get("labels")]
    return {**row, "entities": spans if done is not None else None}


def _is_studio(record: Any) -> bool:
    there = isinstance(record, dict) and isinstance(record.get("data"), dict)
    return there and isinstance(record.get("annotations"), list)


def _is_dataturks(record: Any) -> bool:
    marked = record.get("annotation") if isinstance(record, dict) else None
    return isinstance(marked, list) and all(isinstance(one, dict) and "points" in one for one in marked)


def _done(annotations: Sequence[Any]) -> dict[str, Any] | None:
    """Return the annotation of a task of Label Studio that counts."""
    return next((one for one in annotations if isinstance(one, dict) and not one.get("was_cancelled")), None)


def _results(annotation: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    results = (annotation.get("result") or []) if annotation else []
    return [one for one in results if isinstance(one, dict) and isinstance(one.get("value"), dict)]


def _pointed(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{**point, "label": one.get("label")} for one in record["annotation"] for point in one["points"]]


# ----------------------------------------------------------------------------------------------------- and back


def relabelled(record: Any, cells: Mapping[str, Any], others: Sequence[Any]) -> Any:
    """Return a record as its tool wrote it, with these values in columns of what `plain_records` makes of it.

    A span that stays is as it was; a new one is written as those of `others` are, the records of the file.

    Raises:
        ValueError: nothing says how the tool would write it.
    """
    if isinstance(record, list | tuple):  # of spaCy
        inner = relabelled(
            record[1], cells, [one[1] for one in others if isinstance(one, list | tuple) and len(one) == 2]
        )
        return [record[0], inner]
    if _is_studio(record):
        (value,) = cells.values()
        done = _done(record["annotations"])
        if done is None:
            raise ValueError("nobody has done this task")
        new = _chosen(done, value) if "label" in cells else _marked(record, done, value, others)
        return {**record, "annotations": [new if one is done else one for one in record["annotations"]]}
    if _is_dataturks(record):
        return {**record, "annotation": _with_points(record, cells["entities"], others)}
    spans = {name: value for name, value in cells.items() if _are_spans(value) and name in SPAN_NAMES}
    return {**record, **cells, **{name: _as_those(record, name, value, others) for name, value in spans.items()}}


def _are_spans(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _place(span: Any) -> tuple[Any, ...]:
    """Return start, end and label of a span, whatever form it has."""
    parts = span if isinstance(span, list | tuple) else [_first(span, keys) for keys in SPAN_KEYS]
    return tuple(part[0] if isinstance(part, list) and len(part) == 1 else part for part in parts)


def _first(span: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((span[key] for key in keys if span.get(key) is not None), None)


def _quoted(
    span: dict[str, Any], texts: Mapping[str, Any], others: Iterator[tuple[Any, Mapping[str, Any]]]
) -> dict[str, Any]:
    """Return a new span with the words that it marks, where other spans, each given with its texts, have theirs."""
    for other, around in others:
        said = other.get("text") if isinstance(other, dict) else None
        if not said or not isinstance(said, str):
            return span
        start, end, _ = _place(other)
        for key, text in around.items():
            if isinstance(text, str) and text[start : start + len(said)] == said and isinstance(texts.get(key), str):
                begin, stop, _ = _place(span)
                span = span | {"text": texts[key][begin : stop + len(said) - (end - start)]}
                return {name: span[name] for name in dict.fromkeys([*other, *span]) if name in span}
    return span


def _as_those(record: dict[str, Any], name: str, spans: list[Any], others: Sequence[Any]) -> list[Any]:
    """Return spans as the records of the file have theirs: as lists or as dicts."""
    there = [(span, one) for one in others if isinstance(one, dict) for span in one.get(name) or ()]
    had = {_place(span): span for span in record.get(name) or ()}
    in_lists = any(isinstance(span, list | tuple) for span, _ in there)
    new = []
    for span in spans:
        place = _place(span)
        plain = {key: value for key, value in span.items() if value is not None}
        new.append(had.get(place, [*place] if in_lists else _quoted(plain, record, iter(there))))
    return new


def _with_points(record: dict[str, Any], spans: list[Any], others: Sequence[Any]) -> list[Any]:
    there = [(point, one) for one in others if _is_dataturks(one) for point in _pointed(one)]
    in_lists = any(isinstance(point["label"], list) for point, _ in there)
    left = {_place(span): span for span in spans}
    entries = []
    for entry in record["annotation"]:
        points = [point for point in entry["points"] if left.pop(_place({**point, "label": entry.get("label")}), None)]
        entries += [{**entry, "points": points}] if points else []
    for (start, end, label), _ in left.items():
        point = _quoted({"start": start, "end": end}, record, iter(there))
        entries.append({"label": [label] if in_lists else label, "points": [point]})
    return entries


def _chosen(annotation: dict[str, Any], value: Any) -> dict[str, Any]:
    """Return an annotation of Label Studio with other choices."""
    choices = [one for one in _results(annotation) if one["value"].get("choices")]
    if len(choices) != 1:
        raise ValueError("choices of several kinds, or of none")
    new = {**choices[0], "value": {**choices[0]["value"], "choices": value if isinstance(value, list) else [value]}}
    return {**annotation, "result": [new if one is choices[0] else one for one in annotation["result"]]}


def _marked(
    record: dict[str, Any], annotation: dict[str, Any], spans: list[Any], others: Sequence[Any]
) -> dict[str, Any]:
    """Return an annotation of Label Studio with other spans."""
    every = [
        (one, task["data"]) for task in others if _is_studio(task) for one in _results(_done(task["annotations"]))
    ]
    there = [(one, data) for one, data in every if one["value"].get("labels")]
    if not there:
        raise ValueError("no span that shows how one is written")
    left = {_place(span): span for span in spans}
    results = [
        one
        for one in annotation.get("result") or []
        if not (one.get("value") or {}).get("labels") or left.pop(_place(one["value"]), None) is not None
    ]
    ids = {one.get("id") for one in annotation.get("result") or []}
    gone = ids - {one.get("id") for one in results}
    results = [one for one in results if not {one.get("from_id"), one.get("to_id")} & gone - {None}]
    like = {key: there[0][0].get(key) for key in ("from_name", "to_name", "type") if key in there[0][0]}
    for number, (start, end, label) in enumerate(left):
        value = _quoted(
            {"start": start, "end": end, "labels": [label]}, record["data"], ((o["value"], d) for o, d in there)
        )
        results.append({"id": f"hftl-{number}", **like, "value": value})
    return {**annotation, "result": results}
