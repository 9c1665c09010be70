"""`wise`: `full`, then the best point between the probe-headed base and the tuned weights (WiSE-FT)."""

from dataclasses import replace
from functools import partial
from typing import Any

from hftl.config import MethodConfig
from hftl.methods.full import FULL, full
from hftl.methods.plan import Given, Loaded, Method, Plan, Stage, Tensor


ALPHAS = tuple(i / 10 for i in range(11))  # the paper's grid runs from 0 to 1 as well


def wise(loaded: Loaded, config: MethodConfig, n_train: int) -> Plan:
    """`full`, then alpha x tuned + (1 - alpha) x base for every weight (Wortsman et al. 2022, section 3).

    The base has the probe's head, which stands for the paper's zero-shot head. Alpha is chosen on the validation rows.
    Batch norms kept their pretrained statistics while `full` ran, so that both ends have the same.
    """
    plan = full(loaded, config, n_train)
    probe, tuning = plan.stages
    mixing = Stage("interpolation", tuning.groups, 0.0, solve=partial(interpolate, keep=config.keep), start=0)
    return replace(plan, stages=(probe, tuning, mixing))


def interpolate(plan: Plan, given: Given, keep: float | None = None) -> dict[str, Any]:
    """Give the model the weights of the best alpha: of equal scores the smallest, which keeps most of the base.

    With `keep`, of those alone that keep this share of the base; alpha 0 keeps all. Returns the metric, that alpha and
    the curve of scores. Costs a forward pass over the validation rows per alpha, with `keep` over the retention rows too.
    """
    assert given.start is not None
    assert given.score is not None
    tuned = {name: tensor.detach().cpu().clone() for name, tensor in plan.model.state_dict().items()}
    curve = []
    for alpha in ALPHAS:
        plan.model.load_state_dict(between(given.start, tuned, alpha))
        point = {"alpha": alpha, "score": given.score(plan.model)}
        if keep is not None:
            assert given.kept is not None
            point["kept"] = given.kept(plan.model)
        curve.append(point)
    allowed = [point for point in curve if keep is None or point["kept"] >= keep]
    best = max(allowed, key=lambda point: (point["score"], -point["alpha"]))
    plan.model.load_state_dict(between(given.start, tuned, best["alpha"]))
    return {"metric": given.metric, "alpha": best["alpha"], "curve": curve}


def between(base: dict[str, Tensor], tuned: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Return the state at `alpha`; at 0 it is `base` and at 1 `tuned`, bit for bit.

    What did not change, counters and masks among it, stays as it is.
    """
    return {
        name: tensor if tensor.equal(base[name]) else base[name].lerp(tensor, alpha) for name, tensor in tuned.items()
    }


WISE = Method(
    "wise",
    "full, then the best mixture of base and tuned weights: as good on your data, and less forgotten",
    "all layers trained, then mixed with the model they started from",
    wise,
    rows=FULL.rows,
    flags=(*FULL.flags, "keep"),
    needs_probe=True,
)
