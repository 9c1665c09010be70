"""Label images: python predict.py a.png b.jpg. Needs onnxruntime and Pillow."""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


HERE = Path(__file__).resolve().parent
CONFIG = json.loads((HERE / "predict.json").read_text(encoding="utf-8"))


def _pixels(path):
    plan, image = CONFIG["preprocessing"], ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I;16") or (image.mode == "I" and np.asarray(image).max() > 255):  # 16 bits become eight
        image = Image.fromarray(((np.clip(np.asarray(image, dtype=np.int64), 0, 65535) + 128) // 257).astype(np.uint8))
    size = plan["size"] or [int(plan["shortest_edge"] * side / min(image.size)) for side in image.size]
    image = image.convert("RGB").resize(size, plan["resample"])
    left, top = ((has - kept) // 2 for has, kept in zip(image.size, plan["crop"], strict=True))
    image = image.crop((left, top, left + plan["crop"][0], top + plan["crop"][1]))
    return (np.asarray(image, "f4") * np.float32(plan["scale"]) + np.float32(plan["offset"])).transpose(2, 0, 1)[None]


def probabilities(images, model=HERE / "model.onnx"):
    """Return [images, labels] in fp32; an image is a path or an open file."""
    path = (Path(model) if Path(model).is_file() else HERE / model).resolve(strict=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["probabilities"], {"pixel_values": _pixels(i)})[0] for i in images])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, usage=argparse.SUPPRESS)
    parser.add_argument("images", nargs="+")
    parser.add_argument("--model", default=argparse.SUPPRESS, help="an ONNX file (default: model.onnx beside this)")
    try:
        for row in probabilities(**vars(parser.parse_args())):
            print(f"{CONFIG['labels'][row.argmax()]}\t{row.max():.4f}")  # noqa: T201
    except Exception as error:
        parser.error(" ".join(str(error).split(" : ")[-1].split()))  # without the prefix of onnxruntime
