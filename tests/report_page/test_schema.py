"""Which parts of report.json may be published: what the schema does not call public never is."""

from typing import Any

from hftl.report import views
from hftl.report.schema import REPORT, private, public_part
from tests.report_page.example import evidence, report, text_rows


def unknown(shape: Any, value: Any, place: str = "") -> list[str]:
    """The places of fields that the schema lacks."""
    if isinstance(shape, list) and isinstance(value, list):
        return [p for item in value for p in unknown(shape[0], item, f"{place}[]")]
    if not isinstance(shape, dict) or str in shape or not isinstance(value, dict):
        return []
    strange = [f"{place}.{name}" for name in value if name not in shape]
    return strange + [p for n in value if n in shape for p in unknown(shape[n], value[n], f"{place}.{n}")]


def poisoned(value: Any) -> Any:
    """The same report with a field that nobody knows in every dict with fixed keys."""
    if isinstance(value, list):
        return [poisoned(item) for item in value]
    return (
        {**{k: poisoned(v) for k, v in value.items()}, "of/tomorrow": "secret"} if isinstance(value, dict) else value
    )


def private_fields(shape: Any, place: str = "") -> set[str]:
    if shape is private:
        return {place}
    if isinstance(shape, dict):
        return {p for name, inner in shape.items() for p in private_fields(inner, f"{place}.{name}".lstrip("."))}
    return private_fields(shape[0], place) if isinstance(shape, list) else set()


def test_an_unknown_field_is_never_public():
    rows = text_rows()
    made = report(rows, evidence=evidence(rows))
    assert unknown(REPORT, made) == []
    assert public_part(REPORT, poisoned(made)) == public_part(REPORT, made)
    assert "secret" not in str(public_part(REPORT, {**made, "tomorrow": "secret", "warnings": ["secret"]}))


def test_private_fields_stay_private():
    assert private_fields(REPORT) == {
        "warnings", "statements", "name", "author", "model.name", "data.name", "data.skipped", "evidence.verdict.advice",
        "evidence.forgetting.retention", "evidence.doctor.fix",
    }  # fmt: skip


def test_advice_of_earlier_reports_is_read():
    earlier = {"check": "imbalance", "level": "WARN", "count": 2, "rows": {}, "mend": "Add rows."}
    (finding,) = views.findings({"doctor": [earlier]})
    assert finding["fix"] == "Add rows."
