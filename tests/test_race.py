"""`--method auto`: its winner is the run that it would be alone, and a killed or a shared race ends with the same bits."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from hftl.adapt import run
from hftl.config import build_config, parse_budget, read_yaml
from hftl.errors import ConfigError
from hftl.report import statements
from hftl.selection import race as racing
from hftl.selection import race_policy as policy
from hftl.selection.judge import Look, best_mixture
from hftl.selection.race_plan import Trial
from tests.runs import SMALL, checkpoint, split_folder, subprocess_env, text_frame, tiny_data, tiny_run, weights


LOOKS = "full@0.0005/3/6/9=2.0 lora@0.0005/3/6/9=1.0 full@0.0002/3/6/9=2.0 full:1@0.0005/3/6/9=1.0"
PLAIN = "full:plain@0.001/3/9=1.0"


@pytest.fixture
def unmixed(monkeypatch):
    """The winner stays as it was trained, and wins."""
    monkeypatch.setattr(policy, "AVERAGED", (1.0,))
    monkeypatch.setattr(policy, "SURE", 0.0)
    monkeypatch.setattr(policy, "MIXTURES", (1.0,))


def test_the_winner_is_the_run_that_its_method_would_be_alone(tmp_path, unmixed):
    auto = tiny_run("bert", "auto", tmp_path, race=LOOKS, budget="1h", max_steps=-1)
    trials = {trial["name"]: trial for trial in auto.report["selection"]["trials"]}
    won = trials[auto.report["selection"]["winner"]]
    alone = tiny_run(
        "bert",
        won["method"],
        tmp_path,
        "alone",
        learning_rate=won["learning_rate"],
        train_top=1 if "top" in won["name"] else None,
        max_steps=9,
        eval_strategy="no",
    )
    assert auto.report["method"] == won["method"]
    ours, theirs = (weights(run.run_dir, "bert") for run in (auto, alone))
    assert not {n: float((theirs[n] - t).abs().max()) for n, t in ours.items() if not theirs[n].equal(t)}
    assert sum(trial["dropped_at"] is not None for trial in trials.values()) == 3
    assert all(trial["reason"] for trial in trials.values() if trial["dropped_at"])


def test_a_plain_trial_is_what_a_copied_script_does(tmp_path, unmixed):
    auto = tiny_run("bert", "auto", tmp_path, race=PLAIN, budget="1h", max_steps=-1)
    assert auto.report["selection"]["winner"] == "plain full at 0.001"
    assert policy.PLAIN == {"num_train_epochs": 3.0}
    usual = {"init_head": "random", "layer_decay": 1.0, "learning_rate": 1e-3, "max_steps": 9}
    usual |= {"per_device_train_batch_size": SMALL["per_device_train_batch_size"]}  # typed, so it holds for all
    alone = tiny_run("bert", "full", tmp_path, "alone", eval_strategy="no", **usual)
    ours, theirs = (weights(run.run_dir, "bert") for run in (auto, alone))
    assert not {n: float((theirs[n] - t).abs().max()) for n, t in ours.items() if not theirs[n].equal(t)}
    assert read_yaml(auto.run_dir / "config.yaml")["race"] == PLAIN


def test_config_of_a_race_repeats_it(tmp_path):
    first = tiny_run("bert", "auto", tmp_path, budget="10m")
    values = {**read_yaml(first.run_dir / "config.yaml"), **SMALL}
    assert "@" in values["race"]
    data = {"data": tiny_data("bert", tmp_path), "output_dir": tmp_path / "again"}
    again = run(build_config(values.pop("task"), {**values, **data}))
    ours, theirs = (weights(one.run_dir, "bert") for one in (first, again))
    assert not {n: float((theirs[n] - t).abs().max()) for n, t in ours.items() if not theirs[n].equal(t)}


@pytest.mark.slow
def test_two_processes_make_the_same_choices(tmp_path):
    split_folder(tmp_path / "two", 32, other=13)
    model = checkpoint("bert", tmp_path, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    flags = {"data": tmp_path / "two", "model": model, "method": "auto", "use_cpu": "true", "bf16": "false"}
    flags |= {"evidence": "off", "race": LOOKS, "budget": "1h", "train_sampling_strategy": "random", "cache": "off"}
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    chosen = []
    for name, rows, start in (("alone", 8, []), ("pair", 4, launch)):
        more = {**flags, "output_dir": tmp_path / name, "per_device_train_batch_size": rows}
        words = [str(w) for k, v in more.items() for w in (f"--{k}", v)]
        command = [sys.executable, *start, "-m", "hftl", "train", "text-classification", *words]
        done = subprocess.run(command, capture_output=True, text=True, env=subprocess_env(), timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        chosen.append(json.loads((tmp_path / name / "report.json").read_text())["selection"])
    alone, pair = chosen
    assert [t["name"] for t in pair["trials"]] == [t["name"] for t in alone["trials"]]
    scores = [[t["score"] for t in one["trials"]] for one in chosen]
    assert scores[1] == pytest.approx(scores[0], rel=1e-2)  # other sums, then the best temperature of each
    assert (pair["winner"], pair["wise_alpha"]) == (alone["winner"], alone["wise_alpha"])


def test_a_tie_goes_to_the_cheaper_and_a_clear_gap_does_not():
    draws = np.random.default_rng(0).normal(size=1000)
    a, b, c = (Trial(name, 1e-3, (1, 2)) for name in ("full", "lora", "probe"))
    looks = {a: Look(0.80, draws + 0.80), b: Look(0.79, draws[::-1] + 0.79), c: Look(-4.0, draws - 4.0)}
    seconds = {a.name: 10.0, b.name: 5.0, c.name: 1.0}
    kept, reasons = racing.choose(looks, seconds, 1)
    assert kept == [b]
    assert reasons[a].startswith("level with lora")
    assert reasons[c].startswith("behind lora")
    assert racing.choose(looks, {**seconds, b.name: 9.0}, 1)[0] == [a]  # hardly cheaper
    ended = dict.fromkeys(seconds, 0.0)
    assert racing.choose({b: looks[b], a: looks[a]}, ended, 1)[0] == [a]  # level, and nothing left to save
    assert racing.choose({b: looks[b], a: looks[a]}, dict.fromkeys(seconds, 9.0), 1)[0] == [b]  # the first, before


def test_with_a_handful_of_rows_contrastive_is_believed():
    assert policy.sure("contrastive", 29, 8) == 0
    assert policy.sure("contrastive", 30, 8) == pytest.approx(1 - policy.SURE)
    assert policy.sure("full", 4, 8) == policy.sure("contrastive", 100, 8) == policy.SURE
    assert policy.sure("contrastive", 4, 65) == policy.SURE


@pytest.mark.parametrize(
    ("rows", "validation", "more", "race"),
    [
        (8, 200, {}, ["contrastive", "full"]),
        (8, 99, {}, ["contrastive"]),
        (16, 99, {}, ["contrastive"]),
        (64, 99, {}, ["contrastive"]),
        (16, 100, {}, ["full", "contrastive", "full top 2"]),
        (16, 99, {"reads": "pixel_values"}, ["full", "contrastive", "full top 2"]),
        (16, 99, {"single": False}, ["full", "contrastive", "full top 2"]),
        (64, 200, {"width": 768}, ["full", "contrastive", "full top 2"]),
        (64, 200, {"width": 1024}, ["full", "contrastive", "lora", "full top 2"]),
        (65, 200, {}, ["full", "full at 0.5 plain"]),
        (65, 200, {"width": 1024}, ["full", "lora", "full at 0.5 plain"]),
        (65, 200, {"reads": "pixel_values", "width": None}, ["full", "full at 0.5"]),
        (65, 200, {"single": False}, ["full", "full at 0.5 spare"]),
        (8, 99, {"fits": lambda method: method.name != "contrastive"}, ["full"]),
    ],
)
def test_who_races(monkeypatch, rows, validation, more, race):
    monkeypatch.setattr(policy, "_possible", lambda method, ready: more.get("fits", lambda _: True)(method))
    config = SimpleNamespace(hidden_size=more.get("width", 384))
    model = SimpleNamespace(main_input_name=more.get("reads", "input_ids"), config=config)
    ready = SimpleNamespace(
        loaded=SimpleNamespace(model=model, layers=SimpleNamespace(modules=[()] * 6)),
        task=SimpleNamespace(output=SimpleNamespace(single=more.get("single", True))),
        validation=SimpleNamespace(targets=[0] * validation),
        rows_per_name=rows,
    )
    said = [
        one.method
        + (f" top {one.train_top}" if one.train_top else "")
        + ("" if one.factor == 1 else f" at {one.factor}")
        + " plain" * one.plain
        + " spare" * one.spare
        for one in policy.candidates(ready)
    ]
    assert said == race


def test_the_loss_decides_only_where_the_score_leaves_it_open():
    draws = np.random.default_rng(0).normal(size=1000)
    probe = Look(0.80, draws, draws)
    assert (
        Look(0.81, draws + 0.1 * draws[::-1] + 0.05, draws + 1).sureness(probe) == 1.0
    )  # ahead, and its loss is lower
    assert Look(0.81, draws + 1, draws - 1).sureness(probe) == 1.0  # the score alone is sure
    assert Look(0.79, draws - 1, draws + 1).sureness(probe) == 0.0  # the score speaks against it
    assert Look(0.81, draws + 1e-9, None).sureness(probe) == 1.0  # no probabilities
    level = Look(0.81, draws[::-1] + 0.1, draws - 1)
    assert level.sureness(probe) == level.beats(probe) < policy.SURE


@pytest.mark.parametrize("text", ["soon", "10x", "-5", "0", "nan", "inf", ""])
def test_budgets_that_are_none(text):
    with pytest.raises(ConfigError, match="no length of time"):
        parse_budget(text)


def test_budgets():
    assert [parse_budget(text) for text in ("600", "10m", "2h", "90s", " 1.5H ")] == [600, 600, 7200, 90, 5400]


def test_a_race_takes_what_its_rungs_add_up_to():
    assert policy.race_seconds([60.0], (1.0,)) == 60
    assert policy.race_seconds([60.0, 60.0], (1 / 4, 1.0)) == pytest.approx(30 + 45)  # both to a quarter, one on
    assert policy.race_seconds([60.0] * 4, policy.LONG_RUNGS) == pytest.approx(4 * 10 + 2 * 20 + 30)
    assert policy.race_seconds([120.0, 60.0], (1 / 4, 1.0)) == pytest.approx(45 + 90)  # the dearer one goes on


def test_nobody_is_dropped_where_there_is_time_for_all():
    assert policy.rungs_of([60.0, 20.0], 90.0) == (1.0,)
    assert policy.rungs_of([60.0, 60.0], 90.0) == (1 / 2, 1.0)  # the first drop comes as late as the budget allows
    assert policy.rungs_of([60.0] * 3, 90.0) == (1 / 4, 1.0)
    assert policy.rungs_of([60.0] * 4, 90.0) == policy.LONG_RUNGS


def test_a_spare_trial_races_where_all_can_go_to_their_ends():
    costs = {"own": 60.0, "half": 60.0}
    assert policy.invited(costs, {"half"}, 120.0) == ["own", "half"]
    assert policy.invited(costs, {"half"}, 119.0) == ["own"]
    assert policy.invited(costs, set(), 119.0) == ["own", "half"]


def test_a_small_budget_lets_fewer_race(tmp_path):
    costs, steps = {"a": 100.0, "b": 100.0, "c": 100.0}, {"a": 100, "b": 100, "c": 100}
    assert policy.fitting(list(costs), costs, steps, 200.0) == ["a", "b", "c"]
    assert policy.fitting(list(costs), costs, steps, 55.0) == ["a"]  # 40 steps each are the shortest
    assert policy.fitting(list(costs), costs, steps, 10.0) == []
    with pytest.raises(
        ConfigError, match=r"--budget 0\.001 allows nothing beyond the probe: the shortest race takes about"
    ):
        tiny_run("bert", "auto", tmp_path, budget="0.001", max_steps=400)


def test_flags_of_a_race_are_for_auto_alone(tmp_path):
    with pytest.raises(ConfigError, match="--budget is for --method auto, not for full"):
        tiny_run("bert", "full", tmp_path, budget="10m")
    with pytest.raises(ConfigError, match=r"is no race: config\.yaml"):
        tiny_run("bert", "auto", tmp_path, race="full@1e-3/9/3=1", budget="1h")


def test_the_clock_ends_a_race_and_the_report_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(policy, "OVER", 0.0)
    monkeypatch.setattr(policy, "SURE", 0.0)
    run = tiny_run("bert", "auto", tmp_path, race=LOOKS, budget="90", max_steps=-1)
    selection = run.report["selection"]
    assert selection["ended_early"]
    assert run.report["stages"][-1]["paused"]
    assert any("over its budget of 1 min 30 s." in warning for warning in run.report["warnings"])
    assert str(statements.race(run.report)).startswith("1 way to train raced against the probe")
    first, *others = [trial for trial in selection["trials"] if trial["name"] != "probe"]
    assert selection["winner"] == first["name"]
    assert [trial["score"] for trial in others] == [None] * 3
    assert {trial["reason"] for trial in others} == {racing.UNSEEN}


def test_no_transfer_leaves_the_probe_and_the_baseline(tmp_path):
    """Words alone tell the classes, and the checkpoint is random: on validation TF-IDF beats all that is trained."""
    run = tiny_run(
        "bert", "auto", tmp_path, data=text_frame(400), race=LOOKS, budget="1h", max_steps=-1, evidence=True
    )
    selection = run.report["selection"]
    assert (selection["winner"], run.report["method"]) == ("do not transfer", "probe")
    assert selection["baseline"] == run.report["evidence"]["verdict"]["against"]
    assert (run.run_dir / "baseline" / "config.json").is_file()
    page = (run.run_dir / "report.html").read_text()
    assert "do not transfer" in page
    assert all(trial["name"] in page for trial in selection["trials"])


def test_a_mixture_has_the_best_loss_of_those_that_do_not_lose():
    draws = np.zeros(2)

    def looks(**points):
        return {
            float(a[1:]) / 10: Look(score, draws, None if loss is None else -loss + draws)
            for a, (score, loss) in points.items()
        }

    assert best_mixture(looks(a2=(0.85, 0.6), a6=(0.83, 0.5), a8=(0.80, 0.4), a10=(0.83, 0.5))) == 0.6
    assert best_mixture(looks(a2=(0.85, None), a6=(0.85, None), a10=(0.83, None))) == 0.2
    assert best_mixture(looks(a2=(0.82, 0.1), a10=(0.83, 0.5))) == 1.0
