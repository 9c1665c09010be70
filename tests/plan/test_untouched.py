"""A plan changes nothing and looks at training rows alone."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from hftl.methods import METHODS
from hftl.planning import costs, plan_report
from hftl.planning.costs import pick_batches
from hftl.prepare import prepare
from hftl.training.cache import weights_hash
from tests.command import hftl
from tests.plan.loading import config, plan
from tests.runs import checkpoint


# Nothing is changed, nothing is written


@pytest.mark.parametrize(
    ("family", "method"),
    [("bert", "full"), ("bert", "lora"), ("resnet", "full"), ("vit", "gradual"), ("bert", "head")],
)
def test_the_model_is_the_same_afterwards(folder, family, method):
    ready = prepare(config(folder, family, method))
    made = METHODS[method](ready.loaded, ready.config.method, len(ready.train))
    flags = {n: p.requires_grad for n, p in made.model.named_parameters()}
    before, drawn = weights_hash(made.model), _random_states()
    cache = costs.choose_cache(ready, made)
    stages = costs.stage_costs(ready, made, cache)
    assert all(c.measured is not None for c in stages if c.args is not None)
    assert weights_hash(made.model) == before
    assert {n: p.requires_grad for n, p in made.model.named_parameters()} == flags
    assert all(p.grad is None for p in made.model.parameters())
    assert not any(m.training for m in made.model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert _random_states() == drawn


def _random_states():
    return torch.random.get_rng_state().tolist(), repr(np.random.get_state()), random.getstate()


def test_the_measured_steps_really_train(folder, monkeypatch):
    """Without a copy of the model its weights would differ: the test above is no empty one."""
    ready = prepare(config(folder, "bert", "full"))
    made = METHODS["full"](ready.loaded, ready.config.method, len(ready.train))
    before = weights_hash(made.model)
    monkeypatch.setattr(costs.copy, "deepcopy", lambda model: model)
    costs.stage_costs(ready, made, costs.choose_cache(ready, made))
    assert weights_hash(made.model) != before


def test_nothing_is_written_but_features(capsys, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HFTL_CACHE", str(tmp_path / "cache"))
    words = ["--data", folder / "t.csv", "--model", checkpoint("bert", folder), "--method", "gradual"]
    done = hftl(capsys, "plan", "text-classification", *words, "--output_dir", tmp_path / "run")
    assert done.code == 0, done.err
    assert {p.name for p in tmp_path.iterdir()} == {"cache"}
    assert {p.name for p in (tmp_path / "cache").iterdir()} == {"features"}


def test_batches_are_picked_over_the_range_of_lengths():
    lengths = np.random.default_rng(0).permutation(100)
    longest, typical, *timed = pick_batches(lengths, 10)
    assert sorted(lengths[longest]) == list(range(90, 100))
    assert sorted(lengths[typical]) == list(range(45, 55))
    means = [lengths[rows].mean() for rows in timed]
    assert means == sorted(means)
    assert np.mean(means) == pytest.approx(lengths.mean(), abs=1)
    mixed = pick_batches(lengths, 10, grouped=False)
    assert all(np.ptp(lengths[rows]) > 30 for rows in mixed[2:])
    assert len(pick_batches(lengths[:3], 10)[0]) == 3


# The recommendation


def test_comparison_sees_training_rows_alone(folder, monkeypatch):
    seen = []
    real = plan_report.compare
    monkeypatch.setattr(
        plan_report, "compare", lambda ready, rows, found: seen.append(rows) or real(ready, rows, found)
    )
    report = plan(folder, "bert", "full")
    (rows,) = seen
    assert len(np.unique(rows)) == len(rows) == report["data"]["rows"]["train"]
    found = report["recommendation"]["comparison"]
    assert found["rows"] == len(rows)
    assert found["difference"]["value"] == pytest.approx(found["probe_accuracy"] - found["baseline_accuracy"])
    assert found["difference"]["low"] <= found["difference"]["value"] <= found["difference"]["high"]


def test_labels_of_other_splits_do_not_matter(folder):
    ready = prepare(config(folder, "bert", "full"))
    wrong = {
        part: getattr(ready.splits, part).map(lambda row: {"label": (row["label"] + 1) % 3})
        for part in ("validation", "test")
    }
    found = []
    for splits in (ready.splits, replace(ready.splits, **wrong)):
        other = replace(ready, splits=splits)
        cost = plan_report.time_features(other)
        found.append(plan_report.compare(other, *plan_report.comparison_features(other, cost)))
    assert found[0] == found[1]


def test_too_few_rows_to_compare(folder):
    report = plan(folder, "bert", "full", shots=4)
    assert report["recommendation"]["comparison"] is None
    assert report["recommendation"]["method"] == "probe"
    assert report["recommendation"]["rows_per_class"] == 4
