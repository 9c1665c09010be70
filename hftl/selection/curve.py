"""`hftl curve`: how the score grows with the training rows, beside the baseline without pretraining."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from hftl.adapt import config_of
from hftl.config import RunConfig
from hftl.data.splits import sample
from hftl.errors import ConfigError, DataError
from hftl.evaluation.baselines import best_baseline
from hftl.evaluation.bootstrap import RESAMPLES, ends, kinds_of, resampled
from hftl.evaluation.scale import Scale
from hftl.evidence.frozen_maps import probed
from hftl.evidence.ladder import Rows, no_pretraining_baselines
from hftl.models.heads import without_bias
from hftl.objects import for_python
from hftl.prepare import Prepared, prepare
from hftl.probing import frozen_features
from hftl.report.charts import scatter
from hftl.report.statements import counted
from hftl.selection.page import Section, model_on, write_selection
from hftl.selection.trials import answers_of, in_folder, named_methods, report_of, trial
from hftl.tasks.ragged import in_memory
from hftl.tasks.task import Output
from hftl.terminal import progress
from hftl.values import FEWEST_SIZES, check_bounds


if TYPE_CHECKING:
    from hftl.flags import RunFlags


LAW = "a - b rows^-c"
SOURCE = "a power law, as Hestness et al. (2017) found and Viering and Loog (2022, section 4) review"
BASELINE = "no pretraining"  # among the methods
REACH = 4.0  # times the rows there are; farther the law is not trusted
_LEAST_ROWS = 8
_RATES = np.geomspace(0.05, 2.0, 200)  # c: from nearly a line in log n to a curve that is soon flat
_Subset = tuple[int, np.ndarray]  # number of the draw, positions among the training rows


@for_python
def curve(
    task: str | None = None,
    method: Sequence[str] | str = "probe",
    sizes: int = 5,
    draws: int = 5,
    **values: "Unpack[RunFlags]",
) -> dict[str, Any]:
    """Return how the score of methods, and of the baseline, grows with the training rows, as docs/compare.md lists it.

    The sizes are all rows, a half of them, a quarter and so on, each drawn `draws` times. `values` are the arguments of
    `adapt`. Raises an `HftlError` as `adapt` does, and for too few rows.
    """
    methods = named_methods(method)
    check_bounds("sizes", sizes)
    check_bounds("draws", draws)
    config = replace(config_of(task, {**values}), evidence="off")
    if config.data.shots is not None:
        raise ConfigError("A curve draws rows of its own: leave --shots out.")
    config = in_folder(config, "curve")
    ready = prepare(trial(config, "probe", "probe", methods))
    subsets = subsets_of(ready, sizes, draws)
    output, splits, n = ready.task.output, ready.splits, len(ready.train.targets)
    truth, counts = (output.gather(splits.test["label"][:]), splits.labels), sorted({len(r) for _, r in subsets})
    picks = np.random.default_rng(1).integers(0, draws, (draws, RESAMPLES))
    scores: dict[str, np.ndarray] = {}
    for name, answer in _answering(ready, config, methods).items():
        tried = progress(subsets, name, "subset")
        drawn = [(len(part[1]), resampled_score(output, answer(part), *truth)) for part in tried]
        by_size = ([score for size, score in drawn if size == count] for count in counts)
        scores[name] = np.stack([over_draws(np.stack(of_size), picks) for of_size in by_size])
    document = {
        **{"data": splits.name, "model": ready.loaded.name, "folder": str(config.output_dir)},
        **{"score": output.headline, "test_rows": len(splits.test), "rows": n, "draws": draws},
        **findings(scores, np.array(counts) / n, n),
    }
    _write(document, output.written())
    return document


def subsets_of(ready: Prepared, sizes: int, draws: int) -> list[_Subset]:
    """Draw stratified parts of the training rows. In one draw each is a part of the next: a half loses no stratum, and
    of none more rows than it has. Raises `DataError` for too few rows.
    """
    (ids, strata), first = ready.strata, ready.config.data
    n, least = len(ids), max(_LEAST_ROWS, len(np.unique(ids)))
    halves = [n // 2**k for k in range(sizes) if n // 2**k >= least]
    if len(halves) < FEWEST_SIZES:
        raise DataError(
            f"{n} training rows are too few for a curve: it takes {least * 2 ** (FEWEST_SIZES - 1)} or more."
        )
    seed = (first.seed if first.draw_seed is None else first.draw_seed) + 2  # as `--max_train_samples` draws
    return [
        (d, sample(ids, strata, size, seed + d, every_class=True))
        for size in halves
        for d in range(draws if size < n else 1)
    ]


def _answering(ready: Prepared, config: RunConfig, methods: Sequence[str]) -> dict[str, Callable[[_Subset], Any]]:
    """Return by method what answers the test rows after learning from a subset: the probe reads the features of one
    forward pass, other methods are runs in folders of their own.
    """
    task, splits, loaded, labels = ready.task, ready.splits, ready.loaded, ready.splits.labels
    test = task.encode(splits.test, loaded.processor)
    dense = task.output.keep is not None  # whole maps are answered, not features
    features, _ = frozen_features(ready, {"train": ready.train} if dense else {"train": ready.train, "test": test})
    train, held = ({k: in_memory(v) for k, v in features.get(part, {}).items()} for part in ("train", "test"))
    no_bias, seed = without_bias(loaded.model, loaded.outputs), ready.config.train_seed

    def probe(subset: _Subset) -> Any:
        rows, pooling = subset[1], ready.config.method.pooling
        known = ({k: v[rows] for k, v in train.items()}, ready.train.targets[rows], len(labels))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of classes with a row or two
            fitted = task.output.probe(*known, pooling, seed, ready.weights, no_bias)
        if dense:
            return probed(ready, loaded, fitted, test, "test, probe")
        return task.output.decode(fitted.logits(held[fitted.pooling]))

    def baseline(subset: _Subset) -> Any:
        learn = Rows(splits.train.select(subset[1]), ready.train.take(subset[1]))
        return best_baseline(no_pretraining_baselines(task, learn, Rows(splits.test, test))).predictions

    def run_of(method: str) -> Callable[[_Subset], Any]:
        def answer(subset: _Subset) -> Any:
            data, (draw, rows) = config.data, subset
            seed = (data.seed if data.draw_seed is None else data.draw_seed) + draw
            part = replace(config, data=replace(data, max_train_samples=len(rows), draw_seed=seed))
            one = trial(part, method, f"{method}-{len(rows)}-{draw + 1}", methods)
            return answers_of(one, report_of(one), splits)

        return answer

    return {**{name: probe if name == "probe" else run_of(name) for name in methods}, BASELINE: baseline}


def resampled_score(output: Output, answers: Any, targets: Any, names: Sequence[str]) -> np.ndarray:
    """Return the headline score [1 + b]: of all rows, and of b resamples of them, the same for all answers to them."""
    kinds, score = kinds_of(output.statistics(answers, targets, names)), output.scores[output.headline]
    drawn = resampled(kinds, RESAMPLES, np.random.default_rng(0))
    return np.concatenate([score(kinds.sums), *(score(counts @ kinds.statistics) for counts in drawn)])


def over_draws(scores: np.ndarray, picks: np.ndarray) -> np.ndarray:
    """Return the mean [1 + b] of scores [draws, 1 + b]: of all draws, and in each resample of those in `picks`."""
    drawn = scores[picks % len(scores), 1 + np.arange(picks.shape[1])].mean(axis=0)
    return np.append(scores[:, 0].mean(), drawn)


def fit_law(shares: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a, b and c [m] of a - b share^-c by least squares, for `scores` [k, m] at `shares` [k] of the rows.

    b is 0 or more (more rows do no harm), a at most 1 (no score is higher), c the best of `_RATES`.
    """
    fits = []
    for c in _RATES:
        x = shares**-c
        centred = x - x.mean()
        b = np.maximum(0.0, -(centred @ scores) / (centred @ centred))
        a = scores.mean(axis=0) + b * x.mean()
        b = np.where(a > 1, np.maximum(0.0, x @ (1 - scores)) / (x @ x), b)  # the best one where a is 1
        a = np.minimum(a, 1.0)
        fits.append((((a - b * x[:, None] - scores) ** 2).sum(axis=0), a, b, np.full_like(a, c)))
    table = np.array(fits)
    best = table[:, 0].argmin(axis=0)
    a, b, c = (table[best, i, np.arange(scores.shape[1])] for i in (1, 2, 3))
    return a, b, c


def _interval(values: np.ndarray) -> dict[str, float]:
    return dict(zip(("value", "low", "high"), (float(values[0]), *ends(values[1:])), strict=True))


def findings(scores: dict[str, np.ndarray], shares: np.ndarray, n: int) -> dict[str, Any]:
    """Return the points of every method, the law fitted to each, and the rows with which the baseline is as good.

    `scores` [sizes, 1 + b] are by method, of the data and of its resamples; `shares` [sizes] of the `n` rows.
    """
    laws = {name: fit_law(shares, values) for name, values in scores.items()}
    curves: dict[str, Any] = {}
    for name, (a, b, c) in laws.items():
        curves[name] = {"a": float(a[0]), "b": float(b[0] * n ** c[0]), "c": float(c[0])}
        curves[name]["doubling"] = _interval(b * (1 - 2**-c))
        curves[name]["foretold"] = None
        if len(shares) > FEWEST_SIZES:  # what the smaller sizes would have foretold of the largest
            a, b, _ = fit_law(shares[:-1], scores[name][:-1])
            curves[name]["foretold"] = _interval(a - b)
    points = []
    for name, values in scores.items():
        for share, drawn in zip(shares, values, strict=True):
            needed = None if name == BASELINE else _rows_needed(laws[BASELINE], drawn, shares[0])
            rows = needed and {k: v and round(v * n) for k, v in needed.items()}
            points.append({"rows": round(share * n), "method": name, **_interval(drawn), "baseline_rows": rows})
    last = points[len(shares) - 1]["baseline_rows"]  # of the first method with all rows
    fit = {"law": LAW, "source": SOURCE, "curves": curves}
    return {"points": points, "fit": fit, "baseline_rows": last and last["value"]}


def _rows_needed(law: tuple[np.ndarray, ...], scores: np.ndarray, least: float) -> dict[str, float | None] | None:
    """Return the share of the rows at which the law reaches a score, with its interval; None outside of what it is
    trusted for: from the `least` share that was tried to `REACH`.
    """
    a, b, c = law
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where((a > scores) & (b > 0), ((a - scores) / b) ** (-1 / c), np.where(a >= scores, 0.0, np.inf))
    value = float(shares[0])
    if not least <= value <= REACH:
        return None
    low, high = np.quantile(shares[1:], [0.025, 0.975], method="inverted_cdf")
    return {"value": value, "low": max(float(low), least), "high": float(high) if high <= REACH else None}


def _sentences(document: dict[str, Any], scale: Scale) -> list[str]:
    """Say what twice the labels would bring, and how many rows the baseline needs for the same score."""
    says, n, fits = [], document["rows"], document["fit"]["curves"]
    by_method = {name: [p for p in document["points"] if p["method"] == name] for name in fits}
    for name, points in by_method.items():
        gain, low, high = scale.gaps(*fits[name]["doubling"].values())
        says.append(f"Twice the labels, {name}: {gain}{scale.unit} of {scale.name} (95% {low} to {high}).")
        if fits[name]["foretold"]:
            value, *ends_of = fits[name]["foretold"].values()
            told = f"the smaller sizes foretold {scale.value(value)} (95% {scale.bounds(*ends_of)})"
            says[-1] += f" Of {n:,} rows {told}; it is {scale.value(points[-1]['value'])}."
        known = [p for p in points if p["baseline_rows"]]
        if known:
            rows, (value, low, high) = known[-1]["rows"], known[-1]["baseline_rows"].values()
            bounds = f"{low:,} to {high:,}" if high else f"{low:,} or more"
            times = f"{value / rows:.1f} times as many: {value:,} (95% {bounds})"
            says.append(f"Without pretraining, the score of {name} with {rows:,} rows takes {times}.")
        if name != BASELINE and not points[-1]["baseline_rows"]:
            less = by_method[BASELINE][0]["value"] >= points[-1]["value"]
            needs = (
                "fewer than were tried"
                if less
                else f"more than {REACH:g} times as many; farther its law is not trusted"
            )
            says.append(f"Without pretraining, the score of {name} with {n:,} rows takes {needs}.")
    return says


def _write(document: dict[str, Any], scale: Scale) -> None:
    """Write the JSON and the page of a curve."""
    points, laws, n = document["points"], document["fit"]["curves"], document["rows"]
    document["says"] = _sentences(document, scale)
    kinds = {BASELINE: "no-pretraining", "probe": "features"}
    words = [{"at": f"{p['rows']:,} rows", "label": p["method"] if p["rows"] == n else ""} for p in points]
    dots = [
        {**p, **said, "x": p["rows"], "name": p["method"], "kind": kinds.get(p["method"], "method")}
        for p, said in zip(points, words, strict=True)
    ]
    xs = np.geomspace(min(p["rows"] for p in points), 2 * n, 60)
    lines = [[{"x": x, "value": law["a"] - law["b"] * x ** -law["c"]} for x in xs] for law in laws.values()]
    cells = {(p["rows"], p["method"]): (scale.value(p["value"]), scale.bounds(p["low"], p["high"])) for p in points}
    grown = Section(
        "rows",
        "How does the score grow with the rows?",
        f"Each mark: the mean of {counted(document['draws'], 'draw', 'draws')} of so many training rows (all: one), on the same "
        f"{document['test_rows']:,} test rows; its bar: the 95% interval over draws and test rows. Dashed: {LAW}, {SOURCE}.",
        scatter(
            dots,
            [("var(--muted)", line) for line in lines],
            ("training rows", scale.name),
            f"{scale.heading} against training rows. {' '.join(document['says'])}",
            scale,
        ),
        heads=["Rows", *(f">{name}" for name in laws)],
        rows=[
            (f"{rows:,}", *(cells[rows, name] for name in laws)) for rows in dict.fromkeys(p["rows"] for p in points)
        ],
        notes=document["says"],
    )
    write_selection("curve", "What more labels would bring", model_on(document), document, [grown])
