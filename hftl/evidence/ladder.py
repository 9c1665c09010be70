"""The ladder: what simpler models reach on the very same test rows, from the majority class up to the run's method."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset
from sklearn.model_selection import StratifiedKFold

from hftl.evaluation import CV_FOLDS
from hftl.evaluation.baselines import Baseline, best_baseline
from hftl.evaluation.bootstrap import Interval
from hftl.evaluation.logistic import Probe
from hftl.evaluation.verdict import Comparison
from hftl.evidence.advice import Pretraining
from hftl.evidence.frozen_maps import Controlled
from hftl.evidence.scene import Control, Scene
from hftl.models.heads import without_bias
from hftl.prepare import Prepared
from hftl.probing import probe_of
from hftl.tasks.ragged import in_memory, in_order, values_of
from hftl.tasks.scores import gap, measure, score_answers
from hftl.tasks.task import Encoded, Output, Task
from hftl.terminal import progress


# Spread of the random features under which their signal has died out: EfficientNet's is 1e-29 (batch norms that have
# seen no data shrink it block by block), MiniLM's .1.
DEAD = 1e-6
PROBE_NAME = "probe on frozen features"
ENOUGH = 2 * CV_FOLDS  # rows that a class needs: in two of three folds, and in the folds within them that choose C


@dataclass(frozen=True, eq=False)
class Rung:
    """One model on the ladder: its answers to the test rows, its headline score, and its entry in report.json."""

    answers: Any  # in the form of targets, [n, ...]
    score: float
    report: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Ladder:
    """All rungs as they stand in report.json, from the bottom, and those that something rests on."""

    rungs: list[Rung]
    majority: Rung
    best: Rung  # of those without pretraining the best in cross-validation on training rows: the one that counts
    neighbours: Rung | None  # None where every pixel is answered
    probe: Rung
    method: Rung
    best_baseline: Baseline  # that of `best`
    pretraining: Pretraining | None


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows as they were read, and as the model reads them."""

    table: Dataset
    encoded: Encoded


def no_pretraining_baselines(task: Task, train: Rows, test: Rows) -> list[Baseline]:
    """Fit the task's baselines on `train` and let them answer `test`; `best_baseline` says which one counts."""
    inputs = task.inputs
    if inputs.raw is None:
        rows = [inputs.values(part.table) for part in (train, test)]
    else:
        rows = [inputs.raw(part.encoded) for part in (train, test)]
    kinds = inputs.features
    if rows[1] is None:  # nothing that such models could read
        kinds, rows = (), [train.table, test.table]
    baselines: list[Baseline] = task.output.plain(kinds, rows[0], train.encoded.targets, rows[1])
    return baselines


@dataclass(frozen=True, eq=False)
class Scale:
    """By what the rungs are measured: the test rows' targets."""

    output: Output
    targets: Any
    labels: tuple[str, ...]

    def rung(self, name: str, kind: str, answers: Any, seconds: float, note: str = "") -> Rung:
        """Return the rung of a model that gives `answers`."""
        scores = score_answers(self.output, answers, self.targets, self.labels)
        report = {"name": name, "kind": kind, **scores, "seconds": round(seconds, 3)}
        return Rung(answers, scores[self.output.headline]["value"], {**report, "note": note} if note else report)


def build_ladder(scene: Scene) -> Ladder:
    """Fit every rung on the training rows and score it on the test rows."""
    ready, base = scene.ready, scene.before
    task, splits = ready.task, ready.splits
    scale = Scale(task.output, base.test.targets, splits.labels)
    baselines = no_pretraining_baselines(task, Rows(splits.train, ready.train), Rows(splits.test, base.test))
    plain = [
        scale.rung(b.name, "no-pretraining" if i else "majority", b.predictions, b.seconds)
        for i, b in enumerate(baselines)
    ]
    controls, pretraining = [], None
    neighbours: Rung | None = None
    if base.maps is not None:
        probe = scale.rung(PROBE_NAME, "features", base.maps.answers, base.maps.seconds)
    else:
        neighbours, probe = _frozen_rungs(scene, scale)
    tried = _random_answers(scene)
    if tried is not None:
        rung, pretraining = _random_rung(tried, scene)
        controls.append(rung)
    name = f"{ready.config.method.method} ({ready.loaded.name})"
    method = scale.rung(name, "method", scene.answers, scene.run.seconds["features"] + scene.run.seconds["train"])
    rungs = [*plain, *controls, *([neighbours] if neighbours else []), probe]
    if scene.control is not None:
        rungs.append(_scratch_rung(scene, scale, scene.control))
    best = best_baseline(baselines)
    return Ladder(
        [*rungs, method], plain[0], plain[baselines.index(best)], neighbours, probe, method, best, pretraining
    )


def _scratch_rung(scene: Scene, scale: Scale, control: Control) -> Rung:
    """The same architecture from random weights, and by how much the run is ahead of it, row by row."""
    ahead = gap(scale.output, scene.answers, control.answers, scale.targets, scale.labels)
    words = scale.output.written().gap(Interval(ahead.gap, ahead.low, ahead.high))
    note = f"{control.note}; the run against it: {ahead.label}, {words}"
    return scale.rung("trained from random weights", "control", control.answers, control.seconds, note)


def _frozen_rungs(scene: Scene, scale: Scale) -> tuple[Rung, Rung]:
    """Neighbours and the best probe on the frozen features."""
    ready, base, seen = scene.ready, scene.before, scene.seen
    task, features, targets = ready.task, seen.features["train"], ready.train.targets
    # The best probe there is, whatever head the run's method needs: of a text it may read the mean of the states.
    assert task.output.neighbours is not None
    every = set(seen.probe.cv_accuracy) == set(features)
    best_probe = seen.probe if every else _fit_best(features, targets, ready)
    train, test = (in_memory(arrays[best_probe.pooling]) for arrays in (features, base.features))
    start = time.perf_counter()
    near = task.output.neighbours(train, targets, test)
    near_seconds = time.perf_counter() - start + base.features_seconds
    neighbours = scale.rung("kNN on frozen features", "features", near, near_seconds)
    answers, probe_seconds = task.output.decode(best_probe.logits(test)), best_probe.seconds + base.features_seconds
    probe = scale.rung(PROBE_NAME, "features", answers, probe_seconds)
    return neighbours, probe


def _fit_best(features: dict[str, np.ndarray], targets: Any, ready: Prepared) -> Probe:
    no_bias = without_bias(ready.loaded.model, ready.loaded.outputs)
    n, seed = len(ready.splits.labels), ready.config.train_seed
    probe: Probe = ready.task.output.probe(features, targets, n, "auto", seed, ready.weights, no_bias)
    return probe


def _random_answers(scene: Scene) -> Controlled | None:
    """The answers of a probe on random weights, and of one on the pretrained weights that learned from the same rows."""
    base, features, output = scene.before, scene.seen.features.get("train", {}), scene.ready.task.output
    if base.maps is not None:
        return base.maps.control
    random = base.random
    if random is None:
        return None
    targets = scene.ready.train.targets[random.train_rows]
    probe = _fit_best(random.train, targets, scene.ready)
    answers = output.decode(probe.logits(random.test[probe.pooling]))
    alike = _fit_best({k: in_memory(v[random.train_rows]) for k, v in features.items()}, targets, scene.ready)
    same = output.decode(alike.logits(in_memory(base.features[alike.pooling][random.test_rows])))
    dead = float(values_of(random.train[probe.pooling]).std(0).max())
    return Controlled(random.train_rows, random.test_rows, answers, same, dead, probe.seconds + random.seconds)


def _random_rung(tried: Controlled, scene: Scene) -> tuple[Rung, Pretraining]:
    """The probe on random weights, and beside it one on the pretrained weights, fitted and scored on the same rows.

    Fewer rows alone make a probe worse, so the two are compared with each other only.
    """
    ready, base = scene.ready, scene.before
    output, labels = ready.task.output, ready.splits.labels
    fitted, references = len(tried.train_rows), base.test.targets[tried.test_rows]
    scale = Scale(output, references, labels)
    pretrained = scale.rung("", "", tried.pretrained, 0.0).score
    notes = []
    if fitted < len(ready.train.targets) or len(references) < len(base.test.targets):
        notes.append(
            f"fitted on {fitted:,} of the training rows and scored on {len(references):,} of the test rows, where "
            f"the pretrained weights reach {output.written().value(pretrained)}"
        )
    if tried.dead < DEAD:
        notes.append("untrained, this architecture puts out the same for every row: no measure of the architecture")
    rung = scale.rung("probe, random weights", "control", tried.answers, tried.seconds, "; ".join(notes))
    difference = gap(output, tried.pretrained, tried.answers, references, labels)
    return rung, Pretraining(pretrained, rung.score, difference, fitted, len(references))


def compare(ready: Prepared, rows: np.ndarray, features: dict[str, np.ndarray]) -> Comparison | None:
    """Cross-validate the probe and the best baseline in three folds of the training rows numbered `rows`.

    `features` are of those rows, by pooling. Each chooses its penalty, and the probe its pooling, inside the two folds
    that it learns from, so that neither has seen what it is scored on. Classes of fewer than six rows sit this out;
    None when fewer than two are left.
    """
    task, labels = ready.task, ready.splits.labels
    targets = ready.train.targets[rows]
    strata, count = ready.strata[0][rows], ready.strata[1]
    enough = np.bincount(strata, minlength=count) >= ENOUGH
    if enough.sum() < min(2, count):
        return None
    places = np.flatnonzero(enough[strata])
    by_probe, by_baseline, held_out, name = [], [], [], ""
    folds = StratifiedKFold(CV_FOLDS, shuffle=True, random_state=ready.config.train_seed).split(places, strata[places])
    for learn, held in progress(folds, "probe against baseline", "fold", CV_FOLDS):
        a, b = places[learn], places[held]
        held_out.append(held)
        probe = probe_of(features, targets, a, ready)
        by_probe.append(task.output.decode(probe.logits(features[probe.pooling][b])))
        train, test = (Rows(ready.splits.train.select(rows[part]), ready.train.take(rows[part])) for part in (a, b))
        best = best_baseline(no_pretraining_baselines(task, train, test))
        name = best.name
        by_baseline.append(best.predictions)
    scored = (targets[places], labels)
    output = task.output
    both = [in_order(parts, held_out) for parts in (by_probe, by_baseline)]
    ours, plain = (measure(output, answers, *scored)[output.headline] for answers in both)
    difference = gap(output, both[0], both[1], *scored)
    interval = Interval(difference.gap, difference.low, difference.high)
    return Comparison(len(places), name, ours, plain, interval)
