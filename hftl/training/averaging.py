"""Averages of weights along a training (model soups): taken only where they do not lose on the validation rows."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor


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
