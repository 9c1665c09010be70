"""`hftl compare`: every figure is that of a run, and runs that exist are taken."""

import csv
import json
import mmap
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import hftl
from hftl.errors import RunError
from hftl.training.memory import forget_peak, peak_bytes
from tests.command import hftl as command
from tests.selection.conftest import answer_of, words_of


def report(folder, method):
    return json.loads((folder / "compared" / method / "report.json").read_text())


def test_the_figures_are_those_of_the_runs(compared, folder):
    assert {row["method"] for row in compared["methods"]} == {"probe", "full"}
    assert compared["best"] == compared["methods"][0]["method"]
    for row in compared["methods"]:
        run = report(folder, row["method"])
        assert {k: row[k] for k in ("value", "low", "high")} == run["metrics"]["test"]["accuracy"]
        assert row["kept"] == run["evidence"]["forgetting"]["kept"]
        assert row["ece"] == run["evidence"]["calibration"]["after"]["ece"]
        assert row["peak_mb"] == run["environment"]["peak_mb"] > 50
        files = [f for f in (folder / "compared" / row["method"] / "final").rglob("*") if f.is_file()]
        assert row["disk_mb"] == pytest.approx(sum(f.stat().st_size for f in files) / 1e6, abs=0.06)
        assert row["seconds"] >= round(run["timing"]["train_seconds"], 1)
        assert row["sd"] is None
    shares = {row["method"]: row["trained_share"] for row in compared["methods"]}
    assert shares["full"] == 1
    assert 0 < shares["probe"] < 0.1


def answers(folder, method):
    rows = list(csv.DictReader((folder / "data" / "test.csv").open()))
    predicted = hftl.load(folder / "compared" / method).predict([row["text"] for row in rows])
    return np.array([p.label == row["label"] for p, row in zip(predicted, rows, strict=True)])


def test_the_test_is_paired(compared, folder):
    """Against McNemar's mid-p, computed here from the answers of the saved models."""
    right = {method: answers(folder, method) for method in ("probe", "full")}
    best, other = (row["method"] for row in compared["methods"])
    wins, losses = (right[other] & ~right[best]).sum(), (~right[other] & right[best]).sum()
    binomial, fewer = stats.binom(wins + losses, 0.5), min(wins, losses)
    row = compared["methods"][1]
    assert row["p_against_best"] == pytest.approx(min(1, 2 * binomial.cdf(fewer) - binomial.pmf(fewer)))
    assert row["gap_against_best"] == pytest.approx((wins - losses) / len(right[best]))
    assert compared["methods"][0]["p_against_best"] is None
    assert sum(s["rows"] for s in compared["slices"]) == compared["test_rows"] == len(right[best])
    for method, hits in right.items():
        assert sum(s["rows"] * s["values"][method] for s in compared["slices"]) == pytest.approx(hits.sum())
    for s in compared["slices"]:
        top = [name for name, value in s["values"].items() if value == max(s["values"].values())]
        assert s["winner"] == (top[0] if len(top) == 1 else None)
        assert (s["p"] is None) == (s["winner"] in (None, best))


def test_files(compared, folder):
    out = folder / "compared"
    assert json.loads((out / "compare.json").read_text()) == compared
    lines = list(csv.DictReader((out / "compare.csv").open()))
    assert [float(line["value"]) for line in lines] == [row["value"] for row in compared["methods"]]
    page = (out / "compare.html").read_text()
    assert "Who wins where?" in page
    assert "<bdi>probe</bdi>" in page
    p = compared["methods"][1]["p_against_best"]
    assert (f", p = {p:.3f}" if p >= 0.001 else ", p &lt; 0.001") in page


@pytest.mark.usefixtures("no_training")
def test_runs_that_exist_are_taken(compared, folder, flags):
    values = {**flags, "evidence": "on", "output_dir": folder / "compared", "methods": "full,probe"}
    assert answer_of("compare", values) == compared


def test_runs_of_other_flags_and_of_other_data_are_not_taken(compared, folder, flags, tmp_path):
    values = {**flags, "data": "data", "methods": ("probe", "head"), "output_dir": tmp_path / "out"}
    with pytest.raises(RunError, match="other flags"):
        hftl.compare(methods="probe,head", **flags, output_dir=folder / "compared")
    data = tmp_path / "data"
    shutil.copytree(folder / "data", data)
    table = pd.read_csv(data / "test.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        first = hftl.compare(**values)
        table.assign(label=np.roll(table["label"], 1)).to_csv(data / "test.csv", index=False)
        with pytest.raises(RunError, match="was made with other data"):
            hftl.compare(**values)
        again = hftl.compare(**values, overwrite=True)
    assert [row["kept"] for row in first["methods"]] == [None, None]
    assert again["methods"][0]["value"] < first["methods"][0]["value"]


def test_seeds(folder, flags):
    found = hftl.compare(methods="probe,head", **flags, output_dir=folder / "seeds", seeds=2)
    for row in found["methods"]:
        seeds = json.loads((folder / "seeds" / row["method"] / "report.json").read_text())["seeds"]
        assert seeds["seeds"] == [42, 43]
        assert (row["mean"], row["sd"]) == tuple(seeds["test"]["accuracy"][k] for k in ("mean", "std"))
    assert "Mean of seeds" in (folder / "seeds" / "compare.html").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--methods", "probe"], "two methods or more"),
        (["--methods", "probe,probe"], "two methods or more"),
        (["--methods", "probe,fulll"], "Did you mean 'full'"),
        (["--methods", "probe,full", "--thaw_to", "1"], "--thaw_to is for --method gradual"),
        (["--methods", "probe,full", "--output_dir", "{folder}/compared/probe"], "is no folder of a compare"),
        (["--methods", "probe,full", "--output_dir", "{folder}/data/test.csv"], "is no folder of a compare"),
        (["--methods", "probe,full", "--output_dir", "{folder}/data/test.csv/x"], "cannot be written"),
        (["--methods", "probe,full", "--sizes", "3"], "no flag --sizes"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(words, says, compared, folder, flags, tmp_path, capsys):
    own = [word.format(folder=folder) for word in words]
    done = command(capsys, "compare", *words_of({**flags, "output_dir": tmp_path / "out"}), *own)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert len(done.err.splitlines()) == 1
    assert not any(tmp_path.iterdir())


def test_one_process(flags, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(hftl.HftlError, match="one process"):
        hftl.compare(**flags)


def test_the_peak_of_memory_is_seen():
    if not forget_peak(True):
        pytest.skip("this system does not tell a process's peak of memory")
    before = peak_bytes(True)
    block = mmap.mmap(-1, 100_000_000)  # new pages, where an array may get old ones
    block.write(b"1" * len(block))
    assert peak_bytes(True) - before > 0.9 * len(block)
    block.close()
    assert peak_bytes(True) - before > 90_000_000  # it was held
    assert forget_peak(True)
    assert peak_bytes(True) - before < 50_000_000
