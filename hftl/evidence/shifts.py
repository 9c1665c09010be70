"""Signs that the splits are not drawn alike: other class shares in test than in train, another score than in validation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import ndtri
from scipy.stats import chi2_contingency

from hftl.data.columns import shortened
from hftl.evaluation.bootstrap import unpaired_p
from hftl.evidence.scene import Scene


ALPHA = 0.01  # validation has chosen the checkpoint, and is a little too good as a rule: not 5%. Ours
_EXPECTED = 5.0  # rows of a class in either split, below which chi-squared is no good (Cochran 1954)
_NAMED = 5  # classes in a note


def class_shares(train: np.ndarray, test: np.ndarray, names: Sequence[str]) -> dict[str, Any] | None:
    """Return the classes of which train and test have other shares by more than chance, the largest gap first.

    `train` and `test` [k] count the rows of each class. `p` is that of a chi-squared test of all classes, the rare ones
    taken together; a class is named when a test of it against all others says so too (Bonferroni). None where p is
    `ALPHA` or more.
    """
    table = np.stack([train, test]).astype(np.float64)
    totals, shares = table.sum(axis=1), table.sum(axis=0) / table.sum()
    rare = totals.min() * shares < _EXPECTED
    columns = [column for column in (*table[:, ~rare].T, table[:, rare].sum(axis=1)) if column.any()]
    p = float(chi2_contingency(np.stack(columns, axis=1)).pvalue) if len(columns) > 1 else 1.0
    if p >= ALPHA:
        return None
    first, second = table / totals[:, None]
    with np.errstate(invalid="ignore"):
        z = abs(first - second) / np.sqrt(shares * (1 - shares) * (1 / totals).sum())
    differ = [i for i in np.flatnonzero(z > ndtri(1 - ALPHA / len(columns) / 2)).tolist() if not rare[i]]
    differ.sort(key=lambda i: -abs(first[i] - second[i]))
    return {"p": p, "classes": [{"label": names[i], "train": first[i], "test": second[i]} for i in differ]}


def shifts(scene: Scene) -> tuple[dict[str, Any] | None, list[str]]:
    """Return the `class_shares` of a run, None for other answers than classes; and what to say about the splits."""
    output, names = scene.ready.task.output, scene.ready.splits.labels
    shares, notes = None, []
    if output.single:
        learnt, tested = (np.bincount(ids, minlength=len(names)) for ids in (scene.ready.train.targets, scene.targets))
        shares = class_shares(learnt, tested, names)
    if shares:
        listed = [f"{shortened(c['label'])} {c['train']:.1%} and {c['test']:.1%}" for c in shares["classes"][:_NAMED]]
        said = f"Train and test have other class shares by more than chance (p = {shares['p']:.2g})"
        notes.append(f"{': '.join([said, *filter(None, [', '.join(listed)])])}.")
    validated = output.decode(scene.outcome.logits["validation"])
    first = output.statistics(validated, scene.ready.validation.targets, names)
    second = output.statistics(scene.answers, *scene.truth)
    score, scale = output.scores[output.headline], output.written()
    p = unpaired_p(first, second, score)
    if p < ALPHA:
        validation, test = (float(score(part.sum(axis=0)[None])[0]) for part in (first, second))
        apart = f"{scale.heading} {scale.value(validation)} on validation, {scale.value(test)} on test"
        why = ": do train and validation share objects, persons or sources? --group_column keeps those apart"
        better = (validation > test) is not (output.headline in output.smaller)
        notes.append(f"{apart}: that is more than chance (p = {p:.2g}){why if better else ''}.")
    return shares, notes
