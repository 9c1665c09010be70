"""Classes that a mirror turns into one another: there, mirroring while training makes wrong examples."""

import re
from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest

from hftl.evaluation.folds import held_out_folds
from hftl.evaluation.neighbours import nearest_neighbours


ROWS = 1_000  # images that are looked at in a mirror: about 100 of each of ten classes
ALPHA = 0.01  # chance of a false alarm, over all pairs of classes. Ours
_SIDES = {"left": "right", "right": "left"}
_NAMED = 3  # classes in a sentence


def turned(names: Sequence[str], thumbs: np.ndarray | None, targets: np.ndarray) -> list[str]:
    """Return for each class that is another one in a mirror which one; none for most data.

    The names say so where left and right change places in them; else the images do, `thumbs` as in `turned_by_pixels`.
    """
    known = {name.lower(): name for name in names}
    other = {name: known.get(re.sub("left|right", lambda side: _SIDES[side[0]], name.lower())) for name in names}
    said = [f"{name!r:.42} is like {like!r:.42} by name" for name, like in other.items() if like not in (None, name)]
    if said or thumbs is None or not len(thumbs):
        return said
    pixels = turned_by_pixels(thumbs, targets)
    return [f"{names[a]!r:.42} is like {names[b]!r:.42} ({share:.0%} of its rows)" for a, b, share in pixels]


def in_words(said: Sequence[str]) -> str:
    """Return the first of what `turned` returned as the beginning of a sentence; "" for none."""
    return f"In a mirror {', '.join(said[:_NAMED])}{', ...' if len(said) > _NAMED else ''}" if said else ""


def turned_by_pixels(thumbs: np.ndarray, targets: np.ndarray) -> list[tuple[int, int, float]]:
    """Return (class, other class, share of its images) for each class that is nearer to another one in a mirror.

    `thumbs` [n, side, side] are small and grey, of the classes `targets` [n]. Images and their mirror images are answered
    by the nearest neighbours among images of other folds as they are. A class is named when most of its images find it,
    its mirror images find another one more often, and a sign test (`ALPHA`, Bonferroni) says that the mirror makes the
    difference. Features of a pretrained network would not do: it learned to see no difference (docs/log.md).
    """
    rows = np.sort(np.random.default_rng(0).permutation(len(targets))[:ROWS])
    targets, images = targets[rows], thumbs[rows].astype(np.float32)
    images -= images.mean(axis=(1, 2), keepdims=True)
    straight, mirrored = (view.reshape(len(rows), -1) for view in (images, images[:, :, ::-1]))
    plain, after = np.full(len(rows), -1), np.full(len(rows), -1)
    for fit, held in held_out_folds(len(rows), 0, targets):
        queries = np.concatenate([straight[held], mirrored[held]])
        plain[held], after[held] = np.split(nearest_neighbours(straight[fit], targets[fit], queries), 2)
    classes, found = np.unique(targets).tolist(), []
    for name in classes if len(classes) > 1 else ():
        here = targets == name
        own, counts = int((after[here] == name).sum()), np.bincount(after[here & (after >= 0) & (after != name)])
        like = int(counts.argmax()) if len(counts) else name
        lost, gained = (int((here & (a == like) & (b != like)).sum()) for a, b in ((after, plain), (plain, after)))
        p = binomtest(lost, lost + gained, alternative="greater").pvalue if lost else 1.0
        known = 2 * (plain[here] == name).sum() > here.sum()
        if known and p < ALPHA / (len(classes) * (len(classes) - 1)) and counts[like] > own:
            found.append((name, like, float(counts[like] / here.sum())))
    return found
