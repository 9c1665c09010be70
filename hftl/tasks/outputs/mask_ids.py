"""What the ids in masks stand for, and what is read of the masks of all rows. No mask is held in memory."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from datasets import Dataset
from datasets import Image as ImageFeature

from hftl.data.columns import is_image, kind_of, quoted
from hftl.data.masks import (
    IGNORED,
    Mask,
    MaskFacts,
    class_names,
    look_at_masks,
    mask_faults,
    mask_ids,
    upright_size,
)
from hftl.errors import DataError
from hftl.tasks.inputs.image import file_digest
from hftl.tasks.task import NOT_ASKED, Made


BINARY = ("background", "object")
WANTED = (
    "masks are needed: folders images/ and masks/ with files of the same names, a COCO file with outlines (segmentation), "
    "or a column of mask images. Convert outlines of labelme, YOLO or Pascal VOC to one of these"
)
_LEVELS = 100  # ids in one mask, beyond which they are no classes unless these have names; ours


@dataclass(frozen=True)
class Rule:
    """What the ids in a file of a mask stand for."""

    binary: bool = False  # everything above 0 is the one class
    ignored: int | None = IGNORED  # the id that is not counted
    classes: tuple[str, ...] = ()  # their names beside the data
    order: tuple[int, ...] = ()  # the model's ids of these classes, where it knows them in another order

    def target(self, file: Any) -> np.ndarray:
        """Return the classes [height, width] of a mask, `NOT_ASKED` where nothing is counted."""
        ids = mask_ids(file)
        skipped = (ids < 0) if self.ignored is None else (ids < 0) | (ids == self.ignored)
        if self.binary:
            classes = (ids > 0).astype(np.int16)
        else:  # ids of classes are below 256
            known = np.where(skipped, 0, ids)
            classes = np.asarray(self.order, dtype=np.int16)[known] if self.order else known.astype(np.int16)
        return np.where(skipped, np.int16(NOT_ASKED), classes)

    def of(self, ids: Collection[int]) -> set[int]:
        """Return the classes that the ids of one mask stand for."""
        counted = {i for i in ids if i >= 0} - {self.ignored}
        if self.binary:
            return {int(i > 0) for i in counted}
        return {self.order[i] for i in counted} if self.order else counted


def read(table: Dataset, column: str, where: str, known: Any = None) -> list[Mask | str | None]:
    """Return the masks, None where there is none, and of a broken one the reason. Raises `DataError` for other columns."""
    _check_column(table, column, where)
    return look_at_masks(table.cast_column(column, ImageFeature(decode=False))[column][:], where)


def examine(rule: Rule, table: Dataset, column: str, images: Sequence[Any], where: str) -> list[MaskFacts | None]:
    """Return what `hftl doctor` knows of the masks of all rows, None where there is none. Raises `DataError` as `read`."""
    _check_column(table, column, where)
    files = table.cast_column(column, ImageFeature(decode=False))[column][:]
    masks = look_at_masks(files, where)
    pairs = {i: (images[i], mask) for i, mask in enumerate(masks) if isinstance(mask, Mask) and _opens(images[i])}
    faults = mask_faults([image for image, _ in pairs.values()], [mask for _, mask in pairs.values()])
    sizes = {place: faults[number].partition(": ")[2] for number, place in enumerate(pairs) if number in faults}
    known: list[MaskFacts | None] = []
    for place, (file, mask) in enumerate(zip(files, masks, strict=True)):
        if mask is None or isinstance(mask, str):
            known.append(None if mask is None else MaskFacts(fault=mask))
        else:
            ids = tuple(sorted(rule.of(mask.ids)))
            known.append(MaskFacts(ids, sizes.get(place), file_digest(file)))
    return known


def _opens(image: Any) -> bool:
    """Tell whether the size of an image can be told: that it cannot is a finding of its own."""
    try:
        upright_size(image)
    except OSError:
        return False
    return True


def known_facts(rule: Rule, stored: Sequence[Any]) -> list[MaskFacts]:
    """Return the same of masks that were read already, as a table holds them."""
    return [MaskFacts(tuple(sorted(rule.of(row["ids"]))), None, file_digest(row)) for row in stored]


def _check_column(table: Dataset, column: str, where: str) -> None:
    if not is_image(table.features[column]):
        held = kind_of(table.features[column])
        raise DataError(f"{where}: the column {column!r} holds {held} values, and {WANTED}")


def right_mask(rule: Rule, path: str, known: Collection[int], image: Any) -> Mask:
    """Return the mask in a file that a person gave for an image; `known` are the ids of classes that the data have.

    Raises `DataError` for what cannot be its mask.
    """
    (mask,) = look_at_masks([{"bytes": None, "path": path}], "corrected")
    if not isinstance(mask, Mask):
        raise DataError(f"{mask}")
    faults = mask_faults([image], [mask])
    if faults:
        raise DataError(f"the mask cannot be taken: the image would be {faults[0]}")
    strange = sorted(rule.of(mask.ids) - {*known})
    if strange:
        raise DataError(f"{mask.name} holds the id {strange[0]}, which no mask of the data holds")
    return mask


def names(rule: Rule, parts: dict[str, list[Mask]], feature: Any, column: str) -> tuple[tuple[str, ...], list[str]]:
    """Return the names of the classes, and notes. Raises `DataError` as `class_names` does."""
    held = {i: mask.name for values in parts.values() for mask in reversed(values) for i in mask.ids}
    if rule.binary:
        found = set().union(*(rule.of(mask.ids) for mask in parts["train"]))
        if len(found) < 2:
            raise DataError("the masks of train hold nothing above 0, or nothing else: there is one class alone")
        own = rule.classes if len(rule.classes) == len(BINARY) else BINARY  # names of more classes are of no use here
        return own, ["Masks are read as binary: every pixel above 0 is the one class."]
    known = class_names(held, rule.classes, rule.ignored, held)
    usual = sorted(len(mask.ids) for mask in parts["train"])[len(parts["train"]) // 2]
    if not rule.classes and usual > _LEVELS:
        raise DataError(
            f"half of the masks hold {usual} ids and more: these count objects or are grey levels, as of a photo; with "
            "--mask_values binary every pixel above 0 is the one class"
        )
    notes = [f"The id {rule.ignored} in masks is not counted."] if rule.ignored in held else []
    if not rule.classes:
        notes.append("The classes have no names: write them in labels.txt beside the data, one a line from id 0 on.")
    return known, notes


def encode(values: Sequence[Mask], labels: Sequence[str]) -> np.ndarray:
    """Return the masks as a table holds them: where they are, and their ids."""
    found = np.empty(len(values), dtype=object)
    found[:] = [{**mask.file, "ids": list(mask.ids)} for mask in values]
    return found


def gather(rule: Rule, stored: Any) -> Made:
    """Return the targets of such rows, which are read when they are asked for."""
    return Made.of(list(stored), rule.target, file_digest)


def recognise(rule: Rule, values: Sequence[Mask], labels: Sequence[str], where: str, column: str) -> Made:
    """Return targets by a model's classes: by their names, where the data have names. Raises `DataError` for one that the
    model does not know.
    """
    held = set().union(*(rule.of(mask.ids) for mask in values))
    if values and not held:
        raise DataError(f"{where}: no mask holds a pixel that is counted (the id {rule.ignored} is not)")
    if rule.classes and not rule.binary and held and max(held) < len(rule.classes):
        strange = sorted(rule.classes[i] for i in held if rule.classes[i] not in labels)
        if strange:
            raise DataError(
                f"{where}: the masks hold the class {strange[0]!r}, which the model does not know: {quoted(labels)}"
            )
        order = tuple(labels.index(name) if name in labels else NOT_ASKED for name in rule.classes)
        return gather(replace(rule, order=order), encode(values, labels))
    if held and max(held) >= len(labels):
        raise DataError(
            f"{where}: the masks hold the id {max(held)}, and the model knows the classes 0 to {len(labels) - 1}; "
            "--mask_values binary counts every id above 0 as class 1"
        )
    return gather(rule, encode(values, labels))


def _present(rule: Rule, targets: Any) -> list[list[int]]:
    rows = targets.origins if isinstance(targets, Made) else targets
    return [sorted(rule.of(row["ids"])) for row in rows]


def counts(rule: Rule, targets: Any, labels: Sequence[str]) -> np.ndarray:
    """Return how many images have each class."""
    found = Counter(i for row in _present(rule, targets) for i in row)
    return np.array([found[i] for i in range(len(labels))])


def rarest(rule: Rule, targets: Any, labels: Sequence[str]) -> tuple[np.ndarray, int]:
    """Return the rarest class of each image as its stratum, so that rare ones are in every split."""
    frequent = counts(rule, targets, labels)
    rows = [min(row, key=lambda i: frequent[i], default=0) for row in _present(rule, targets)]
    return np.array(rows, dtype=np.int64), len(labels)
