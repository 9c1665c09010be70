"""Rows of different lengths in one array, rows that are made one by one, and what is done with them as with any other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Self

import numpy as np


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of different lengths in one array: row i is `values[starts[i]:starts[i + 1]]`."""

    values: np.ndarray
    starts: np.ndarray  # [n + 1]

    @classmethod
    def of(cls, rows: Sequence[Any]) -> Self:
        """Join rows of whole numbers."""
        starts = np.cumsum([0, *map(len, rows)])
        return cls(np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(starts[-1])), starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: Any) -> "np.ndarray | Ragged":
        """Return one row, or with an array [m] of their numbers several as a new `Ragged`."""
        if isinstance(index, np.ndarray):
            lengths = self.lengths[index]
            starts = np.concatenate([[0], np.cumsum(lengths)])
            places = np.arange(starts[-1]) + np.repeat(self.starts[index] - starts[:-1], lengths)
            return Ragged(self.values[places], starts)
        return self.values[self.starts[index] : self.starts[index + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.values[a:b] for a, b in zip(self.starts[:-1], self.starts[1:], strict=True))

    @property
    def lengths(self) -> np.ndarray:
        """Length of each row, [n]."""
        return np.diff(self.starts)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError("rows of different lengths are no array: take .values")

    def __matmul__(self, matrix: np.ndarray) -> "Ragged":
        return Ragged(self.values @ matrix, self.starts)

    def __add__(self, term: np.ndarray) -> "Ragged":
        return Ragged(self.values + term, self.starts)

    def __truediv__(self, factor: float) -> "Ragged":
        return Ragged(self.values / factor, self.starts)

    def __mul__(self, factor: float) -> "Ragged":
        return Ragged(self.values * factor, self.starts)


def in_memory(array: Any) -> Any:
    """Return an array that may lie on disk as one in memory, also of rows of different lengths."""
    return replace(array, values=np.asarray(array.values)) if isinstance(array, Ragged) else np.asarray(array)


def in_order(parts: Sequence[Any], places: Sequence[np.ndarray]) -> Any:
    """Return the rows of all parts in one array, those of `parts[i]` at `places[i]`."""
    order = np.argsort(np.concatenate(places))
    if not isinstance(parts[0], Ragged):
        return np.concatenate(parts)[order]
    lengths = np.concatenate([part.lengths for part in parts])
    values = np.concatenate([part.values for part in parts])
    return Ragged(values, np.concatenate([[0], np.cumsum(lengths)]))[order]


def first_windows(arrays: dict[str, Any]) -> dict[str, Any]:
    """Return what `Inputs.encode` made, of rows in windows the first window of each and no units: what begins a row."""
    if "rows" not in arrays:
        return arrays
    first = np.unique(arrays["rows"], return_index=True)[1]
    return {name: array[first] for name, array in arrays.items() if name not in ("rows", "units")}


def values_of(array: Any) -> np.ndarray:
    """Return an array by row as it is, and the values of one by unit."""
    values: np.ndarray = array.values if isinstance(array, Ragged) else np.asarray(array)
    return values


_ROOM = 128 * 2**20  # bytes of rows that are kept: all of a small data set, and a bound for a large one


@dataclass(frozen=True, eq=False)
class Made:
    """Rows that are made when they are asked for, such as decoded pictures, so that memory does not grow with them."""

    sources: Sequence[Any]  # of the rows, such as files
    make: Callable[[Any], np.ndarray]
    key: Callable[[Any], bytes | None]  # of a source: equal for equal ones
    rows: np.ndarray  # numbers of these rows among the sources
    kept: dict[int, np.ndarray] = field(default_factory=dict)  # rows that were made, as long as there is room
    room: int | None = None  # bytes of these; None: `_ROOM`

    @classmethod
    def of(cls, sources: Sequence[Any], make: Callable[[Any], np.ndarray], key: Callable[[Any], bytes | None]) -> Self:
        """Return a row for each source."""
        return cls(sources, make, key, np.arange(len(sources)))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        """Make one row; of an array of numbers return the rows, which are not made yet."""
        if isinstance(index, np.ndarray):
            return replace(self, rows=self.rows[index])
        number = int(self.rows[index])
        made = self.kept.get(number)
        if made is None:
            made = self.make(self.sources[number])
            room = _ROOM if self.room is None else self.room
            if sum(one.nbytes for one in self.kept.values()) + made.nbytes <= room:
                self.kept[number] = made
        return made

    def once(self) -> Self:
        """Return the same rows, of which no more are kept: for a pass that reads each once."""
        return replace(self, room=0)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise TypeError("rows that are made one by one are no array")

    @property
    def origins(self) -> list[Any]:
        """The sources of these rows, in order."""
        return [self.sources[row] for row in self.rows]

    def digests(self) -> Iterator[bytes]:
        """Yield what tells each row from others, without making it."""
        return (self.key(source) or b"" for source in self.origins)
