"""A few AdamW steps with hftl's parameter groups: in one process, or sharded over two by torch's `fully_shard`.

Run by `python -m torch.distributed.run --standalone --nproc_per_node 2 -m tests.sharded_steps CHECKPOINT OUTPUT`.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import set_seed

from hftl.config import ModelConfig
from hftl.methods.plan import Group, decayed_groups
from hftl.models.load import Loaded, load_model
from hftl.tasks import get_task
from hftl.training.trainer import set_trainable


LABELS = ("class_0", "class_1", "class_2")
ROWS, STEPS, RATE = 8, 3, 1e-3


def start(checkpoint: Path) -> tuple[Loaded, tuple[Group, ...]]:
    """The model with its head from the seed; the stem and the lowest block frozen, the rest learning."""
    set_seed(0)
    loaded = load_model(get_task("text-classification"), ModelConfig(model=str(checkpoint)), LABELS)
    frozen = {"stem", "block 1"}
    groups = tuple(g for g in decayed_groups(loaded.layers, 0.9, 3.0) if g.name not in frozen)
    set_trainable(loaded.model, [name for group in groups for name in group.parameters])
    return loaded, groups


def train(model: Any, groups: tuple[Group, ...], rank: int, world: int) -> None:
    """STEPS steps of ROWS rows in all; every process takes its share. The optimizer is made of what `model` holds now."""
    parameters = dict(model.named_parameters())
    chosen = [{"params": [parameters[n] for n in g.parameters], "lr": RATE * g.rate} for g in groups]
    optimizer = torch.optim.AdamW(chosen, weight_decay=0.01)
    numbers = torch.Generator().manual_seed(1)
    model.train()
    for _ in range(STEPS):
        ids = torch.randint(5, model.config.vocab_size, (ROWS, 10), generator=numbers)[rank::world]
        labels = torch.randint(0, len(LABELS), (ROWS,), generator=numbers)[rank::world]
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        torch.nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
        optimizer.zero_grad()


def shard(model: Any) -> None:
    """Shard the layers that the model names as its units, then what is left."""
    for module in list(model.modules()):
        if type(module).__name__ in model._no_split_modules:
            fully_shard(module)
    fully_shard(model)


def whole(model: Any) -> dict[str, torch.Tensor]:
    """The gathered weights; every process must call this."""
    state = model.state_dict()
    return {k: (v.full_tensor() if isinstance(v, DTensor) else v).detach().clone() for k, v in state.items()}


def main(checkpoint: str, output: str) -> None:
    dist.init_process_group("gloo")
    loaded, groups = start(Path(checkpoint))
    shard(loaded.model)
    parameters = dict(loaded.model.named_parameters())
    facts = {
        "world": dist.get_world_size(),
        "unsharded": [n for n, p in parameters.items() if not isinstance(p, DTensor)],
        "learning": sorted(n for n, p in parameters.items() if p.requires_grad),
        "total": sum(p.numel() for p in parameters.values()),
        "local": sum(p.to_local().numel() for p in parameters.values() if isinstance(p, DTensor)),
    }
    train(loaded.model, groups, dist.get_rank(), dist.get_world_size())
    state = whole(loaded.model)
    if dist.get_rank() == 0:
        save_file(state, Path(output) / "sharded.safetensors")
        (Path(output) / "facts.json").write_text(json.dumps(facts))
    dist.barrier()
    # All is written. On a busy machine torch 2.13 aborts now and then as it takes its own threads down ("terminate called
    # without an active exception"), which says nothing of the steps.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
