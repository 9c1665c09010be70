"""The files beside model.onnx: predict.py and what it reads, and what transformers.js reads."""

import json
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
from PIL import Image
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as TEXT_CLASSES

from hftl.errors import ModelError
from hftl.models.pooled import OWN_CLASSES
from hftl.predict import Predictor
from hftl.tasks.inputs.image import affine_map, image_side


Steps = dict[str, Any]  # what predict.py does to an image, as predict.json holds it
# Odd, tiny, tall and wide images: rounding, upscaling and cropping differ in these first. Width, height.
_PROBES = ((64, 48), (37, 91), (200, 133), (301, 300), (9, 5), (31, 250))
# One grey level is 1/255 before normalisation, which only enlarges it; fp32 arithmetic differs by 1e-6.
_TOLERANCE = 1e-4
_NO_LIMIT = 100_000  # tokenizers that know no limit report a number beyond any model's


def write_companions(folder: Path, predictor: Predictor, name: str) -> None:
    """Write predict.py (of entities also predict_words.py and words.py, of masks predict_masks.py), predict.json, the processor's files and config.json.

    predict.json holds the labels, how they are answered, and what is done to an image before.
    Characters of a label that a terminal would obey (tabs, line ends, escapes) become spaces in predict.json;
    config.json keeps the labels as they are. Raises `ModelError` for a processor that predict.py cannot stand for.
    """
    processor = predictor.processor
    printable = ["".join(c if c.isprintable() else " " for c in label) for label in predictor.labels]
    output, overlap = predictor.task.output, predictor.task.inputs.overlap
    values: dict[str, Any] = {"labels": printable, "answers": "entities" if overlap else output.link}
    painted = output.colours is not None
    if output.colours is not None:
        values |= {"answers": "masks", "palette": output.colours(predictor.model.config, len(printable))}
    if output.link == "sigmoid":
        values["thresholds"] = getattr(predictor.model.config, "thresholds", None) or [0.5] * len(printable)
    if len(predictor.task.inputs.columns) > 1:
        values["pairs"] = True
    if predictor.task.inputs.padded:
        _write_tokenizer(folder, processor, name, overlap(processor) if overlap else 0)
    else:
        window = predictor.task.inputs.window
        values["preprocessing"] = read_preprocessing(processor, name, None if window is None else window(processor))
        processor.save_pretrained(folder)
    _write_config(folder, predictor.model.config)
    (folder / "predict.json").write_text(json.dumps(values, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    scripts = [
        "export/templates/predict.py",
        *(["export/templates/predict_words.py", "data/words.py"] if overlap else []),
        *(["export/templates/predict_masks.py"] if painted else []),
    ]
    for script in scripts:
        copyfile(str(files("hftl") / script), folder / Path(script).name)


def _write_tokenizer(folder: Path, tokenizer: Any, name: str, overlap: int) -> None:
    """Write tokenizer.json, which cuts at `tokenizer.model_max_length` and pads nothing, and its configuration.

    What is cut off comes in windows that share `overlap` tokens.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)  # tokenizers written in Python have none
    if backend is None:
        why = f"its {type(tokenizer).__name__} is written in Python"
        needed = "predict.py needs one that the tokenizers library can run"
        raise ModelError(f"{name} cannot be exported: {why}, and {needed}.")
    if tokenizer.model_max_length > _NO_LIMIT:
        why = "its tokenizer knows no longest text. Set model_max_length in tokenizer_config.json"
        raise ModelError(f"{name} cannot be exported: {why}.")
    tokenizer.save_pretrained(folder)
    alone = type(backend).from_str(backend.to_str())  # settings of the copy, not of the tokenizer in use
    alone.no_padding()
    alone.enable_truncation(int(tokenizer.model_max_length), stride=overlap, direction=tokenizer.truncation_side)
    alone.save(str(folder / "tokenizer.json"))


def _write_config(folder: Path, config: Any) -> None:
    """Write config.json, by which transformers.js knows the task, the inputs and the labels.

    A class of hftl's own reads and puts out what a stock classifier of the encoder would, so its graph goes by that name.
    """
    if config.model_type in OWN_CLASSES:
        fields = {**config.encoder, "id2label": config.id2label, "label2id": config.label2id}
        fields["architectures"] = [TEXT_CLASSES.get(fields["model_type"], config.architectures[0])]
    else:
        fields = json.loads(config.to_json_string())
    for private in ("auto_map", "_name_or_path", "name_or_path"):  # code that is not here; a path of this machine
        fields.pop(private, None)
    (folder / "config.json").write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_preprocessing(processor: Any, name: str, window: int | None = None) -> Steps:
    """Return the processor's steps: `size` [width, height] or `shortest_edge`, then `resample` (Pillow's number), then
    the centre `crop` [width, height], then `scale` and `offset` per channel of bytes. Images that are read in a `window`
    of so many pixels a side keep their own size.

    The steps are run on odd images and must give the processor's own pixels. Raises `ModelError` when none of the
    known ways of resizing does.
    """
    kind = type(processor).__name__
    noise = [np.random.default_rng(w * 1000 + h).integers(0, 256, (h, w, 3), dtype=np.uint8) for w, h in _PROBES]
    images = [Image.fromarray(pixels) for pixels in noise]
    try:
        side = image_side(processor)
        scale, offset = affine_map(processor)
        expected = [np.asarray(processor([image])["pixel_values"][0], dtype=np.float32) for image in images]
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise ModelError(f"{name} cannot be exported: its {kind} fails on a plain RGB image ({error}).") from None
    fixed: Steps = {"resample": int(getattr(processor, "resample", 2)), "crop": [side, side]}
    fixed |= {"scale": scale.flatten().tolist(), "offset": offset.flatten().tolist()}
    as_it_is = {"size": None, "shortest_edge": None, "crop": None, "window": window}
    for way in _resizings(processor, side) if window is None else [as_it_is]:
        steps = {**fixed, **way}
        ours = [apply(steps, image) for image in images]
        if all(a.shape == b.shape and np.abs(a - b).max() < _TOLERANCE for a, b in zip(ours, expected, strict=True)):
            return steps
    raise ModelError(
        f"{name} cannot be exported: predict.py cannot reproduce what its {kind} does to images "
        "(known: resize, centre crop, rescale, normalise)."
    )


def apply(steps: Steps, image: Image.Image) -> np.ndarray:
    """Return [3, height, width] fp32 of an RGB image, by the very code of `predict.py`."""
    from hftl.export.templates.predict import image_feeds  # late: it needs onnxruntime

    file = BytesIO()
    image.save(file, "png")
    array: np.ndarray = next(image_feeds([file], steps))["pixel_values"][0]
    return array


def _resizings(processor: Any, side: int) -> list[Steps]:
    """The ways of resizing that the processor's sizes allow."""
    size = dict(getattr(processor, "size", None) or {})
    edge, crop_pct = size.get("shortest_edge"), getattr(processor, "crop_pct", None) or 1.0
    # ConvNeXt's edge is that of the crop; LeViT's is 224 of 256.
    edges = [edge, int(edge / crop_pct), int(256 / 224 * edge)] if edge else []
    sizes: list[list[Any]] = [[size.get("width"), size.get("height")], [edge, edge], [side, side]]
    ways: list[Steps] = [{"size": None, "shortest_edge": edge} for edge in edges]
    return [*ways, *({"size": pair, "shortest_edge": None} for pair in sizes if all(pair))]
