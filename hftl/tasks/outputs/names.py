"""What classes, labels and tags have in common: names, one or several for a row, that a model knows or does not."""

from collections.abc import Callable, Collection, Iterator, Sequence
from importlib import import_module
from typing import Any

from datasets import ClassLabel, Dataset

from hftl.data.columns import is_list, kind_of, numbers_of, quoted, shortened
from hftl.errors import DataError, ModelError, did_you_mean


IN_SOURCE = "in the source's train split"  # where notes count: what is cut off or drawn comes later


def late(module: str, name: str) -> Callable[..., Any]:
    """Return a function of `hftl.evaluation`, imported when it is called: scikit-learn takes a second."""
    return lambda *given, **options: getattr(import_module(f"hftl.evaluation.{module}"), name)(*given, **options)


def declared_in(feature: Any) -> list[str] | None:
    """Return the names of a ClassLabel, or of one in a list; None where there are none."""
    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", feature)
    return inner.names if isinstance(inner, ClassLabel) else None


def lists_in(table: Dataset, column: str, where: str, needed: str) -> Iterator[tuple[int, list[Any] | None]]:
    """Yield the number of each row and its list, with the names that a ClassLabel has for its numbers.

    Raises `DataError` for a column of anything else; `needed` says what should be there.
    """
    feature = table.features[column]
    if not is_list(feature):
        held = "number" if numbers_of(table, column) else kind_of(feature)
        raise DataError(f"{where}: the label column {column!r} holds {held} values, {needed}")
    declared = declared_in(feature)
    for row, value in enumerate(table[column][:]):
        if declared and value is not None:
            value = [None if one in (None, -1) else declared[one] for one in value]
        yield row, value


def names_of(value: Any) -> Sequence[str]:
    """Return the names of one row: of several, or of one alone."""
    return (value,) if isinstance(value, str) else value


def index(names: Sequence[str]) -> dict[str, int]:
    """Return the place of each name."""
    return {name: place for place, name in enumerate(names)}


def refuse_unlearnt(parts: dict[str, list[Any]], known: Collection[str], one: str, several: str) -> None:
    """Raise `DataError` where a split has a name that is not among those `known` from train."""
    for split, values in parts.items():
        unknown, rows = _unknown(values, known)
        if unknown:
            raise DataError(
                f"{split} holds the {several if len(unknown) > 1 else one} {quoted(unknown)} ({rows}), which train "
                f"lacks: add such rows to train or remove them from {split}.{did_you_mean(unknown[0], known)}"
            )


def recognised_by(encode: Callable[..., Any], names: str) -> Callable[..., Any]:
    """Return `Output.recognise`: `encode` for the names of a model, which raises `DataError` for those it has not."""

    def recognise(values: Sequence[Any], known: Sequence[str], where: str, column: str) -> Any:
        unknown, rows = _unknown(values, known)
        if unknown:
            raise DataError(
                f"{where}: the column {column!r} holds {names} that the model does not know: {quoted(unknown)} ({rows}); "
                f"it knows {quoted(known)}.{did_you_mean(unknown[0], known)}"
            )
        return encode(values, known)

    return recognise


def typed_name(name: str, known: Collection[str], what: str) -> str:
    """Return a name that a person typed. Raises `DataError` for one that is not `known`."""
    if name not in known:
        hint = did_you_mean(name, known)
        raise DataError(f"the data have no {what} {shortened(name)}: they have {quoted(sorted(known))}.{hint}")
    return name


def _unknown(values: Sequence[Any], known: Collection[str]) -> tuple[list[str], str]:
    """Return the names that are not `known`, and how many rows have one."""
    known = {*known}
    lacking = [names for names in ({*names_of(value)} - known for value in values) if names]
    return sorted(set().union(*lacking)), f"{len(lacking)} row{'s' if len(lacking) != 1 else ''}"


def check_names(config: Any, name: str) -> None:
    """Raise `ModelError` for a model whose outputs have no names."""
    names = config.id2label
    if set(names) != set(range(config.num_labels)):
        raise ModelError(f"{name} does not number its labels from 0 in id2label of config.json: {names}"[:300])
