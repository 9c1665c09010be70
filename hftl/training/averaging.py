"""Averages of weights along a training (model soups): taken only where they do not lose on the validation rows."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback

from hftl.atomic import new_file
from hftl.training.world import is_main_process, wait_for_all


State = Mapping[str, Tensor]


def mean_of(states: Sequence[State]) -> dict[str, Tensor]:
    """Return the mean of every weight."""
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}


def greedy_soup(states: Sequence[State], score: Callable[[State], float]) -> tuple[dict[str, Tensor], list[int]]:
    """Return the mean of the states that help, and their numbers: the first one is always among them.

    The greedy recipe of "Model soups" (Wortsman et al. 2022, section 2): each next state joins where the mean with it
    does not score worse; of `score` more is better. The paper's models come from several trainings, the best first. Of
    one training give the last weights first: few validation rows would call worse ones the best (docs/log.md).
    """
    members, best = [0], score(states[0])
    for i in range(1, len(states)):
        value = score(mean_of([states[j] for j in (*members, i)]))
        if value >= best:
            members, best = [*members, i], value
    return mean_of([states[j] for j in members]), members


def what_learns(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the weights that learn, on the CPU."""
    return {n: p.detach().cpu().clone().contiguous() for n, p in module.named_parameters() if p.requires_grad}


def put_back(module: nn.Module, state: State) -> None:
    """Give `module` the weights of `state`, wherever it is."""
    with torch.no_grad():
        for name, value in state.items():
            module.get_parameter(name).copy_(value)


class Snapshots(TrainerCallback):
    """Keeps what learns as it was at the last `count` evaluations, in files: a run that is cut off finds them again."""

    def __init__(self, folder: Path, count: int):
        self._folder, self._count = folder, count

    def paths(self) -> dict[int, Path]:
        """Return the files by step, in order."""
        return dict(sorted((int(path.stem.rpartition("-")[2]), path) for path in self._folder.glob("weights-*")))

    def on_evaluate(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Write the weights of this step and drop those that are too old by now."""
        if is_main_process():
            with new_file(self._folder / f"weights-{state.global_step}.safetensors") as path:
                save_file(what_learns(model), path)
            for old in list(self.paths().values())[: -self._count]:
                old.unlink()


def add_soup(module: nn.Module, snapshots: Snapshots, step: int, score: Callable[[], float]) -> dict[str, Any]:
    """Give `module`, which has the weights of `step`, the greedy soup of these and the snapshots, the latest first.

    Returns the steps that are in it, and the validation scores without and with it. All processes call this together.
    """
    wait_for_all()
    paths = {other: path for other, path in reversed(snapshots.paths().items()) if other != step}
    steps, values = [step, *paths], []

    def scored(state: State) -> float:
        put_back(module, state)
        values.append(score())
        return values[-1]

    soup, members = greedy_soup([what_learns(module), *(load_file(path) for path in paths.values())], scored)
    return {"steps": sorted(steps[i] for i in members), "before": values[0], "score": scored(soup)}


def soup_in_words(stage: str, soup: dict[str, Any]) -> str:
    """Say what came of an average."""
    gain = f"{soup['metric']} {soup['score']:.4f} on validation, {soup['before']:.4f} without"
    return f"{stage}: --soup took the mean of steps {', '.join(map(str, soup['steps']))}: {gain}."
