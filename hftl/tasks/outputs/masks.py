"""A class for every pixel: semantic segmentation. Maps of classes are counted and let go; none is held for all rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor

from hftl.config import DataConfig
from hftl.data.images import open_image
from hftl.data.masks import IGNORED, mask_faults, upright_size
from hftl.errors import ModelError
from hftl.evaluation.mask_scores import (
    COMPARED,
    SCORES,
    iou_of,
    mask_statistics,
    pixel_cells,
    pixel_counts,
)
from hftl.evaluation.pixel_baseline import constant_class, fit_pixels, pixel_map, some_pixels
from hftl.tasks.inputs.image import file_digest
from hftl.tasks.inputs.pixels import resized
from hftl.tasks.outputs.classes import CLASSES
from hftl.tasks.outputs.mask_ids import (
    WANTED,
    Rule,
    counts,
    encode,
    examine,
    gather,
    known_facts,
    names,
    rarest,
    read,
    recognise,
    right_mask,
)
from hftl.tasks.outputs.mask_pictures import annotated, assembled, blended, colours_of, on_grid, picture
from hftl.tasks.outputs.names import check_names, late
from hftl.tasks.patches import counted, nearest
from hftl.tasks.task import NOT_ASKED, Answer, Encoded, Made, Output, Summed


_AT_ONCE = 2**26  # values of enlarged maps in memory at a time: 256 MB
_SHOWN = 3  # classes that a line of an answer names


@dataclass(frozen=True, repr=False)
class Segmented(Answer):
    """The classes of all pixels of one image [height, width]; the detail holds the share of each, and the colours."""

    def __repr__(self) -> str:
        return f"Segmented({self.shares!r})"

    @property
    def mask(self) -> np.ndarray:
        """The id of the class of every pixel."""
        return np.asarray(self.value)

    @property
    def shares(self) -> dict[str, float]:
        """The share of the pixels of each class that there is, the largest first."""
        return dict(self.detail)

    @property
    def pixels(self) -> dict[str, int]:
        """How many pixels each class has that there is, the largest first."""
        return {name: round(share * self.mask.size) for name, share in self.shares.items()}


def enlarged(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps [b, K, ...] in a size, as `post_process_semantic_segmentation` of transformers enlarges them."""
    if tuple(logits.shape[2:]) == tuple(size):
        return logits.float()
    return F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)


def pixel_loss(logits: Tensor, labels: Tensor, weights: Any = None, smoothing: float = 0.0) -> Summed:
    """Return the sum over the pixels that count, and how many these are.

    Stock heads take the mean over a batch, which is wrong under accumulation (FACTS.md, trap 16).
    """
    maps = enlarged(logits, (labels.shape[-2], labels.shape[-1]))
    options: dict[str, Any] = {"ignore_index": NOT_ASKED, "label_smoothing": smoothing}
    return F.cross_entropy(maps, labels, reduction="sum", **options), int((labels != NOT_ASKED).sum())


def keep(logits: Tensor, mask: Any) -> np.ndarray:
    """Return what is kept of a map [K, ...]: the counts of `pixel_counts`, the cells of `pixel_cells`, the share of wrong
    pixels, and the mean loss of a pixel.
    """
    mask = np.asarray(mask)
    truth = torch.as_tensor(mask, device=logits.device, dtype=torch.int64)
    best, _, loss = _likeliest(logits, truth)
    answer, count = best.cpu().numpy(), int((truth != NOT_ASKED).sum())
    counted = pixel_counts(answer, mask, len(logits))
    wrong = (count - counted[2 * len(logits) :].sum()) / max(1, count)
    return np.concatenate([counted, pixel_cells(answer, mask, len(logits)), [wrong, loss / max(1, count)]])


def show(logits: Tensor, blank: np.ndarray) -> Any:
    """Return the map of an image in its own size, and the mean probability of its pixels' classes, as one object."""
    best, confidence, _ = _likeliest(logits, torch.as_tensor(blank, device=logits.device, dtype=torch.int64))
    return best.to(torch.uint8 if len(logits) <= 256 else torch.int16).cpu().numpy(), confidence


def _likeliest(logits: Tensor, truth: Tensor) -> tuple[Tensor, float, float]:
    """Return the likeliest class of every pixel of `truth`, their mean probability, and the summed loss of those that count.

    The maps [K, height, width] of a photo and many classes would fill the memory: some classes at a time are enlarged.
    """
    size, step, asked = (truth.shape[0], truth.shape[1]), max(1, _AT_ONCE // truth.numel()), truth != NOT_ASKED
    best, top, total, right = truth, *(torch.zeros(0),) * 3
    for first in range(0, len(logits), step):
        maps = enlarged(logits[None, first : first + step], size)[0]
        value, place = maps.max(0)
        mass = maps.logsumexp(0)
        if first:
            place = torch.where(value > top, place + first, best)
            value, mass = torch.maximum(value, top), torch.logaddexp(mass, total)
        best, top, total = place, value, mass
        if asked.any():
            own = maps.gather(0, (truth - first).clamp(0, len(maps) - 1)[None])[0]
            right = torch.where(truth >= first, own, right) if first else own  # the last one is of the right class
    loss = float((total - right)[asked].sum()) if asked.any() else 0.0
    return best, float((top - total).exp().mean()), loss


def blank(table: Dataset) -> Made:
    """Return masks of the images' sizes in which no pixel is asked."""

    def make(value: Any) -> np.ndarray:
        width, height = upright_size(value)
        return np.full((height, width), NOT_ASKED, dtype=np.int16)

    return Made.of(table["image"][:], make, file_digest)


def answers(outputs: Sequence[Any], labels: Sequence[str]) -> list[Segmented]:
    """Return the answer to each row of `show`."""
    found = []
    for mask, confidence in outputs:
        shares = np.bincount(mask.ravel(), minlength=len(labels)) / mask.size
        order = [i for i in np.argsort(-shares, kind="stable") if shares[i] > 0]
        found.append(Segmented(mask, confidence, {labels[i]: float(shares[i]) for i in order}))
    return found


def baselines(kinds: Sequence[str], train: Encoded, targets: Made, test: Encoded) -> list[Any]:
    """Return the majority class, and regression of the class on a pixel's colour and position.

    `predictions` are pixel counts, as `keep` makes them: maps of all rows would not fit in memory.
    """
    import time

    from hftl.evaluation.baselines import Baseline  # late: scikit-learn takes a second

    def rows(part: Encoded) -> Any:
        for i in range(len(part)):
            pixels = part.arrays["pixels"][i]
            yield pixels, resized(part.targets[i], pixels.shape[-2:]).numpy().astype(np.int64)

    start, train, test = time.perf_counter(), train.once(), test.once()
    features, classes = some_pixels(rows(train), len(train))
    models = {
        "majority class": constant_class(classes),
        "colour and position of a pixel, logistic regression": fit_pixels(features, classes),
    }
    counted: list[list[np.ndarray]] = [[] for _ in models]
    for pixels, mask in ((test.arrays["pixels"][i], test.targets[i]) for i in range(len(test))):
        for model, into in zip(models.values(), counted, strict=True):
            guess = _likeliest(torch.from_numpy(pixel_map(model, pixels)), torch.as_tensor(mask).long())[0].numpy()
            into.append(pixel_counts(guess, mask, 1 + int(max(classes.max(), mask.max()))).reshape(3, -1))
    seconds = time.perf_counter() - start
    width = max(one.shape[1] for one in counted[0])
    return [
        Baseline(
            name, np.stack([np.pad(one, ((0, 0), (0, width - one.shape[1]))) for one in into]), seconds, None, model
        )
        for (name, model), into in zip(models.items(), counted, strict=True)
    ]


def settle(rule: Rule, outputs: Any, targets: Made, labels: Sequence[str], asked: str) -> dict[str, Any]:
    """Return what a model's config says of masks: what ids in them stand for, and the colours of the classes."""
    first = None if rule.binary or not len(targets) else open_image(targets.origins[0]).getpalette()
    palette = [list((first or [])[3 * i : 3 * i + 3]) for i in range(len(labels))]
    if len({*map(tuple, palette)} - {()}) < len(labels):  # there is none, or one in which classes look alike
        palette = colours_of(None, len(labels))
    return {
        "mask_values": "binary" if rule.binary else "class",
        "ignore_index": rule.ignored,
        "palette": palette,
    }


def configured(config: Any) -> Output:
    """Return the output that reads masks as a model's config says."""
    if not hasattr(config, "mask_values"):
        return MASKS
    return _by(Rule(config.mask_values == "binary", getattr(config, "ignore_index", None)))


def asked(rule: Rule, config: DataConfig, classes: Sequence[str]) -> Output:
    """Return the output that reads masks as the flags say; what they leave open is as it was."""
    binary = rule.binary if config.mask_values is None else config.mask_values == "binary"
    ignored = rule.ignored if binary == rule.binary else None if binary else IGNORED
    return _by(Rule(binary, ignored if config.ignore_index is None else config.ignore_index, tuple(classes)))


def check_masks(config: Any, name: str) -> None:
    """Raise `ModelError` for a model whose classes have no names."""
    check_names(config, name)
    if config.num_labels < 2:
        raise ModelError(f"{name} knows one class alone, so that it has nothing to tell apart.")


def errors(outputs: np.ndarray, counted: np.ndarray, targets: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the share of wrong pixels of each row, that again, and the mean loss: see `Output.errors`."""
    wrong = counted[:, -2]
    return wrong, {"wrong": wrong, "loss": counted[:, -1]}


def confused(
    counted: np.ndarray, targets: Any, names: Sequence[str]
) -> tuple[Sequence[str], list[tuple[int, int, int]]]:
    """Return the names, and how many pixels of each class are taken for each; none where these were not kept."""
    first = 3 * len(names)
    cells = counted[:, first:-2].sum(axis=0).reshape(-1, len(names))
    return names, [(int(i), int(j), int(cells[i, j])) for i, j in np.argwhere(cells)]


def _cells(answer: Segmented) -> dict[str, Any]:
    shown = [f"{name} {share:.1%}" for name, share in [*answer.shares.items()][:_SHOWN]]
    classes = {name: {"pixels": count, "share": answer.shares[name]} for name, count in answer.pixels.items()}
    return {"prediction": ", ".join(shown), "probability": answer.confidence, "classes": classes}


def named(target: Any, labels: Sequence[str]) -> str:
    """Return the classes of a mask, those of most pixels first; nothing for one that is not kept."""
    ids = np.asarray(target, dtype=np.int64)
    frequent = np.bincount(ids[ids >= 0], minlength=len(labels))
    return ", ".join(labels[i] for i in np.argsort(-frequent, kind="stable") if frequent[i])


MASKS = Output(
    problem_type="semantic_segmentation",
    usual=("mask", "masks", "label", "labels", "annotation", "segmentation", "semantic_mask"),
    read=read,
    names=partial(names, Rule()),
    encode=encode,
    recognise=partial(recognise, Rule()),
    gather=partial(gather, Rule()),
    strata=partial(rarest, Rule()),
    counts=partial(counts, Rule()),
    loss=pixel_loss,
    keep=keep,
    show=show,
    blank=blank,
    decode=counted,
    answers=answers,
    check=check_masks,
    statistics=lambda counted, targets, labels: mask_statistics(counted, len(labels)),
    scores=SCORES,
    compared=COMPARED,
    best="miou",
    lines=lambda labels: labels,
    extra=iou_of,
    errors=errors,
    probe=late("mask_probe", "fit_patch_probe"),
    neighbours=nearest,
    columns=lambda targets, labels, features: features.shares,
    plain=baselines,
    parts=("slices", "confusion", "worst_rows"),
    mistaken=confused,
    coded=lambda target: [],
    colours=colours_of,
    over=blended,
    ask=lambda labels: {},
    flatten=assembled,
    flat=lambda answer, labels: on_grid(answer.mask),
    cells=_cells,
    widget="AnnotatedImage",
    draw=annotated,
    tell=lambda answer: _cells(answer)["prediction"],
    picture=picture,
    typed=partial(right_mask, Rule()),
    explained=False,
    words=CLASSES.words
    | {
        "does": "gives every pixel of {row} one of {n} classes",
        "always": "It gives every pixel one of its {n} classes, also where none fits.",
        "use": "For finding these classes in {rows} like those it was trained on",
        "units": "pixels",
        "same": "masks, but for a share of {} of the pixels",
        "given": "mask",
        "lacks": "without a mask",
        "wanted": WANTED,
        "guess": "the most frequent class",
        "worst": "The images of which most pixels are wrong.",
        "loss": "{wrong:.1%} of its pixels are wrong",
        "ask": "Segment",
        "typed": "Upload the right mask, of ids like those of the data. Without one the model's answer becomes the mask.",
        "code": "Each class that was found is one entry: its name and its mask, a picture of 0 and 255.",
    },
    say=named,
    fits=lambda inputs, values: mask_faults(inputs["image"][:], values),
    configured=configured,
    asked=partial(asked, Rule()),
    examine=partial(examine, Rule()),
    known_facts=partial(known_facts, Rule()),
    settle=partial(settle, Rule()),
)


def _by(rule: Rule) -> Output:
    """Return the output with all that reads ids bound to a rule."""
    bound: dict[str, Any] = {
        "names": names,
        "gather": gather,
        "recognise": recognise,
        "settle": settle,
        "asked": asked,
        "examine": examine,
        "known_facts": known_facts,
        "typed": right_mask,
    }
    bound |= {"counts": counts, "strata": rarest}
    fields: dict[str, Any] = {name: partial(function, rule) for name, function in bound.items()}
    return replace(MASKS, **fields)
