"""`hftl pick`: real weights before random ones, every kind of answer, what is left out, the race, bad input."""

import json
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

import hftl
from hftl.cli import run_command
from hftl.config import build_config
from hftl.data.load import load_task
from hftl.errors import ModelError
from hftl.models.packaged import MINILM, is_installed
from hftl.selection import features
from hftl.selection.features import look_at
from hftl.selection.pick import finalists, pick
from hftl.selection.shortlist import Candidate, Wanted
from tests.answers.rows import TABLES
from tests.command import hftl as command
from tests.command import text_csv
from tests.report_page.structure import sections
from tests.runs import text_frame
from tests.tags.sentences import sentences
from tests.tiny import build, tiny_images


SMALL = {"use_cpu": True, "bf16": False}
FIELDS = {
    "name", "parameters", "licence", "probe", "knn", "logme", "prior", "latency_ms", "latency_ms_32", "rank_low", "rank_high"
}  # fmt: skip
needs_minilm = pytest.mark.skipif(not is_installed(MINILM.name), reason='needs pip install "hftl[offline]"')


@pytest.fixture(scope="module", autouse=True)
def alone(tmp_path_factory):
    """A cache of this module's own, and none of the Hub's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFTL_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(constants, "HF_HUB_CACHE", str(tmp_path_factory.mktemp("hub")))
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        patch.setattr(features, "_SECONDS", 0.0)  # ten calls
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    return {family: str(build(family, folder / family)) for family in ("bert", "roberta", "vit", "convnext")}


@pytest.fixture(scope="module")
def real(tiny, tmp_path_factory):
    """MiniLM beside random weights that read the same words, and a folder that is broken."""
    folder = tmp_path_factory.mktemp("real")
    broken = build("bert", folder / "broken")
    (broken / "model.safetensors").write_bytes(b"nothing")
    models = [tiny["bert"], str(broken), "all-MiniLM-L6-v2"]
    flags = {"max_train_samples": 100, "max_seq_length": 32, **SMALL}
    return pick("text-classification", models, data="sample:wikipedia-topics", output_dir=folder / "picked", **flags)


@needs_minilm
def test_real_weights_come_before_random_ones_with_certainty(real):
    first, last = real["models"]
    assert (first["name"], first["rank_low"], first["rank_high"]) == (MINILM.name, 1, 1)
    assert (last["rank_low"], last["rank_high"]) == (2, 2)
    for score in ("probe", "knn", "logme"):
        assert first[score] > last[score]
    assert first["probe"] - first["probe_low"] < 0.1
    assert last["behind"]["low"] > 0.2
    assert first["parameters"] == pytest.approx(MINILM.parameters, rel=0.01)
    assert 0 < first["latency_ms"] < first["latency_ms_32"]
    assert {*FIELDS} <= first.keys()


@needs_minilm
def test_a_model_that_cannot_be_read_is_named_and_the_others_go_on(real):
    [left] = real["left_out"]
    assert left["name"].endswith("broken")
    assert "safetensors" in left["reason"]


@needs_minilm
def test_what_is_written_is_what_is_returned_and_the_page_shows_it(real):
    folder = Path(real["folder"])
    assert json.loads((folder / "pick.json").read_text(encoding="utf-8")) == real
    html = (folder / "pick.html").read_text(encoding="utf-8")
    assert sections(html) == ["models"]
    assert f"): {real['left_out'][0]['name']}." in html
    assert "sentence-transformers/all-MiniLM-L6-v2" in html
    assert real["command"] in html.replace("&#39;", "'")


@needs_minilm
def test_the_command_holds_what_was_typed(real):
    words = "--data sample:wikipedia-topics --max_train_samples 100 --model {} --max_seq_length 32 --use_cpu True --bf16 False"
    assert real["command"] == f"hftl train text-classification {words.format(MINILM.name)}"


def test_scores_are_those_of_held_out_rows(tiny):
    # By hand: three folds, a probe on two of them, its answers to the third.
    config = build_config("text-classification", {"data": text_frame(60), "method": "probe", **SMALL})
    task, splits = load_task(config.task, config.data)
    seen = look_at(Candidate(tiny["bert"]), Wanted(), config, task, splits)
    assert len(seen.answers) == len(seen.targets) == len(splits.train)
    assert (seen.targets == splits.train["label"][:]).all()
    assert (seen.answers == seen.targets).mean() > np.bincount(seen.targets).max() / len(seen.targets) + 0.2


@pytest.mark.parametrize("kind", ["labels", "number", "pair", "tags", "images"])
def test_every_kind_of_answer_is_ranked(kind, tiny, tmp_path):
    families, data = ("bert", "roberta"), TABLES[kind](40) if kind in TABLES else None
    if kind == "images":
        families, data = ("vit", "convnext"), str(tiny_images(tmp_path / "images"))
    if kind == "tags":
        data = str(tmp_path / "rows.jsonl")
        (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, sentences(40))))
    document = pick(None, [tiny[family] for family in families], data=data, output_dir=tmp_path / "picked", **SMALL)
    expected = {"labels": "micro_f1", "number": "r2", "tags": "f1"}.get(kind, "accuracy")
    assert document["score"] == expected
    for row in document["models"]:
        assert np.isfinite([row["probe"], row["knn"], row["logme"]]).all()
        assert row["probe_low"] <= row["probe"] <= row["probe_high"]
    assert [row["probe"] for row in document["models"]] == sorted(
        (r["probe"] for r in document["models"]), reverse=True
    )


def rows(**scores):
    """Models as pick.json has them: name=(probe, knn, logme, prior, family), the best probe first."""
    keys = ("probe", "knn", "logme", "prior", "family")
    return [{"name": name, **dict(zip(keys, values, strict=True))} for name, values in scores.items()]


def test_finalists_are_the_best_by_each_score_and_one_of_the_underrated():
    models = rows(a=(0.9, 0.8, 0.1, None, "bert"), b=(0.8, 0.9, 0.0, 88.0, "bert"), c=(0.7, 0.1, 0.2, 90.0, "bert"))
    assert [one["name"] for one in finalists(models)] == ["a", "b", "c"]
    models += rows(d=(0.2, 0.1, 0.0, 80.0, "roberta"), e=(0.1, 0.1, 0.0, 85.0, "deberta-v2"))
    assert [one["name"] for one in finalists(models)] == ["a", "b", "c", "e"]
    same = rows(a=(0.9, 0.9, 0.1, None, "vit"), b=(0.8, 0.8, 0.2, None, "vit"), c=(0.7, 0.7, 0.0, None, "vit"))
    assert [one["reason"] for one in finalists(same)] == ["best probe", "best LogME"]
    assert [one["name"] for one in finalists([{**row, "logme": row["probe"]} for row in same])] == ["a", "b"]
    assert len(finalists(same[:1])) == 1


def test_the_race_trains_the_finalists_and_names_the_winner(tiny, tmp_path):
    flags = {"method": "full", "max_steps": 3, "evidence": False, "per_device_train_batch_size": 8, **SMALL}
    data = str(text_csv(tmp_path / "rows.csv"))
    models = f"{tiny['bert']},{tiny['roberta']}"
    document = pick("text-classification", models, data=data, output_dir=tmp_path / "picked", race=True, **flags)
    raced = {one["name"]: one for one in document["race"]}
    assert [*raced] == [one["name"] for one in document["finalists"]]
    assert len(raced) == 2
    assert raced[document["winner"]]["score"] == max(one["score"] for one in raced.values())
    for one in raced.values():
        report = json.loads((Path(one["run_dir"]) / "report.json").read_text(encoding="utf-8"))
        assert report["metrics"]["validation"]["accuracy"]["value"] == one["score"]
        assert report["method"] == "full"
        assert hftl.load(one["run_dir"]).predict(["so happy"])
    assert f"--model {document['winner']}" in document["command"]
    assert "--method full" in document["command"]
    html = (tmp_path / "picked" / "pick.html").read_text()
    assert all(f"{name}, trained: " in html for name in raced)


def test_nothing_that_can_be_used_is_one_line(tiny, tmp_path):
    with pytest.raises(ModelError, match="nobody/nothing is neither a folder nor in the Hub cache") as error:
        pick("text-classification", "nobody/nothing", data=text_frame(40), output_dir=tmp_path / "picked", **SMALL)
    assert "\n" not in str(error.value)


def test_a_size_that_is_known_late_counts_as_well(tiny):
    config = build_config("text-classification", {"data": text_frame(40), "method": "probe", **SMALL})
    task, splits = load_task(config.task, config.data)
    with pytest.raises(ModelError, match="more than --max_parameters 9"):
        look_at(Candidate(tiny["bert"]), Wanted(max_parameters=9), config, task, splits)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--shortlist", "tiny"], "--shortlist is one of small, base, large, multilingual, long"),
        (["--max_parameters", "many"], "max_parameters"),
        (["--licence", "permisive"], "--licence is permissive, or an identifier of the Hub"),
        (["--max_parameters", "1000"], "more than --max_parameters 1,000"),
        (["--models", "nobody/nothing"], "nobody/nothing is neither a folder nor in the Hub cache"),
        (["--model", "a/b"], "no flag --model"),
    ],
)
def test_bad_input_is_one_line_with_exit_code_2(words, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = command(capsys, "pick", "text-classification", "--data", text_csv(tmp_path / "rows.csv"), *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert says in outcome.err.splitlines()[-1]
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.glob("**/pick.*"))


def test_one_class_and_no_data_are_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = text_csv(tmp_path / "rows.csv", classes=1)
    assert "two are needed" in command(capsys, "pick", "text-classification", "--data", one).err
    assert run_command(["pick"]) == 2
    assert "hftl pick needs" in capsys.readouterr().err


def test_json_is_one_document(tiny, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--data", text_csv(tmp_path / "rows.csv"), "--models", tiny["bert"], "--use_cpu", "--json"]
    outcome = command(capsys, "pick", *words)
    assert outcome.code == 0, outcome.err
    assert outcome.json["models"][0]["name"] == tiny["bert"]
    assert outcome.json["task"] == "text-classification"  # found from the data
    assert outcome.json["winner"] is None
    assert (tmp_path / outcome.json["folder"] / "pick.html").is_file()


def test_finalists_without_logme():
    scores = rows(a=(0.9, 0.8, None, None, "x"), b=(0.8, 0.7, None, None, "x"))
    assert [one["name"] for one in finalists(scores)] == ["a", "b"]
