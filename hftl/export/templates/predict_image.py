"""Label images: python predict.py a.png b.jpg. Needs onnxruntime and Pillow."""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def feeds(images, steps):
    for image in map(ImageOps.exif_transpose, map(Image.open, images)):
        if image.mode.startswith("I;16") or (image.mode == "I" and np.asarray(image).max() > 255):  # 16 bits to eight
            image = Image.fromarray(((np.asarray(image, "i8").clip(0, 65535) + 128) // 257).astype(np.uint8))
        size = steps["size"] or [int(steps["shortest_edge"] * side / min(image.size)) for side in image.size]
        image = image.convert("RGB").resize(size, steps["resample"])
        box = [(a - b) // 2 + end * b for end in (0, 1) for a, b in zip(image.size, steps["crop"], strict=True)]
        array = np.asarray(image.crop(box), "f4") * np.float32(steps["scale"]) + np.float32(steps["offset"])
        yield {"pixel_values": array.transpose(2, 0, 1)[None]}
