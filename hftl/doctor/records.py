"""The rows that are examined, in the one form that every check reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from hftl.doctor.findings import SHOWN_ROWS, Finding, Level
from hftl.doctor.image_facts import ImageFacts


NO_LABEL = NO_KEY = -1


@dataclass(frozen=True, eq=False)
class Records:
    """All rows of train, validation and test, in this order."""

    kind: Literal["text", "image"]
    name: str
    splits: tuple[str, ...]  # those that there are
    split: np.ndarray  # [n] index into `splits`
    row: np.ndarray  # [n] row number in the source
    label: np.ndarray  # [n] index into `labels`, or NO_LABEL
    labels: tuple[str, ...]
    key: np.ndarray  # [n] equal for rows with the same input; NO_KEY where there is no usable one
    texts: list[str | None] = field(default_factory=list)  # [n] for text
    images: list[ImageFacts] = field(default_factory=list)  # [n] for images
    others: dict[str, Sequence[Any]] = field(default_factory=dict)  # the train split's other columns
    unused: tuple[str, ...] = ()  # classes that are declared, by a feature or an empty folder, and have no row
    empty_folders: bool = False  # whether `unused` are empty folders, which hftl refuses
    in_class_folders: bool = False  # whether the order of the rows is that of the class folders
    quick: bool = False  # at the start of a run: spare what takes long

    def __len__(self) -> int:
        return len(self.split)

    def within(self, split: str) -> np.ndarray:
        """Return a mask [n] of the rows of this split; all False where there is no such split."""
        return self.split == (self.splits.index(split) if split in self.splits else -1)

    def of(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """Return the positions by split, sorted, without the splits that have none."""
        ordered = np.sort(positions)
        found = {name: ordered[self.split[ordered] == code] for code, name in enumerate(self.splits)}
        return {name: rows for name, rows in found.items() if len(rows)}

    def finding(
        self,
        check: str,
        level: Level,
        positions: np.ndarray,
        mend: str,
        by_split: dict[str, int] | None = None,
    ) -> Finding:
        """Return a finding about these rows; `by_split` where something else than rows is counted."""
        of = self.of(np.asarray(positions, dtype=np.int64))
        counts = {name: len(rows) for name, rows in of.items()} if by_split is None else by_split
        shown = {name: self.row[rows[:SHOWN_ROWS]].tolist() for name, rows in of.items()}
        return Finding(check, level, sum(counts.values()), counts, shown, mend)

    def take(self, positions: np.ndarray, label: np.ndarray) -> "Records":
        """Return the rows at these positions, in that order, with the labels [n] of all rows given anew."""
        chosen = np.asarray(positions, dtype=np.int64)
        used = sorted(set(label[chosen].tolist()) - {NO_LABEL})
        renumbered = np.full(len(self.labels) + 1, NO_LABEL)  # the last is for NO_LABEL, which is -1
        renumbered[used] = np.arange(len(used))
        return replace(
            self,
            split=self.split[chosen],
            row=self.row[chosen],
            label=renumbered[label[chosen]],
            labels=tuple(self.labels[code] for code in used),
            key=self.key[chosen],
            texts=[self.texts[i] for i in chosen] if self.texts else [],
            images=[self.images[i] for i in chosen] if self.images else [],
            others={},
            unused=(),
        )


Check = Callable[[Records], Finding]


def keys_of(digests: Sequence[bytes | None]) -> np.ndarray:
    """Return the same number for equal digests [n], and NO_KEY for None."""
    codes, _ = pd.factorize(np.array(digests, dtype=object))
    return codes.astype(np.int64)
