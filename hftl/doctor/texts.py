"""What the checks need to know of texts; and which are nearly the same: MinHash and the true Jaccard of what it finds.

MinHash (Broder 1997) is taken over runs of five characters. Written on numpy instead of taken from a library: the
signatures of all texts at once took a tenth of the time of one `MinHash` of datasketch 2.0 per text (10,000 short texts,
one core), and every pair is verified here anyway.

Of texts as of images, all pairs are never compared. Locality-sensitive hashing as in Leskovec, Rajaraman & Ullman, Mining
of Massive Datasets, ch. 3: rows that share a bucket of any band are candidates, and every candidate is verified.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import Dataset
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from hftl.doctor.findings import Facts, Feature, Finding, Kind, Records, as_sentence, warned
from hftl.report.statements import counted
from hftl.terminal import progress


if TYPE_CHECKING:
    from hftl.tasks.task import Inputs  # it brings torch, which the checks do without


# Jaccard from which two texts count as nearly the same, with shingles of five characters: Lee et al. 2022
# (Deduplicating training data makes language models better) verify at 0.8.
NEAR = 0.8
_SHINGLE = 5
_BANDS, _PER_BAND = 20, 6  # finds a pair at .8 with probability 1 - (1 - .8^6)^20 = .998, one at .5 with .27
_SLACK = 0.11  # three standard errors of a signature of 120 at .8: pairs that agree less are not verified
_READ = 50_000  # characters of a text that are compared: beyond, two texts are told apart by their lengths
_CHUNK = 1_000_000  # shingles in memory at once
_SEED = 0
_BASE = np.uint64(0x100000001B3)
# A row is held against so many of its neighbours in a bucket, and against the first row there. It makes buckets of
# many rows cost linear time; groups come out whole all the same, since each verified pair joins two groups.
WINDOW = 8
_QUICK_TEXTS = 20_000  # in `hftl train`, near duplicates are looked for among up to so many different texts
# Texts are cut off where the longest length recurs: at least so many texts and this share of all have exactly it,
# and it is no natural length of short texts.
_PILE, _PILE_SHARE, _SHORTEST_CUT = 5, 0.01, 50
_ELLIPSES = ("...", "\u2026")  # a sign of a cut only in texts about as long as the longest
_NEAR_LONGEST = 0.9

Verify = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class TextFacts(Facts):
    """One text."""

    text: str = ""


def look(tables: Sequence[Dataset], inputs: "Inputs", quick: bool) -> list[TextFacts]:
    """Return what there is to know of the texts of these tables, or of their pairs, faulty ones included."""
    return [_facts(value, inputs) for table in tables for value in inputs.values(table)]


def _facts(value: Any, inputs: "Inputs") -> TextFacts:
    parts: tuple[Any, ...] = value if isinstance(value, tuple) else (None if value is None else inputs.show(value),)
    if any(part is None for part in parts):
        return TextFacts(missing=True)
    empty = not all(part.strip() for part in parts)
    return TextFacts(fault="empty text" if empty else None, digest=inputs.key(value), text=inputs.show(value))


def features(facts: Sequence[TextFacts]) -> list[Feature]:
    """Return what should not tell the label of a text."""
    return [
        ("the length of the text", [len(one.text) for one in facts]),
        ("the number of its lines", [one.text.count("\n") for one in facts]),
    ]


def cut_texts(texts: Sequence[str]) -> np.ndarray:
    """Return a mask [n] of texts that look cut off.

    Either many have the very length of the longest, in characters or in bytes (a field that held no more), or one
    ends in an ellipsis after a letter and is about as long as the longest.
    """
    cut = np.zeros(len(texts), dtype=bool)
    if not len(texts):
        return cut
    letters = np.array([len(text) for text in texts])
    for lengths in (letters, np.array([len(text.encode("utf-8", "surrogatepass")) for text in texts])):
        at_end = lengths == lengths.max()
        # A natural spread of lengths thins out towards the longest; a limit piles texts up there.
        just_below = (lengths < lengths.max()) & (lengths >= lengths.max() - 10)
        enough = max(_PILE, _PILE_SHARE * len(texts), just_below.sum())
        if lengths.max() >= _SHORTEST_CUT and enough <= at_end.sum() < len(texts):
            cut |= at_end
    marked = [text.rstrip().endswith(_ELLIPSES) and text.rstrip(".\u2026 ")[-1:].isalnum() for text in texts]
    return cut | (np.array(marked) & (letters >= max(_SHORTEST_CUT, _NEAR_LONGEST * letters.max())))


def empty_or_truncated_texts(records: Records) -> Finding:
    """Count the texts with nothing in them, and those that look cut off."""
    empty = records.where(lambda one: one.fault is not None)
    present = records.where(lambda one: one.fault is None and not one.missing)
    cut = present[cut_texts([records.facts[i].text for i in present])]
    if not len(empty) and not len(cut):
        return Finding("empty_or_truncated_texts")
    parts = []
    if len(empty):
        parts.append(f"remove or fill in {counted(len(empty), 'empty text', 'empty texts')} (--fix OUT removes them)")
    if len(cut):
        parts.append(f"look for the whole of {counted(len(cut), 'text that seems', 'texts that seem')} cut off")
    level = warned(fails=bool(len(empty)))
    return records.finding("empty_or_truncated_texts", level, np.union1d(empty, cut), as_sentence(*parts))


def near_groups(facts: Sequence[TextFacts], quick: bool) -> np.ndarray | None:
    """Return the groups of nearly the same texts, or None where a quick look would take too long."""
    return None if quick and len(facts) > _QUICK_TEXTS else near_text_groups([one.text for one in facts])


def normal_form(text: str) -> str:
    """Return the text in lower case with single spaces, its first 50,000 characters."""
    return " ".join(re.sub(r"\s+", " ", text[: 2 * _READ]).casefold().split())[:_READ]


def near_text_groups(texts: Sequence[str]) -> np.ndarray:
    """Return a group number per text [n]; texts of one group are joined by pairs with a Jaccard of `NEAR` or more."""
    if len(texts) < 2:
        return np.arange(len(texts))
    normal = [normal_form(text) for text in texts]
    sizes = np.array([len(text) for text in texts])
    signatures = minhash(normal)

    def verify(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        likely = _agreement(signatures, left, right) >= NEAR - _SLACK
        long = (sizes[left] > _READ) | (sizes[right] > _READ)
        shorter, longer = np.minimum(sizes[left], sizes[right]), np.maximum(sizes[left], sizes[right])
        likely &= ~long | (shorter >= NEAR * longer)
        near = np.zeros(len(left), dtype=bool)
        near[likely] = jaccard(normal, left[likely], right[likely]) >= NEAR
        return near

    return group_near(_bands(signatures), len(texts), verify)


def shingles(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the hashed shingles of all texts in one array [total] and where each text begins in it [n].

    A text of fewer than five characters is one shingle.
    """
    padded = [text if len(text) >= _SHINGLE else text.ljust(_SHINGLE, "\0") for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    ends = np.cumsum([len(text) for text in padded])
    windows = np.zeros(len(codes) - _SHINGLE + 1, dtype=np.uint64)
    for offset in range(_SHINGLE):
        windows = windows * _BASE + codes[offset : offset + len(windows)]
    whole = np.ones(len(windows), dtype=bool)
    for offset in range(1, _SHINGLE):  # windows that reach from one text into the next
        whole[ends[:-1] - offset] = False
    starts = np.r_[0, ends[:-1]] - (_SHINGLE - 1) * np.arange(len(padded))
    return _mix(windows[whole]), starts


def _mix(values: np.ndarray) -> np.ndarray:
    """Spread the bits of 64-bit values (the finaliser of splitmix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def minhash(texts: Sequence[str]) -> np.ndarray:
    """Return MinHash signatures [n, bands * per band] as uint32.

    The hash functions are multiply-shift (Dietzfelbinger et al. 1997): the top half of a * x + b modulo 2^64, a odd.
    """
    rng = np.random.default_rng(_SEED)
    size = _BANDS * _PER_BAND
    factors = rng.integers(0, 2**63, size, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    offsets = rng.integers(0, 2**63, size, dtype=np.uint64)
    signatures = np.empty((len(texts), size), dtype=np.uint32)
    costs = np.array([max(len(text), _SHINGLE) for text in texts])
    for start, stop in progress(list(_spans(costs)), "near duplicates", "chunk"):
        values, starts = shingles(texts[start:stop])
        for function in range(size):
            hashed = ((values * factors[function] + offsets[function]) >> np.uint64(32)).astype(np.uint32)
            signatures[start:stop, function] = np.minimum.reduceat(hashed, starts)
    return signatures


def _bands(signatures: np.ndarray) -> Iterator[np.ndarray]:
    for band in range(_BANDS):
        values = np.zeros(len(signatures), dtype=np.uint64)
        for column in range(band * _PER_BAND, (band + 1) * _PER_BAND):
            values = _mix(values * _BASE + signatures[:, column])
        yield values


def _agreement(signatures: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the share of equal entries of each pair of signatures: an unbiased estimate of its Jaccard."""
    shares = [
        (signatures[left[i : i + 100_000]] == signatures[right[i : i + 100_000]]).mean(axis=1)
        for i in range(0, len(left), 100_000)
    ]
    return np.concatenate(shares) if shares else np.empty(0)


def jaccard(texts: Sequence[str], left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the Jaccard index [m] of the shingle sets of the pairs of texts (left[i], right[i])."""
    lengths = np.array([max(len(text), _SHINGLE) for text in texts])
    result = np.empty(len(left))
    for start, stop in _spans(lengths[left] + lengths[right]):
        used, where = np.unique(np.r_[left[start:stop], right[start:stop]], return_inverse=True)
        values, starts = shingles([texts[i] for i in used])
        rows = np.repeat(np.arange(len(used)), np.diff(np.r_[starts, len(values)]))
        distinct, columns = np.unique(values, return_inverse=True)
        table = csr_array((np.ones(len(rows), dtype=np.int32), (rows, columns)), shape=(len(used), len(distinct)))
        table.data[:] = 1  # how often a shingle stands in a text does not count
        i, j = where[: stop - start], where[stop - start :]
        common = np.asarray(table[i].multiply(table[j]).sum(axis=1)).ravel()
        sizes = np.diff(table.indptr)
        result[start:stop] = common / (sizes[i] + sizes[j] - common)
    return result


def _spans(costs: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield spans of texts, or of pairs, that cost about `_CHUNK` together."""
    before = np.r_[0, np.cumsum(costs)]
    start = 0
    while start < len(costs):
        stop = max(start + 1, int(np.searchsorted(before, before[start] + _CHUNK, side="right")) - 1)
        yield start, stop
        start = stop


def group_near(bands: Iterable[np.ndarray], rows: int, verify: Verify) -> np.ndarray:
    """Return a group number per row [rows]: rows joined by verified pairs, or by chains of them, share one.

    Args:
        bands: one array [rows] of bucket numbers per band.
        rows: how many rows there are.
        verify: tells of pairs (i, j), two arrays [m], which are near [m].
    """
    group = np.arange(rows)
    tried = np.array([-1])  # sorted
    for buckets in bands:
        left, right = bucket_pairs(buckets)
        apart = group[left] != group[right]
        codes = _distinct(np.minimum(left, right)[apart] * rows + np.maximum(left, right)[apart])
        codes = codes[tried[np.searchsorted(tried, codes, side="right") - 1] != codes]
        if not len(codes):
            continue
        tried = np.sort(np.concatenate([tried, codes]), kind="stable")  # two sorted runs: a merge
        left, right = codes // rows, codes % rows
        near = verify(left, right)
        # One graph over rows: the groups so far, each row tied to the first of its group, and the new pairs.
        first = np.unique(group, return_index=True)[1][group]
        ends = np.concatenate([first, right[near]]), np.concatenate([np.arange(rows), left[near]])
        graph = coo_array((np.ones(len(ends[0]), dtype=bool), ends), shape=(rows, rows))
        group = connected_components(graph, directed=False)[1]
    return group


def _distinct(values: np.ndarray) -> np.ndarray:
    """Return the distinct values, sorted; numpy 2.4's own `unique` hashes, which took ten times as long here."""
    ordered = np.sort(values)
    return ordered[np.r_[True, ordered[1:] != ordered[:-1]]] if len(ordered) else ordered


def bucket_pairs(buckets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of rows that share a bucket: all of them up to `WINDOW` rows, a connected part of them beyond."""
    order = np.argsort(buckets, kind="stable")
    ordered = buckets[order]
    left, right = [], []
    for step in range(1, min(WINDOW, len(order))):
        same = ordered[step:] == ordered[:-step]
        left.append(order[:-step][same])
        right.append(order[step:][same])
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(order) else np.empty(0, dtype=np.int64)
    sizes = np.diff(np.r_[starts, len(order)])
    within = np.arange(len(order)) - np.repeat(starts, sizes)
    far = within >= WINDOW
    left.append(order[np.repeat(starts, sizes)][far])
    right.append(order[far])
    return np.concatenate(left).astype(np.int64), np.concatenate(right).astype(np.int64)


TEXTS = Kind(
    name="text",
    look=look,
    check_of_faults="empty_or_truncated_texts",
    checks=(empty_or_truncated_texts,),
    groups=near_groups,
    alike="texts that share 80% of their runs of five characters",
    features=features,
)
