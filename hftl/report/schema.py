"""The fields of report.json, and which of them may be published: none but those that say `public()`.

Any value may be None, and a run of another version may lack a field. docs/report.md says what each one means.
"""

# ruff: noqa: D101  docs/report.md describes the parts

import re
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from hftl.report.visible import one_line


# What stays out of a sentence: paths, file names, web addresses, and quotations, which may come from a row.
_TELLING = re.compile(
    r"""[~\\]|/[^\s/]+/|(^|[\s'"(])\.{0,2}/\w|\w\.[A-Za-z][A-Za-z0-9]{1,7}\b(?!\.)|://|(^|[\s(:])['"`][^'"`]+['"`]"""
)
_GROUP = re.compile(
    r"\((missing|other)\)|[A-Za-z0-9;_]{1,8}|[\d.e+-]+( to [\d.e+-]+)?( characters| pixels on the short side)"
)
_FIRST_FILE = re.compile(r"; the first: .*$", re.DOTALL)  # of the images that could not be read


def number(value: Any) -> Any:
    """Let numbers, booleans and None through; anything else becomes None."""
    return value if isinstance(value, bool | int | float) else None


def word(value: Any) -> Any:
    """Let a name through that hftl or a library gave, such as "lora" or "2.13.0+cpu"."""
    return one_line(value) if isinstance(value, str) and "/" not in value and "\\" not in value else None


def label(value: Any) -> Any:
    """Let a class name through: they stand in config.json as well."""
    return value if isinstance(value, str) else None


def sentence(value: Any) -> Any:
    """Let a sentence of hftl's through, unless it names a file or quotes something: then it is "" instead."""
    if not isinstance(value, str):
        return None
    text = _FIRST_FILE.sub("", value)
    return "" if _TELLING.search(text) else text


def group(value: Any) -> Any:
    """Let the name of a natural group of rows through: numbers with their unit, or an image mode as Pillow calls it."""
    return value if isinstance(value, str) and _GROUP.fullmatch(value) else None


Word = Annotated[str, word]
Label = Annotated[str, label]
Sentence = Annotated[str, sentence]


@dataclass(frozen=True)
class Only:
    """The public keys of a dict of numbers."""

    keys: tuple[str, ...]

    def __call__(self, value: Any) -> Any:
        return {k: number(v) for k, v in value.items() if k in self.keys} if isinstance(value, dict) else None


Score = Annotated[dict[str, float], Only(("value", "low", "high"))]
Change = Annotated[dict[str, float], Only(("before", "after", "low", "high"))]
Bin = Annotated[dict[str, float], Only(("low", "high", "count", "confidence", "accuracy"))]
Sureness = Annotated[dict[str, float], Only(("ece", "ece_low", "ece_high", "ece_if_calibrated", "log_loss", "brier"))]


def public() -> Any:
    """Return a field that may be published, as far as the rule of its type lets its value through."""
    return field(metadata={"public": True})


def private() -> Any:
    """Return a field that stays in the run."""
    return field()


@dataclass(frozen=True)
class Metrics:
    accuracy: Score = public()
    macro_f1: Score = public()
    macro_precision: float = public()
    macro_recall: float = public()
    log_loss: float = public()


@dataclass(frozen=True)
class Rung:
    """A model that answered the same test rows."""

    name: Sentence = public()
    kind: Word = public()
    accuracy: Score = public()
    macro_f1: Score = public()
    seconds: float = public()
    note: Sentence = public()


@dataclass(frozen=True)
class Difference:
    """A paired difference on the test rows."""

    label: Word = public()
    gap: float = public()
    low: float = public()
    high: float = public()
    p: float = public()


@dataclass(frozen=True)
class CrossValidation:
    """The probe against the baseline on the training rows."""

    rows: int = public()
    baseline: Sentence = public()
    probe_accuracy: float = public()
    baseline_accuracy: float = public()
    gap: Score = public()


@dataclass(frozen=True)
class Verdict(Difference):
    """Whether transfer paid."""

    against: Sentence = public()
    macro_f1: Difference = public()
    kind: Word = public()
    rows_needed: int = public()
    cross_validation: CrossValidation = public()
    advice: list[dict[str, str]] = private()  # for who trained it


@dataclass(frozen=True)
class Similarity:
    block: Word = public()
    value: float = public()


@dataclass(frozen=True)
class OriginalHead:
    kind: Word = public()
    loss_before: float = public()
    loss_after: float = public()


@dataclass(frozen=True)
class Forgetting:
    kept: float = public()
    unchanged: bool = public()
    low: float = public()
    high: float = public()
    definition: Sentence = public()
    rows: int = public()
    left_out: int = public()
    note: Sentence = public()
    knn_agreement: float = public()
    knn_chance: float = public()
    retention: str = private()  # may be a path
    retention_kind: Word = public()
    seconds: float = public()
    seconds_after: float = public()
    probe: Change = public()
    cka: list[Similarity] = public()
    original_head: OriginalHead = public()


@dataclass(frozen=True)
class Calibration:
    temperature: float = public()
    before: Sureness = public()
    after: Sureness = public()
    bins_before: list[Bin] = public()
    bins_after: list[Bin] = public()
    note: Sentence = public()


@dataclass(frozen=True)
class Abstain:
    precision: float = public()  # the target
    threshold: float = public()
    test_precision: Score = public()
    coverage: float = public()
    curve: list[list[float]] = public()  # (coverage, precision)
    note: Sentence = public()


@dataclass(frozen=True)
class Slice:
    """A group of test rows; that of a column of the user's is never published."""

    by: Word = public()
    slice: Annotated[str, group] = public()
    count: int = public()
    weak: bool = public()
    accuracy: Score = public()


@dataclass(frozen=True)
class Finding:
    """What a check of the data found."""

    check: Word = public()
    level: Word = public()
    count: int = public()
    by_split: dict[str, int] = public()
    rows: dict[str, list[int]] = public()
    fix: str = private()  # what to do; may quote classes, files and rows


@dataclass(frozen=True)
class Evidence:
    ladder: list[Rung] = public()
    verdict: Verdict = public()
    forgetting: Forgetting = public()
    calibration: Calibration = public()
    abstain: Abstain = public()
    slices: list[Slice] = public()
    confusion: list[list[int]] = public()  # (true, predicted, count)
    worst_rows: list[dict[str, float]] = public()  # positions and figures, no content
    suspects: list[dict[str, float]] = public()
    doctor: list[Finding] = public()
    seconds: float = public()


@dataclass(frozen=True)
class Model:
    name: str = private()  # may be a path
    source: Word = public()
    revision: Word = public()
    architecture: Word = public()
    parameters: int = public()


@dataclass(frozen=True)
class Origins:
    train: Sentence = public()
    validation: Sentence = public()
    test: Sentence = public()


@dataclass(frozen=True)
class Data:
    name: str = private()  # may be a path
    labels: list[Label] = public()
    rows: dict[str, int] = public()
    origins: Origins = public()
    source_splits: dict[str, Word] = public()
    skipped: list[str] = private()  # names of files


@dataclass(frozen=True)
class SplitMetrics:
    test: Metrics = public()
    validation: Metrics = public()


@dataclass(frozen=True)
class ClassScore:
    label: Label = public()
    precision: float = public()
    recall: float = public()
    f1: float = public()
    support: int = public()


@dataclass(frozen=True)
class Probe:
    C: float = public()
    pooling: Word = public()
    cv_accuracy: dict[str, dict[str, float]] = public()
    features: Word = public()


@dataclass(frozen=True)
class Interpolation:
    """What `wise` chose between the weights it started from and the tuned ones."""

    metric: Word = public()
    alpha: float = public()
    curve: list[dict[str, float]] = public()


@dataclass(frozen=True)
class Stage:
    """A stage of the training."""

    name: Word = public()
    trainable_parameters: int = public()
    learning_rates: dict[str, float] = public()
    seconds: float = public()
    steps: int = public()
    epochs: float = public()
    history: list[dict[str, float]] = public()
    reads: Word = public()
    weights: Word = public()
    interpolation: Interpolation = public()


@dataclass(frozen=True)
class Spread:
    values: list[float] = public()
    mean: float = public()
    std: float = public()


@dataclass(frozen=True)
class Seeds:
    seeds: list[int] = public()
    kept: int = public()
    test: dict[str, Spread] = public()
    validation: dict[str, Spread] = public()


@dataclass(frozen=True)
class Environment:
    versions: dict[str, Word] = public()
    device: Sentence = public()
    processes: int = public()
    threads: int = public()


@dataclass(frozen=True)
class Parity:
    """A saved artifact, loaded without hftl and compared."""

    rows: int = public()
    origin: Word = public()
    max_difference: float = public()
    labels_equal: bool = public()
    tolerance: float = public()
    seconds: float = public()
    note: Sentence = public()


@dataclass(frozen=True)
class Report:
    """The whole document."""

    schema_version: int = public()
    task: Word = public()
    method: Word = public()
    pooling: Word = public()
    seed: int = public()
    model: Model = public()
    data: Data = public()
    metrics: SplitMetrics = public()
    baselines: list[Rung] = public()
    per_class: list[ClassScore] = public()
    probe: Probe = public()
    stages: list[Stage] = public()
    seeds: Seeds = public()
    timing: dict[str, float] = public()
    environment: Environment = public()
    warnings: list[str] = private()
    evidence: Evidence = public()
    parity: dict[str, Parity] = public()
    statements: dict[str, Any] = private()  # names the data: a push writes them anew, of the public report


def public_part(kind: Any, value: Any) -> Any:
    """Return what of `value`, which the schema calls a `kind`, may be published; None where it is no such thing."""
    if value is None:
        return None
    if isinstance(kind, type) and is_dataclass(kind):
        kinds = _public_kinds(kind)
        return (
            {k: public_part(kinds[k], v) for k, v in value.items() if k in kinds} if isinstance(value, dict) else None
        )
    origin = get_origin(kind)
    if origin is Annotated:
        return get_args(kind)[1](value)
    if origin is list:
        inner = get_args(kind)[0]
        return [public_part(inner, item) for item in value] if isinstance(value, list | tuple) else None
    if origin is dict:
        inner = get_args(kind)[1]
        return (
            {k: public_part(inner, v) for k, v in value.items() if word(k) == k} if isinstance(value, dict) else None
        )
    return number(value)


@cache
def _public_kinds(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {f.name: hints[f.name] for f in fields(kind) if f.metadata.get("public")}
