"""A run whose every string is hostile, and the same run with harmless ones."""

from dataclasses import replace

from hftl.report.rows import PageRows
from tests.report_page.example import evidence, outcome, report


HOSTILE = (
    "<script>window.hacked=1</script>",
    "</script><img src=x onerror=window.hacked=1>",
    "<!--<script>",
    "a|b\n# c",
    "\u202egpj.exe",
    "=cmd()|' /C calc'!A0",
    "{{ 7*7 }}{% raw %}",
    '"onmouseover="window.hacked=1',
    "&lt;b&gt;",
    "x" * 4000,
    "\x00\x1b[31m\ud800",
    "\u2028\u2029'`${1}",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "]]>",
)


def hostile_run(n: int = 80) -> tuple[dict, PageRows]:
    """Every string that comes from data or names is hostile; the figures are those of `plain_run`."""
    labels = HOSTILE
    references, predictions, sure = outcome(n, len(labels))
    texts = [f"{HOSTILE[i % len(HOSTILE)]} row {i}" for i in range(n)]
    rows = PageRows(labels, references, predictions, sure, texts.__getitem__, texts.__getitem__)
    bad = HOSTILE[1]
    found = evidence(rows)
    for one, name in zip(found["ladder"], HOSTILE, strict=False):
        one["name"] = name
    found["verdict"]["against"] = HOSTILE[0]
    found["verdict"]["advice"] = [{"advice": bad, "reason": HOSTILE[0], "flags": bad}]
    for one in found["slices"]:
        one["slice"] = one["by"] = bad
    found["forgetting"].update(
        retention=bad, definition=bad, note=bad, cka=[{"block": h, "value": 0.5} for h in HOSTILE]
    )
    found["forgetting"]["original_head"]["kind"] = bad
    for part in ("calibration", "abstain"):
        found[part]["note"] = bad
    for one in found["doctor"]:
        one.update(check=bad, fix=HOSTILE[0], rows={bad: [1, 2]})
    made = report(rows, evidence=found, warnings=list(HOSTILE), method=HOSTILE[0])
    made["data"]["name"] = made["model"]["name"] = made["data"]["origins"]["train"] = bad
    made["model"]["revision"] = made["environment"]["device"] = bad
    made["stages"][1]["name"] = bad
    made["stages"][1]["learning_rates"] = {bad: 1e-4, HOSTILE[0]: 1e-5}
    made["data"]["skipped"] = [f"{bad}.png: broken"]
    return made, rows


def plain_run() -> tuple[dict, PageRows]:
    """The same run with harmless strings."""
    made, rows = hostile_run()
    names = {name: f"name {i}" for i, name in enumerate(HOSTILE)}

    def harmless(value):
        if isinstance(value, dict):
            return {names.get(k, k): harmless(v) for k, v in value.items()}
        if isinstance(value, list):
            return [harmless(v) for v in value]
        return names.get(value, value) if isinstance(value, str) else value

    labels = tuple(names[label] for label in rows.labels)
    return harmless(made), replace(rows, labels=labels, test_content=lambda i: "text", train_content=lambda i: "text")
