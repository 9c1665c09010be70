"""`contrastive`: the body learns which rows are alike, then the probe is fitted on its new features (SetFit)."""

from hftl.config import MethodConfig
from hftl.methods.plan import Given, Group, Loaded, Method, Plan, Stage, Tensor, probe_stage, write_probe
from hftl.methods.probe import PROBE


GROUP = 16  # rows that are compared with each other
TEMPERATURE = 0.1  # Khosla et al. 2020, section 4.4


def contrastive(loaded: Loaded, config: MethodConfig, n_train: int) -> Plan:
    """First rows of a class are drawn together and others apart, then the probe is fitted (Tunstall et al. 2022, SetFit).

    Of each group of rows all pairs count, so that few steps do: the loss is Khosla et al.'s (2020, supervised
    contrastive learning), on what the head reads.
    """
    (head,) = probe_stage(loaded.model, loaded.outputs).groups
    body = tuple(name for name, _ in loaded.model.named_parameters() if name not in head.parameters)
    defaults = {
        "learning_rate": 1e-4,
        "max_steps": 30,  # 60 were 1 point worse on banking77 and 4 on trashnet at 8 rows a class (docs/log.md)
        "per_device_train_batch_size": 2 * GROUP,
        "save_strategy": "steps",  # an epoch of a few rows is a step or two
        "save_steps": 15,
        "warmup_steps": 0.1,
        "lr_scheduler_type": "linear",
        "weight_decay": 0.01,
    }
    pairs = Stage("pairs", (Group("body", body, 1.0),), 1.0, loss=pull_together, group=GROUP)
    new_probe = Stage("probe", (head,), 0.0, solve=fit_and_write)
    return Plan(loaded.model, loaded.outputs, loaded.layers, (pairs, new_probe), defaults)


def pull_together(features: Tensor, alike: Tensor) -> Tensor:
    """Return the loss of each row, [n]: features [n, d] of alike rows should be closer than others of their group.

    `alike` [n, n] is from 0 to 1; only rows of the same `GROUP` are compared. A row without a like one counts 0.
    """
    import torch
    from torch.nn.functional import normalize

    groups = normalize(features.float(), dim=1).view(-1, GROUP, features.shape[1])
    own = torch.eye(GROUP, dtype=torch.bool, device=features.device)
    nearness = (groups @ groups.mT / TEMPERATURE).masked_fill(own, -torch.inf).log_softmax(2).masked_fill(own, 0)
    blocks = alike.view(len(groups), GROUP, len(groups), GROUP).diagonal(dim1=0, dim2=2).permute(2, 0, 1)
    pulls = blocks.masked_fill(own, 0)
    return -((pulls * nearness).sum(2) / pulls.sum(2).clamp(min=1e-9)).flatten()


def fit_and_write(plan: Plan, given: Given) -> None:
    """Fit the probe on the features that the body has now, and write it into the head."""
    assert given.fit is not None
    write_probe(plan, Given(given.fit()))


CONTRASTIVE = Method(
    "contrastive",
    "the body learns which rows are alike, then the probe: for a few rows of each class (SetFit)",
    "all layers trained to tell rows of different classes apart, then a simple classifier on top",
    contrastive,
    rows=PROBE.rows,
    may_pool=True,
    group=GROUP,
    needs_probe=True,
)
