"""Soups, `--keep` and `--loss`: what is averaged, what a mixture may forget, and what rare classes count."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hftl.errors import ConfigError
from hftl.methods import wise
from hftl.methods.plan import Given, Plan
from hftl.models.layers import Layers
from hftl.training.averaging import greedy_soup
from hftl.training.losses import make_loss
from tests.runs import text_frame, tiny_run


FLAGS: dict[str, Any] = {"max_steps": -1, "num_train_epochs": 5, "learning_rate": 5e-3, "augment": "none"}

ALPHAS, KEEP = (0.0, 0.5, 1.0), 0.98


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("averaging")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFTL_CACHE", str(path / "cache"))
        yield path


def _run(folder: Path, name: str, method: str = "full", **flags: Any) -> Any:
    return tiny_run("bert", method, folder, name, **{**FLAGS, **flags})


def test_a_state_joins_where_it_does_not_hurt() -> None:
    states = [{"w": torch.tensor([x])} for x in (3.0, 9.0, -2.0, 1.2)]
    asked: list[float] = []

    def score(state: Any) -> float:
        asked.append(float(state["w"]))
        return -abs(float(state["w"]) - 2.0)

    soup, members = greedy_soup(states, score)
    # From 3 (1 away): with 9 it is 6 and with -2 it is .5, both farther; with 1.2 it is 2.1, nearer.
    assert members == [0, 3]
    assert float(soup["w"]) == pytest.approx(2.1)
    assert asked == pytest.approx([3.0, 6.0, 0.5, 2.1])
    assert float(greedy_soup(states, lambda state: 0.0)[0]["w"]) == pytest.approx(np.mean([3.0, 9.0, -2.0, 1.2]))


@pytest.mark.parametrize(
    ("method", "flags", "says"),
    [
        ("full", {"keep": 0.9}, "--keep is for --method wise"),
        ("wise", {"keep": 0.9}, "--evidence off"),
        ("probe", {"loss": "logit_adjusted"}, "--loss is for --method"),
        ("full", {"loss": "logit_adjusted", "class_weights": "balanced"}, "give one"),
    ],
)
def test_what_makes_no_sense_is_refused(method: str, flags: dict[str, Any], says: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=says):
        _run(folder, "refused", method, **flags)
    assert not list(folder.glob("refused*"))


@pytest.mark.parametrize(("keep", "alpha"), [(None, 1.0), (0.95, 0.4), (0.5, 1.0), (0.999, 0.0)])
def test_the_best_of_those_that_keep_enough(keep: float | None, alpha: float) -> None:
    """Made up: each step towards the tuned weights scores more; the base is kept less by its square."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(model.weight)
    plan = Plan(model, ("",), Layers((), (), ()), ())
    base = {"weight": torch.zeros(1, 1)}
    given = Given(None, base, lambda m: float(m.weight), "score", lambda m: 1 - 0.3 * float(m.weight) ** 2)
    mixture = wise.interpolate(plan, given, keep)
    assert mixture["alpha"] == alpha
    assert float(model.weight) == pytest.approx(alpha)
    assert all(("kept" in point) == (keep is not None) for point in mixture["curve"])


@pytest.mark.slow
def test_the_mixture_keeps_what_is_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wise, "ALPHAS", ALPHAS)
    run = _run(folder, "keep", "wise", keep=KEEP, evidence=True)
    mixture = run.report["stages"][-1]["interpolation"]
    assert [point["alpha"] for point in mixture["curve"]] == list(ALPHAS)
    kept = {point["alpha"]: point["kept"] for point in mixture["curve"]}
    assert kept[0.0] == 1.0
    assert min(kept.values()) < KEEP  # else it asks for nothing
    allowed = [point for point in mixture["curve"] if point["kept"] >= KEEP]
    assert mixture["alpha"] == max(allowed, key=lambda point: (point["score"], -point["alpha"]))["alpha"]
    assert kept[mixture["alpha"]] == run.report["evidence"]["forgetting"]["kept"] >= KEEP


def test_adjusted_logits_answer_for_equally_frequent_classes() -> None:
    """Where a row says nothing of its class, the best logits are those of the base rates; adjusted, they are level."""
    counts = np.array([70, 20, 10])
    labels = torch.from_numpy(np.repeat(np.arange(3), counts))
    best = []
    for given in (None, counts):
        logits = torch.zeros(3, requires_grad=True)
        optimizer = torch.optim.LBFGS([logits], max_iter=100)

        def closure(logits: Any = logits, given: Any = given, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            value = make_loss(0.0, counts=given)({"logits": logits.expand(100, 3)}, labels)
            value.backward()
            return value

        optimizer.step(closure)
        best.append(logits.detach().softmax(0).numpy())
        plain = make_loss(0.0, counts=given)({"logits": torch.zeros(100, 3)}, labels)
        assert float(plain) == pytest.approx(np.log(3))  # a validation loss is as it was
    assert best[0] == pytest.approx(counts / 100, abs=1e-3)
    assert best[1] == pytest.approx(np.full(3, 1 / 3), abs=1e-3)


def test_rare_classes_are_answered_more_often(folder: Path) -> None:
    frame = text_frame(120)
    rare = frame[frame.label == "class_2"]
    frame = frame.drop(rare.index[5:])
    runs = [
        _run(folder, f"loss-{loss}", "head", data=frame, loss=loss, num_train_epochs=20, pooling="native")
        for loss in (None, "logit_adjusted")
    ]
    shares = [[p.probabilities["class_2"] for p in run.predict(list(frame.text))] for run in runs]
    assert np.mean(shares[1]) > np.mean(shares[0]) + 0.02
