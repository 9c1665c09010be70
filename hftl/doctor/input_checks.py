"""Inputs that are missing, empty, cut off, broken, odd, or in the data more than once."""

from collections import Counter

import numpy as np
import pandas as pd

from hftl.doctor.findings import ACROSS, NO_KEY, NO_LABEL, Finding, Records, passed, plural, warned
from hftl.doctor.images import THUMB, ImageFacts, near_image_groups
from hftl.doctor.label_checks import missing_labels
from hftl.doctor.near_texts import near_text_groups


# From this share of a split's rows on, a fault moves the figures of the run: 1 point of accuracy. Ours.
SERIOUS = 0.01
_QUICK_TEXTS = 20_000  # in `hftl train`, near duplicates are looked for among up to so many different texts
# Texts are cut off where the longest length recurs: at least so many texts and this share of all have exactly it,
# and it is no natural length of short texts.
_PILE, _PILE_SHARE, _SHORTEST_CUT = 5, 0.01, 50
_ELLIPSES = ("...", "\u2026")  # a sign of a cut only in texts about as long as the longest
_NEAR_LONGEST = 0.9
TINY = 32  # pixels: the smallest side that hftl reads images at
_STRETCHED = 5.0  # times as long as wide
_USUAL_MODES = ("RGB", "L", "P", "1")
_FLAT = 1.0  # standard deviation of grey: one colour and nothing else


def missing_inputs(records: Records) -> np.ndarray:
    """Return a mask [n] of rows with no text or image at all."""
    if records.kind == "text":
        return np.array([text is None for text in records.texts], dtype=bool)
    return np.array([image.missing for image in records.images], dtype=bool)


def missing_values(records: Records) -> Finding:
    """Count the rows without an input or without a label."""
    inputs = np.flatnonzero(missing_inputs(records))
    labels = np.concatenate([*missing_labels(records).values(), np.empty(0, dtype=np.int64)])
    rows = np.union1d(inputs, labels)
    if not len(rows):
        return passed("missing_values")
    mend = (
        f"Fill them in ({plural(len(labels), 'label')}, {plural(len(inputs), records.kind)}) or remove the rows: "
        "--fix OUT removes them."
    )
    return records.finding("missing_values", "FAIL", rows, mend)


def empty_texts(records: Records) -> np.ndarray:
    """Return a mask [n] of texts of spaces only, or of nothing."""
    return np.array([text is not None and not text.strip() for text in records.texts], dtype=bool)


def cut_texts(texts: list[str]) -> np.ndarray:
    """Return a mask [n] of texts that look cut off.

    Either many have the very length of the longest, in characters or in bytes (a field that held no more), or one
    ends in an ellipsis after a letter and is about as long as the longest.
    """
    if not texts:
        return np.zeros(0, dtype=bool)
    cut = np.zeros(len(texts), dtype=bool)
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
    empty = np.flatnonzero(empty_texts(records))
    present = np.array([i for i, text in enumerate(records.texts) if text and text.strip()], dtype=np.int64)
    cut = present[cut_texts([str(records.texts[i]) for i in present])]
    if not len(empty) and not len(cut):
        return passed("empty_or_truncated_texts")
    parts = []
    if len(empty):
        parts.append(f"remove or fill in {plural(len(empty), 'empty text')} (--fix OUT removes them)")
    if len(cut):
        parts.append(f"look for the whole of {plural(len(cut), 'text that seems', 'texts that seem')} cut off")
    text = "; ".join(parts)
    level = warned(fails=bool(len(empty)))
    return records.finding("empty_or_truncated_texts", level, np.union1d(empty, cut), f"{text[0].upper()}{text[1:]}.")


def broken_images(records: Records) -> Finding:
    """Count the images that cannot be decoded."""
    broken = np.array([i for i, image in enumerate(records.images) if image.fault is not None], dtype=np.int64)
    if not len(broken):
        return passed("broken_images")
    share = max(len(rows) / records.within(split).sum() for split, rows in records.of(broken).items())
    reasons = Counter(_kind_of(str(records.images[i].fault)) for i in broken)
    counts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    mend = f"Repair or remove these files ({counts}): hftl leaves them out, and so does --fix OUT."
    return records.finding("broken_images", warned(fails=share >= SERIOUS), broken, mend)


def _kind_of(fault: str) -> str:
    """Return the fault in two words; the message itself may name the file."""
    if "no such file" in fault:
        return "not there"
    if "too large" in fault:
        return "too large"
    return "cut off" if "truncated" in fault.lower() else "unreadable"


def oddities(image: ImageFacts) -> list[str]:
    """Return what is unusual about an image that can be decoded."""
    odd = []
    short, long = min(image.width, image.height), max(image.width, image.height)
    if short < TINY:
        odd.append(f"a side below {TINY} pixels")
    if long > _STRETCHED * short:
        odd.append(f"more than {_STRETCHED:g} times as long as wide")
    if image.frames > 1:
        odd.append("several frames, of which the first is used")
    if image.mode not in _USUAL_MODES:
        odd.append(f"mode {image.mode}")
    if image.thumb is not None and image.thumb.std() < _FLAT and short > 1:
        odd.append("one colour only")
    return odd


def tiny_or_odd_images(records: Records) -> Finding:
    """Count the images of unusual size, shape or mode, those of several frames, and those of one colour."""
    of = {i: oddities(image) for i, image in enumerate(records.images) if image.fault is None and not image.missing}
    odd = np.array([i for i, oddness in of.items() if oddness], dtype=np.int64)
    if not len(odd):
        return passed("tiny_or_odd_images")
    kinds = Counter(kind for oddness in of.values() for kind in oddness)
    counts = ", ".join(f"{count:,}: {kind}" for kind, count in kinds.most_common())
    mend = (
        f"Check that these are the images you mean ({counts}); all are read as RGB, enlarged or squeezed to one size."
    )
    return records.finding("tiny_or_odd_images", "WARN", odd, mend)


def repeats(records: Records, mask: np.ndarray) -> np.ndarray:
    """Return the positions among `mask` [n] whose input stands there before."""
    positions = np.flatnonzero(mask & (records.key != NO_KEY))
    return positions[pd.Series(records.key[positions]).duplicated().to_numpy()]


def exact_duplicates(records: Records) -> Finding:
    """Count the rows whose input stands in the same split before, whatever their labels."""
    again = np.concatenate([repeats(records, records.within(split)) for split in records.splits])
    if not len(again):
        return passed("exact_duplicates")
    return records.finding(
        "exact_duplicates", "WARN", again, "Keep one row of each: --fix OUT removes the copies, but none from test."
    )


def standing_earlier(records: Records) -> dict[str, np.ndarray]:
    """Return, for validation and test, the positions whose input also stands in a split before it."""
    copies = {}
    for code, split in enumerate(records.splits[1:], start=1):
        earlier = records.key[records.split < code]
        here = np.flatnonzero((records.split == code) & (records.key != NO_KEY))
        copies[split] = here[np.isin(records.key[here], earlier[earlier != NO_KEY])]
    return copies


def cross_split_duplicates(records: Records) -> Finding:
    """Count the rows of validation that stand in train, and those of test that stand in train or validation."""
    copies = standing_earlier(records)
    positions = np.concatenate([*copies.values(), np.empty(0, dtype=np.int64)])
    if not len(positions):
        return passed("cross_split_duplicates")
    shares = [len(rows) / records.within(split).sum() for split, rows in copies.items()]
    mend = (
        f"They make the scores too good, {max(shares):.1%} of a split at most: "
        "--fix OUT removes their copies from the earlier split, never from test."
    )
    return records.finding("cross_split_duplicates", warned(fails=max(shares) >= SERIOUS), positions, mend)


def conflict_positions(records: Records, mask: np.ndarray) -> np.ndarray:
    """Return the positions among `mask` [n] whose input stands there under another label as well."""
    positions = np.flatnonzero(mask & (records.key != NO_KEY) & (records.label != NO_LABEL))
    labels = pd.Series(records.label[positions]).groupby(records.key[positions])
    return positions[(labels.transform("nunique") > 1).to_numpy()]


def conflicting_labels(records: Records) -> Finding:
    """Count the inputs with several labels: within each split, and those that only differ from split to split."""
    inside = {split: conflict_positions(records, records.within(split)) for split in records.splits}
    every = conflict_positions(records, np.ones(len(records), dtype=bool))
    if not len(every):
        return passed("conflicting_labels")
    counts = {split: len(np.unique(records.key[rows])) for split, rows in inside.items() if len(rows)}
    seen = np.concatenate([records.key[rows] for rows in inside.values()])
    across = len(np.setdiff1d(records.key[every], seen))
    if across:
        counts[ACROSS] = across
    share = max((len(rows) / records.within(split).sum() for split, rows in inside.items()), default=0)
    mend = (
        f"Decide which label is right ({plural(len(every), 'row')} in question): --fix OUT keeps the label that more than "
        "half of the copies have, or none of them without such a majority; in test you have to decide."
    )
    return records.finding("conflicting_labels", warned(fails=share >= SERIOUS), every, mend, counts)


def near_duplicates(records: Records) -> Finding | None:
    """Count the rows that are nearly the same as a row before them; exact copies are left to the other checks.

    None where a quick look would take too long.
    """
    usable = np.flatnonzero(records.key != NO_KEY)
    first = usable[~pd.Series(records.key[usable]).duplicated().to_numpy()]  # one row of each input
    if records.kind == "image":
        first = np.array([i for i in first if records.images[i].thumb is not None], dtype=np.int64)
        if records.quick and not len(first) and len(usable):
            return None
        images = [records.images[i] for i in first]
        small = np.array([min(image.width, image.height) < THUMB for image in images], dtype=bool)
        group = near_image_groups([image.thumb for image in images if image.thumb is not None], small)
    elif records.quick and len(first) > _QUICK_TEXTS:
        return None
    else:
        group = near_text_groups([str(records.texts[i]) for i in first])
    again = first[pd.Series(group).duplicated().to_numpy()]
    if not len(again):
        return passed("near_duplicates")
    what = (
        "texts that share 80% of their runs of five characters" if records.kind == "text" else "images that look alike"
    )
    mend = f"Look at them ({what}): copies in test make the scores too good, copies in train count twice."
    return records.finding("near_duplicates", "WARN", again, mend)
