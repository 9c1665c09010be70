"""Masks: what cannot be used, what is empty, and classes that few images or no training image has."""

from collections import Counter
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from hftl.data.columns import quoted
from hftl.data.masks import MOST_IDS, class_names
from hftl.doctor.findings import Finding, Kind, Records, as_sentence, warned
from hftl.errors import DataError
from hftl.report.statements import counted


_FEW = 5  # training images of a class, below which its score says little; ours
_MOSTLY = 0.5  # of the masks are empty: training sees background above all


def broken_masks(records: Records) -> Finding:
    """Count the masks that cannot be read, or have another size than their image: `hftl train` refuses them."""
    faulty = {i: one.fault for i, one in enumerate(records.masks) if one is not None and one.fault is not None}
    if not faulty:
        return Finding("broken_masks")
    first = next(iter(faulty.values()))
    fix = f"Repair or remove them ({first}): --fix OUT removes their rows."
    return records.finding("broken_masks", "FAIL", np.array([*faulty]), fix)


def mask_classes(records: Records) -> Finding:
    """Say what `hftl train` would refuse of the ids of all masks: one class alone, more ids than names, objects."""
    fault = _no_classes(records)
    if fault is None:
        return Finding("mask_classes")
    names = len(records.labels_beside) or MOST_IDS
    strange = [i for i, one in enumerate(records.masks) if one is not None and any(id_ >= names for id_ in one.ids)]
    if strange:
        return records.finding("mask_classes", "FAIL", np.array(strange), as_sentence(fault))
    count = len(set(chain(*(one.ids for one in records.masks if one is not None))))
    return Finding("mask_classes", "FAIL", count, fix=as_sentence(fault))


def _no_classes(records: Records) -> str | None:
    """Return why the ids of all masks are no classes, None where they are."""
    try:
        class_names(set(chain(*(one.ids for one in records.masks if one is not None))), records.labels_beside, None)
    except DataError as error:
        return str(error)
    return None


def unseen_classes(records: Records) -> Finding:
    """Count the masks of validation and test that hold a class which no training mask holds."""
    seen = set(chain(*(one.ids for one in _of(records, "train"))))
    strange = [i for i, one in enumerate(records.masks) if one is not None and not seen.issuperset(one.ids)]
    if not strange or _no_classes(records):
        return Finding("unseen_classes")
    missing = quoted([_name(records, i) for i in sorted({*chain(*(records.masks[i].ids for i in strange))} - seen)])  # type: ignore[union-attr]
    fix = f"No training mask holds {missing}, so that no model can learn it: move such images to train, or leave the class out."
    return records.finding("unseen_classes", "FAIL", np.array(strange), fix)


def empty_masks(records: Records) -> Finding:
    """Count the masks that hold nothing but the class 0, or nothing that is counted."""
    empty = [
        i for i, one in enumerate(records.masks) if one is not None and one.fault is None and not {*one.ids} - {0}
    ]
    if not empty:
        return Finding("empty_masks")
    usable = sum(one is not None and one.fault is None for one in records.masks)
    blank = sum(not records.masks[i].ids for i in empty)  # type: ignore[union-attr]
    parts = [f"{counted(len(empty) - blank, 'mask holds', 'masks hold')} {_name(records, 0)!r} alone"] * (
        blank < len(empty)
    )
    parts += [f"{counted(blank, 'mask holds', 'masks hold')} no pixel that is counted"] if blank else []
    fix = as_sentence(
        f"{' and '.join(parts)}: right where there is nothing to find, wrong where nobody has drawn it yet"
    )
    level = warned(fails=False) if len(empty) >= _MOSTLY * usable or blank else "INFO"
    return records.finding("empty_masks", level, np.array(empty), fix)


def rare_classes(records: Records) -> Finding:
    """Count the classes that few training masks hold."""
    counts = Counter(chain(*(one.ids for one in _of(records, "train"))))
    rare = [i for i, count in sorted(counts.items()) if count < _FEW]
    if not rare or _no_classes(records):
        return Finding("rare_classes")
    shown = ", ".join(f"{_name(records, i)!r} in {counted(counts[i], 'image', 'images')}" for i in rare[:_FEW])
    fix = f"Few training images hold them ({shown}): label more, or join them with another class."
    return Finding("rare_classes", "WARN", len(rare), {"train": len(rare)}, fix=fix)


def _of(records: Records, split: str) -> list[Any]:
    here = np.flatnonzero(records.within(split)).tolist()
    return [records.masks[i] for i in here if records.masks[i] is not None]


def _name(records: Records, number: int) -> str:
    return records.labels_beside[number] if number < len(records.labels_beside) else f"class {number}"


CHECKS = (broken_masks, mask_classes, unseen_classes, empty_masks, rare_classes)


def with_masks(kind: Kind) -> Kind:
    """Return the kind of inputs with the checks of masks in the place of those that compare images by one class."""
    alone = [check for check in kind.checks if check.__name__ not in ("mirror_images", "file_groups")]
    return replace(kind, checks=(*alone, *CHECKS))
