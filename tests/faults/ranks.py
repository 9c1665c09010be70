"""`python -m tests.faults.ranks OUT hftl-words`: one of several processes, watched and spoiled as the tests want it.

It writes which stages ran a forward pass under autocast to `OUT-<rank>.json`. `NAN_ON` names a rank whose fifth
training loss is no number.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hftl.cli import main
from hftl.training import losses, stages


RANK = os.environ["RANK"]


def watch_autocast(file: Path) -> None:
    """Write stage → whether its forward passes ran under autocast: [false], [true] or both."""
    seen: dict[str, set[bool]] = {}
    by_gradient = stages._by_gradient

    def watched(plan: Any, stage: Any, *rest: Any) -> Any:
        def note(module: nn.Module, args: Any) -> None:
            if torch.is_grad_enabled():
                seen.setdefault(stage.name, set()).add(torch.is_autocast_enabled("cpu"))

        hooks = [m.register_forward_pre_hook(note) for m in plan.model.modules() if isinstance(m, nn.Linear)]
        try:
            return by_gradient(plan, stage, *rest)
        finally:
            for hook in hooks:
                hook.remove()
            file.write_text(json.dumps({name: sorted(values) for name, values in seen.items()}))

    stages._by_gradient = watched  # type: ignore[assignment]


def spoil_the_fifth_loss() -> None:
    make_loss, calls = losses.make_loss, 0

    def spoiled(*args: Any) -> Callable:
        loss = make_loss(*args)

        def fifth(*inputs: Any) -> torch.Tensor:
            nonlocal calls
            value = loss(*inputs)
            calls += value.requires_grad
            return value * float("nan") if calls == 5 else value

        return fifth

    stages.make_loss = spoiled  # type: ignore[assignment]


if __name__ == "__main__":
    watch_autocast(Path(f"{sys.argv[1]}-{RANK}.json"))
    if os.environ.get("NAN_ON") == RANK:
        spoil_the_fifth_loss()
    main(sys.argv[2:])
