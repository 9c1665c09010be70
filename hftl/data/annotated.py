"""Records as tools for annotation write them (Label Studio, doccano, Dataturks, spaCy): rows with spans or labels."""

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
    if isinstance(record.get("data"), dict) and isinstance(record.get("annotations"), list):
        return _of_label_studio(record["data"], record["annotations"])
    marked = record.get("annotation")
    if isinstance(marked, list) and all(isinstance(one, dict) and "points" in one for one in marked):  # of Dataturks
        spans = [{**point, "label": one.get("label")} for one in marked for point in one["points"]]
        return {key: value for key, value in record.items() if key != "annotation"} | {"entities": spans}
    return {key: _dicts(value) if key in SPAN_NAMES else value for key, value in record.items()}


def _dicts(spans: Any) -> Any:
    if not isinstance(spans, list) or not any(isinstance(span, list | tuple) and len(span) == 3 for span in spans):
        return spans
    names = [keys[0] for keys in SPAN_KEYS]
    return [dict(zip(names, span, strict=False)) if isinstance(span, list | tuple) else span for span in spans]


def _of_label_studio(data: dict[str, Any], annotations: list[Any]) -> dict[str, Any]:
    """Return a task as a row, without label where nobody has done it."""
    done = [one for one in annotations if isinstance(one, dict) and not one.get("was_cancelled")]
    results = done[0].get("result") or [] if done else []
    values = [one["value"] for one in results if isinstance(one, dict) and isinstance(one.get("value"), dict)]
    row = {key: value for key, value in data.items() if isinstance(value, str | int | float)}
    choices = [choice for value in values for choice in value.get("choices") or ()]
    if choices:
        return _Chosen(row, label=choices)
    spans = [{key: value[key] for key in ("start", "end", "labels")} for value in values if value.get("labels")]
    return {**row, "entities": spans if done else None}
