"""Which parts of report.json may be published: what the schema does not call public never is."""

from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from hftl.report import views
from hftl.report.schema import Report, public_part
from tests.report_page.example import evidence, report, text_rows


def unknown(kind: Any, value: Any, place: str = "") -> list[str]:
    """The places of fields that the schema lacks."""
    if isinstance(value, list):
        inner = get_args(kind)[0]
        return [p for item in value for p in unknown(inner, item, f"{place}[]")]
    if not is_dataclass(kind) or not isinstance(value, dict):
        return []
    hints = get_type_hints(kind, include_extras=True)
    strange = [f"{place}.{name}" for name in value if name not in hints]
    return strange + [p for n in value if n in hints for p in unknown(hints[n], value[n], f"{place}.{n}")]


def poisoned(value: Any) -> Any:
    """The same report with a field that nobody knows in every dict with fixed keys."""
    if isinstance(value, list):
        return [poisoned(item) for item in value]
    return (
        {**{k: poisoned(v) for k, v in value.items()}, "of/tomorrow": "secret"} if isinstance(value, dict) else value
    )


def test_an_unknown_field_is_never_public():
    rows = text_rows()
    made = report(rows, evidence=evidence(rows))
    assert unknown(Report, made) == []
    assert public_part(Report, poisoned(made)) == public_part(Report, made)
    assert "secret" not in str(public_part(Report, {**made, "tomorrow": "secret", "warnings": ["secret"]}))


def test_private_fields_stay_private():
    private: set[str] = set()
    kinds: list[Any] = [Report]
    while kinds:
        kind = kinds.pop()
        if is_dataclass(kind):
            private |= {f"{kind.__name__}.{f.name}" for f in fields(kind) if not f.metadata.get("public")}
            kinds += get_type_hints(kind).values()
        elif get_origin(kind) in (list, dict):
            kinds += get_args(kind)
    assert private == {
        "Report.warnings", "Report.statements", "Model.name", "Data.name", "Data.skipped", "Verdict.advice",
        "Forgetting.retention", "Finding.fix",
    }  # fmt: skip


def test_advice_of_earlier_reports_is_read():
    earlier = {"check": "imbalance", "level": "WARN", "count": 2, "rows": {}, "mend": "Add rows."}
    (finding,) = views.findings({"doctor": [earlier]})
    assert finding["fix"] == "Add rows."
