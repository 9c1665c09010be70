"""What the methods that mix two models keep of the base: at both ends of the line between them, and where they stopped."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from hftl.forgetting.measure import Before, forgetting
from hftl.prepare import Prepared
from hftl.training.stages import Fitted


def with_kept(fitted: Fitted, before: Before, kept: dict[str, Any], model: Any, ready: Prepared, work: Path) -> Fitted:
    """Return `fitted` with `kept` at alpha 0, at the chosen alpha and at 1 in the curve of an interpolation.

    `kept` is what `forgetting` said of `model`, which is the same afterwards. Costs one pass over the retention rows.
    All processes call this together; stages that trained are left alone.
    """
    *earlier, last = fitted.stages
    found = last.interpolation
    if found is None or kept["kept"] is None:
        return fitted
    shares = {0.0: 1.0, found["alpha"]: kept["kept"]}
    if 1.0 not in shares:
        state = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(load_file(work / f"stage-{len(earlier) - 1}.safetensors"))
        shares[1.0] = forgetting(before, model, ready)["kept"]
        model.load_state_dict(state)
    curve = [{**point, "kept": shares.get(point["alpha"])} for point in found["curve"]]
    return replace(fitted, stages=[*earlier, replace(last, interpolation={**found, "curve": curve})])
