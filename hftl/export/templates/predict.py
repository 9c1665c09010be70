"""Answer texts or images: python predict.py INPUT ... Needs onnxruntime, and tokenizers for texts, Pillow for images.

A model of pairs takes the two texts of a pair one after the other. Of entities it prints a line each: the number of its
text from 0, its type and score, where it starts and ends, and what it is. Of masks it writes NAME.mask.png of NAME.jpg,
whose pixels are ids of classes, into the working folder.
"""

import argparse
import json
from importlib import import_module
from pathlib import Path

import numpy as np
import onnxruntime


HERE = Path(__file__).resolve().parent


def text_feeds(texts):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    for text in texts:  # each runs on its own, so that none is padded
        parts = [text] if isinstance(text, str) else [text["text"], text["text_pair"]]
        encoding = tokenizer.encode(*parts)
        ids, types = (np.array([numbers], dtype=np.int64) for numbers in (encoding.ids, encoding.type_ids))
        yield {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": types}


def image_feeds(images, steps):
    from PIL import Image, ImageOps

    for image in map(ImageOps.exif_transpose, map(Image.open, images)):
        if image.mode[:4] in ("I;16", "F") or (image.mode == "I" and np.asarray(image).max() > 255):  # to eight bits
            pixels = np.asarray(image, "f8").clip(0, 65535)
            white = next(top for top in (1, 255, 65535) if top == 65535 or (image.mode == "F" and pixels.max() <= top))
            image = Image.fromarray((pixels * (255 / white) + 0.5).astype(np.uint8))
        edge = steps["shortest_edge"] or min(image.size)
        size = steps["size"] or [int(edge * side / min(image.size)) for side in image.size]
        image = image.convert("RGB").resize(size, steps["resample"])
        crop = steps["crop"] or image.size
        box = [(a - b) // 2 + end * b for end in (0, 1) for a, b in zip(image.size, crop, strict=True)]
        array = np.asarray(image.crop(box), "f4") * np.float32(steps["scale"]) + np.float32(steps["offset"])
        yield {"pixel_values": array.transpose(2, 0, 1)[None]}


def config():
    return json.loads((HERE / "predict.json").read_text(encoding="utf-8"))


def session(model):
    onnxruntime.set_default_logger_severity(4)  # what goes wrong is raised as well
    path = next((place for place in (Path(model), HERE / model) if place.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"There is no file {model}, neither in the working folder nor beside predict.py.")
    try:
        return onnxruntime.InferenceSession(str(path.resolve()), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has one class for each kind of fault
        raise ValueError(f"{model} is no ONNX model that onnxruntime can load.") from error


def probabilities(inputs, model=HERE / "model.onnx"):
    graph, steps = session(model), config().get("preprocessing")
    if config()["answers"] == "entities":
        from predict_words import by_row

        return np.concatenate([rows for _, _, rows in by_row(inputs, graph, config()["labels"])])
    feeds = image_feeds(inputs, steps) if steps else text_feeds(inputs)
    names = [given.name for given in graph.get_inputs()]
    rows = [{name: row[name] for name in names} for row in feeds]
    return np.concatenate([graph.run(["probabilities"], row)[0] for row in rows])


def answers(inputs, model=HERE / "model.onnx"):
    """Each answer in words: the class, the labels above their thresholds, the number, or each entity of a text."""
    values, labels = config(), config()["labels"]
    beside = {"entities": "predict_words", "masks": "predict_masks"}.get(values["answers"])
    if beside:
        yield from import_module(beside).lines(inputs, session(model), labels)
        return
    if values.get("pairs"):
        inputs = [{"text": a, "text_pair": b} for a, b in zip(inputs[::2], inputs[1::2], strict=True)]
    for row in probabilities(inputs, model):
        if values["answers"] == "none":
            yield f"{row[0]:.6g}"
        elif values["answers"] == "sigmoid":
            here = [i for i in range(len(row)) if row[i] > values["thresholds"][i]]
            yield ", ".join(f"{labels[i]} {row[i]:.4f}" for i in here) or "-"
        else:
            yield f"{labels[row.argmax()]}\t{row.max():.4f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, usage=argparse.SUPPRESS)
    parser.add_argument("inputs", nargs="+", help="after -- when one begins with a dash")
    parser.add_argument("--model", default=argparse.SUPPRESS, help="an ONNX file (default: model.onnx beside this)")
    try:
        for answer in answers(**vars(parser.parse_args())):
            print(answer)  # noqa: T201
    except Exception as error:
        parser.error(" ".join(str(error).split(" : ")[-1].split()))  # without the prefix of onnxruntime
