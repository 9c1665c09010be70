"""`--method auto`: the probe first, then a race of other ways to train for a budget, then averaging of the winner.

Successive halving (Jamieson and Talwalkar 2016) that goes on with the survivors: a trial is a run of its method like any
other, with the rate's schedule made for all of its steps, which pauses at each look and continues from its checkpoint.
So the winner has the weights that `hftl train --method M --learning_rate R --max_steps N` would give it, before they
are averaged. Nothing here sees a test row.
"""

import copy
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from hftl.atomic import write_new
from hftl.config import RunConfig, parse_budget
from hftl.evaluation.baselines import best_baseline
from hftl.evaluation.logistic import Probe
from hftl.evidence.ladder import Rows, no_pretraining_baselines
from hftl.methods import get_method
from hftl.methods.plan import Given, Tensor, write_probe
from hftl.methods.policy import NO_TRANSFER
from hftl.methods.wise import between
from hftl.prepare import Prepared
from hftl.probing import Seen, head_pooling, plan_on
from hftl.report.statements import duration
from hftl.run import Run
from hftl.selection import race_policy as policy
from hftl.selection.judge import Judge, Look, best_mixture, judge_of
from hftl.selection.race_plan import Race, Trial, read_race
from hftl.tasks.ragged import in_memory
from hftl.terminal import clock, log
from hftl.terminal import step as working
from hftl.training.averaging import State, greedy_soup
from hftl.training.cache import drop_states
from hftl.training.checkpoints import PauseAt
from hftl.training.features import Passer
from hftl.training.stages import Fitted, StageReport, fit_plan
from hftl.training.world import broadcast_from_main, is_main_process, wait_for_all


FOLDER = "race"  # of a run that works: what a killed race goes on from
UNSEEN = "the clock ended the race before this look"
OVER = "The clock ended the race: it was over its budget of {budget}. The best model until then was taken."
PROBE = "probe"


@dataclass(frozen=True, eq=False)
class Trained:
    """What the run goes on with. After a race the config is that of the winner's own run."""

    run: Run
    ready: Prepared
    seen: Seen
    fitted: Fitted
    selection: dict[str, Any] | None = None  # what a race found out


class _Track:
    """The race as it runs. What it has found out lies in the run's folder, so that a killed race goes on from there."""

    def __init__(self, run: Run, ready: Prepared, seen: Seen, race: Race):
        self.run, self.ready, self.seen, self.race = run, ready, seen, race
        self.judge: Judge = judge_of(ready)
        self.probes: dict[str, Probe] = {seen.probe.pooling: seen.probe}
        self.states: set[str] = set()  # keys of stored states
        self._drawn = torch.get_rng_state()  # adapters start from it, as in a run of their own
        self.ended_early = False
        self._file = run.work / FOLDER / "looks.json"
        self._file.parent.mkdir(exist_ok=True)
        known = json.loads(self._file.read_text()) if self._file.is_file() and is_main_process() else {}
        known = broadcast_from_main(known)
        self.looks = {
            name: Look(
                one["score"], np.array(one["draws"]), None if one["losses"] is None else np.array(one["losses"])
            )
            for name, one in known.get("looks", {}).items()
        }
        self.seconds: dict[str, float] = known.get("seconds", {})
        self._before, self._start = float(known.get("spent", 0.0)), time.perf_counter()

    @property
    def spent(self) -> float:
        """Seconds since the race began, those before a restart among them."""
        return self._before + time.perf_counter() - self._start

    def late(self) -> bool:
        """Is the clock over the budget by more than a race may take?"""
        return self.spent > policy.OVER * self.race.budget

    def prepared(self, trial: Trial) -> tuple[Prepared, Seen]:
        """Return a fresh model and plan for the trial. Its head starts from the probe of the features that it reads."""
        ready = replace(self.ready, config=trial.config(self.ready.config), loaded=copy.deepcopy(self.ready.loaded))
        torch.set_rng_state(self._drawn)
        pooling = self.seen.probe.pooling if head_pooling(ready.config) == "auto" else head_pooling(ready.config)
        seen = plan_on(ready, self.seen.features, self.seen.origin, probe=self.probes.get(pooling))
        self.probes[pooling] = seen.probe
        return ready, seen

    def train_to(self, trial: Trial, step: int) -> tuple[Prepared, Seen, Fitted]:
        """Train the trial from its checkpoint to `step`, or until the clock ends the race."""
        start = time.perf_counter()
        ready, seen = self.prepared(trial)
        folder = self.folder(trial)
        folder.mkdir(parents=True, exist_ok=True)
        with working(trial.name, logged=False):
            fitted = fit_plan(seen.plan, seen.probe, seen.data(ready), ready.config, folder, PauseAt(step, self.late))
        self.states |= set(fitted.states)
        self.seconds[trial.name] = self.seconds.get(trial.name, 0.0) + time.perf_counter() - start
        return ready, seen, fitted

    def folder(self, trial: Trial) -> Path:
        """Where the trial's stages and checkpoints lie."""
        return self.run.work / FOLDER / trial.name.replace(" ", "-").replace(",", "")

    def look_at(self, trial: Trial, step: int) -> Look:
        """Train the trial to `step` and score it."""
        key = f"{trial.name}/{step}"
        if key not in self.looks:
            _, seen, _ = self.train_to(trial, step)
            self.ended_early |= bool(broadcast_from_main(self.late()))
            self.looks[key] = self.score(seen.plan.model)
            self.save()
        return self.looks[key]

    def score(self, model: Any) -> Look:
        """Score a model on the validation rows."""
        return self.judge.look(self.outputs(model))

    def outputs(self, model: Any) -> Any:
        """What a model puts out for the validation rows, in the number format of the features that the probe reads."""
        ready = self.ready
        return Passer(ready.collate, ready.use_cpu, ready.bf16).logits(model, ready.validation, "race")

    def save(self) -> None:
        """Write what a resumed race begins with."""
        if is_main_process():
            looks = {
                name: {
                    "score": look.score,
                    "draws": look.draws.tolist(),
                    "losses": None if look.losses is None else look.losses.tolist(),
                }
                for name, look in self.looks.items()
            }
            write_new(self._file, json.dumps({"looks": looks, "seconds": self.seconds, "spent": self.spent}))


def race(run: Run, ready: Prepared, seen: Seen) -> Trained:
    """Run the race in which the probe, `seen`, is to be beaten; `run.config` holds its table.

    All processes call this together. Raises `Preempted` after SIGTERM; `--resume` goes on with the looks that are there.
    """
    config = run.config.method
    track = _Track(run, ready, seen, read_race(str(config.race), parse_budget(str(config.budget))))
    to_beat = track.judge.look(_probed(track))
    probe = _Tuned(replace(ready.config, method=replace(config, method=PROBE, budget=None, race=None)), seen, to_beat)
    entries = [_entry(track, None, to_beat)]
    best, name = probe, PROBE
    finalist, dropped = _halve(track)
    if finalist is not None:
        tuned = _finish(track, finalist)
        share = tuned.look.sureness(to_beat)
        asked = policy.sure(finalist.method, len(ready.validation.targets), ready.rows_per_name)
        if broadcast_from_main(share >= asked):
            best, name = tuned, finalist.name
        reason = "" if best is tuned else f"better than the probe in {share:.0%} of the draws; {asked:.0%} are needed"
        entries.append(_entry(track, finalist, tuned.look, why=reason))
    baseline = _better_baseline(track, best)
    if baseline is not None:
        best = probe
    drop_states(list(track.states))
    fitted = best.fitted or fit_plan(seen.plan, seen.probe, seen.data(ready), best.config, run.work)
    selection = {
        "trials": [*entries, *dropped],
        "winner": NO_TRANSFER if baseline else name,
        "metric": track.judge.metric,
        "validation_rows": len(ready.validation.targets),
        "averaged": best.averaged,
        "wise_alpha": best.alpha,
        "baseline": baseline,
        "ended_early": track.ended_early,
        "budget_seconds": track.race.budget,
        "spent_seconds": round(track.spent, 3),
    }
    notes = [OVER.format(budget=duration(track.race.budget))] if track.ended_early else []
    run = replace(run, config=best.config, notes=[*run.notes, *notes])
    return Trained(run, replace(ready, config=best.config), best.seen, fitted, selection)


@dataclass(frozen=True, eq=False)
class _Tuned:
    """A model that could be the run's, and what it scores on the validation rows."""

    config: RunConfig
    seen: Seen
    look: Look
    fitted: Fitted | None = None  # None: not yet
    averaged: str | None = None
    alpha: float | None = None


def _probed(track: _Track) -> Any:
    """What the model of the probe puts out for the validation rows: from their features, where these are kept."""
    seen, features = track.seen, track.seen.features.get("validation")
    if features is not None:
        return seen.probe.logits(in_memory(features[seen.probe.pooling]))
    write_probe(seen.plan, Given(seen.probe))
    return track.outputs(seen.plan.model)


def _entry(
    track: _Track, trial: Trial | None, look: Look | None, rung: int | None = None, why: str = ""
) -> dict[str, Any]:
    """A trial as report.json has it; None stands for the probe, and for a look that the clock did not allow."""
    name = trial.name if trial else PROBE
    score = look.interval if look else None
    return {
        "name": name,
        "method": trial.method if trial else PROBE,
        "learning_rate": trial.learning_rate if trial else None,
        **{key: getattr(score, key) if score else None for key in ("low", "high")},
        "score": score.value if score else None,
        "seconds": round(track.seconds.get(name, 0.0) if trial else track.seen.probe.seconds, 3),
        "dropped_at": rung,
        "reason": why,
        "looks": [
            {"step": int(key.rpartition("/")[2]), "score": look.score}
            for key, look in track.looks.items()
            if key.rpartition("/")[0] == name
        ],
    }


def _halve(track: _Track) -> tuple[Trial | None, list[dict[str, Any]]]:
    """Train all trials to each look in turn and drop most of them; return who is left, and the entries of the others.

    A single one that is left trains to its end in `_finish`.
    """
    racing, dropped = list(track.race.trials), []
    last = max((len(trial.looks) for trial in racing), default=0) - 1
    for rung in range(last + 1):
        if track.ended_early or len(racing) == 1:
            break
        looks = {}
        for trial in racing:
            if rung == last:
                _keep_weights(track, trial)
            looks[trial] = track.look_at(trial, trial.look(rung))
            if track.ended_early:
                break
        dropped += [_entry(track, trial, None, rung + 1, UNSEEN) for trial in racing if trial not in looks]
        one = track.ended_early or rung == last
        left = {t.name: track.race.seconds[t.name] * (1 - t.look(rung) / t.looks[-1]) for t in looks}
        chosen, reasons = choose(looks, left, 1 if one else policy.survivors(len(racing)))
        racing = [trial for trial in racing if trial in chosen]
        dropped += [_entry(track, trial, looks[trial], rung + 1, why) for trial, why in reasons.items()]
        _show(track, rung, looks, racing)
    return (racing[0] if racing else None), dropped


def choose(looks: dict[Trial, Look], seconds: dict[str, float], count: int) -> tuple[list[Trial], dict[Trial, str]]:
    """Return the `count` best trials, and why the others are dropped.

    Of trials that are level the one goes on that has much fewer `seconds` left, else the most promising, which stands first
    in `looks`: before the end a higher rate is often behind. At the end it is the better one.
    """
    pool, kept = list(looks), list[Trial]()
    for _ in range(count):
        best = max(pool, key=lambda trial: looks[trial].score)
        level = [t for t in pool if t is best or looks[best].beats(looks[t]) < policy.LEVEL]
        cheap = [t for t in level if seconds[t.name] < policy.CHEAPER * seconds[best.name]]
        usual = level[0] if any(seconds[t.name] for t in level) else best
        kept.append(min(cheap, key=lambda t: seconds[t.name], default=usual))
        pool.remove(kept[-1])
    reasons = {}
    for trial in pool:
        share = looks[kept[-1]].beats(looks[trial])
        place = "level with" if share < policy.LEVEL else "behind"
        reasons[trial] = f"{place} {kept[-1].name}, which is better in {share:.0%} of the draws"
    return kept, reasons


def _show(track: _Track, rung: int, looks: dict[Trial, Look], kept: list[Trial]) -> None:
    """Say what raced, what it has, and what is left."""
    left = clock(max(0.0, track.race.budget - track.spent))
    for trial, look in looks.items():
        fate = f"goes on, {left} left at most" if trial in kept else "dropped"
        log(f"{trial.name}, step {trial.look(rung)}/{trial.looks[-1]}, {track.judge.metric} {look.score:.4f}: {fate}")


def _finish(track: _Track, trial: Trial) -> _Tuned:
    """Train the winner to its end, then average its weights where that does not cost any score."""
    if not track.ended_early:
        _keep_weights(track, trial)
    ready, seen, fitted = track.train_to(trial, trial.looks[-1])
    track.ended_early |= bool(broadcast_from_main(track.late()))
    tuned = _Tuned(ready.config, seen, track.score(seen.plan.model), fitted)
    if not track.ended_early:
        track.looks[f"{trial.name}/{trial.looks[-1]}"] = tuned.look
    if track.ended_early or get_method(trial.method).group > 1:
        return tuned
    learned = [load_file(path) for path in _kept(track, trial).values() if broadcast_from_main(path.is_file())]
    return _mixed(track, trial, _averaged(track, tuned, learned))


def _kept(track: _Track, trial: Trial) -> dict[int, Path]:
    """Where the weights before the end are kept for averaging, by step; none of a method whose head is fitted at its end."""
    if get_method(trial.method).group > 1:
        return {}
    steps = {round(trial.looks[-1] * share) for share in policy.AVERAGED[:-1]}
    first = trial.looks[-2] if len(trial.looks) > 1 else 0
    between = [step for step in sorted(steps) if first < step < trial.looks[-1]]
    return {step: track.folder(trial) / f"weights-{step}.safetensors" for step in between}


def _keep_weights(track: _Track, trial: Trial) -> None:
    """Store what the trial has learned at the steps before its end, where it can be averaged."""
    for step, path in _kept(track, trial).items():
        if broadcast_from_main(path.is_file() or f"{trial.name}/{trial.looks[-1]}" in track.looks):
            continue
        _, seen, _ = track.train_to(trial, step)
        state, names = seen.plan.model.state_dict(), seen.plan.stages[-1].trainable
        if is_main_process():
            save_file({name: state[name].detach().cpu().contiguous() for name in names}, path.with_suffix(".new"))
            path.with_suffix(".new").replace(path)
        track.save()
        wait_for_all()


def _averaged(track: _Track, tuned: _Tuned, learned: list[dict[str, Tensor]]) -> _Tuned:
    """The greedy soup of the winner's last weights, the very last ones first; `learned` holds the earlier ones."""
    model = tuned.seen.plan.model
    if not learned:
        return tuned

    def score(state: State) -> float:
        model.load_state_dict(dict(state), strict=False)
        return float(broadcast_from_main(track.score(model).score))

    last = {name: model.state_dict()[name].detach().cpu().clone() for name in learned[-1]}
    soup, members = greedy_soup([last, *reversed(learned)], score)
    model.load_state_dict(soup, strict=False)
    averaged = f"mean of {len(members)}" if len(members) > 1 else None
    return replace(tuned, look=track.score(model), averaged=averaged)


def _mixed(track: _Track, trial: Trial, tuned: _Tuned) -> _Tuned:
    """The best point between the probe-headed base and the winner.

    For `full` from the probe's head: adapters are products of two matrices, and no point between them is between the weights.
    """
    if trial.method != "full" or trial.plain or not tuned.seen.plan.outputs:
        return tuned
    model = tuned.seen.plan.model
    _, fresh = track.prepared(trial)
    write_probe(fresh.plan, Given(fresh.probe))
    base, end = (_state(m) for m in (fresh.plan.model, model))
    looks = {1.0: tuned.look}
    for alpha in policy.MIXTURES[:-1]:
        model.load_state_dict(between(base, end, alpha))
        looks[alpha] = track.score(model)
    best = broadcast_from_main(best_mixture(looks))
    model.load_state_dict(between(base, end, best))
    curve = [{"alpha": alpha, "score": looks[alpha].score} for alpha in sorted(looks)]
    assert tuned.fitted is not None
    stages = tuned.fitted.stages
    points = {"metric": track.judge.metric, "alpha": best, "curve": curve}
    learned = stages[-1].trainable_parameters
    report = StageReport("interpolation", learned, {}, 0.0, 0, 0.0, [], "rows", interpolation=points)
    if is_main_process():  # from which the share of the base that is kept at alpha 1 is taken
        save_file({k: v.contiguous() for k, v in end.items()}, track.run.work / f"stage-{len(stages) - 1}.safetensors")
    wait_for_all()
    return replace(tuned, look=looks[best], alpha=best, fitted=replace(tuned.fitted, stages=[*stages, report]))


def _state(model: Any) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def _better_baseline(track: _Track, best: _Tuned) -> str | None:
    """The name of the baseline without pretraining that beats the run's model on the validation rows; None without one."""
    ready = track.ready
    told = ready.config.proves and len(ready.validation.targets) >= policy.TOLD
    if not told or not is_main_process():
        return broadcast_from_main(None)
    parts = (Rows(ready.splits.train, ready.train), Rows(ready.splits.validation, ready.validation))
    baseline = best_baseline(no_pretraining_baselines(ready.task, *parts))
    ours = track.judge.of_answers(ready.task.output.decode(best.look.outputs))
    better = track.judge.of_answers(baseline.predictions).beats(ours) >= policy.SURE
    return broadcast_from_main(baseline.name if better else None)
