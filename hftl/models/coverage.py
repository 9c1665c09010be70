"""What of a checkpoint must have been loaded: `from_pretrained` replaces what is missing by random numbers."""

from typing import Any

import torch

from hftl.errors import ModelError
from hftl.models.layers import find_layers, is_under, outer_modules


# Parameters that a checkpoint may lack wherever they lie: a classifier does not read them.
_UNREAD = ("mask_token",)


def check_loaded(model: Any, info: dict[str, Any], name: str, batch: dict[str, torch.Tensor] | None) -> None:
    """Raise `ModelError` when weights that were pretrained must be there and are not.

    `info` is the loading info of `from_pretrained`. With a `batch` (the smallest one), what runs outside of the body or
    after its last block may be new: a head, a pooler, a last norm. Without one, everything must have been loaded.
    """
    mismatched = {key: shapes for key, *shapes in info["mismatched_keys"]}
    lacking = [key for key in [*info["missing_keys"], *mismatched] if not key.endswith(_UNREAD)]
    if not lacking:
        return
    may_be_new: tuple[str, ...] = ()
    if batch is not None:
        may_be_new = find_layers(model, outer_modules(model), batch, least=1).above
    wrong = sorted(key for key in lacking if not is_under(key, may_be_new))
    if not wrong:
        return
    total = len(model.state_dict())
    raise ModelError(
        f"{name} does not hold the weights that its config.json describes: {len(wrong)} of {total} tensors would be "
        f"random. {_cause(wrong, mismatched, sorted(info['unexpected_keys']))}"
    )


def _cause(wrong: list[str], mismatched: dict[str, list[Any]], unexpected: list[str]) -> str:
    for key in wrong:
        for other in unexpected:
            if other.endswith("." + key) or other.endswith("." + key.partition(".")[2]):
                prefix = other[: -len(key)] if other.endswith(key) else other.removesuffix(key.partition(".")[2])
                return f"Its tensors are called {prefix}...: save the model without that prefix."
    for key in wrong:
        if key in mismatched:
            of_file, of_config = (list(shape) for shape in mismatched[key])
            return f"{key} is {of_file} in the file and {of_config} by config.json: one of the two is not its own."
    return f"Missing is {', '.join(wrong[:3])}{' and more' if len(wrong) > 3 else ''}: fetch or save it again."
