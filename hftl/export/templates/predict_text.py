"""Label texts: python predict.py "a text" "another text". Needs onnxruntime and tokenizers."""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


HERE = Path(__file__).resolve().parent
LABELS = json.loads((HERE / "predict.json").read_text(encoding="utf-8"))["labels"]


def probabilities(texts, model=HERE / "model.onnx"):
    """Return [texts, labels] in fp32. Each text runs on its own, so that none is padded."""
    onnxruntime.set_default_logger_severity(4)  # what goes wrong is raised as well
    path = (Path(model) if Path(model).is_file() else HERE / model).resolve(strict=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    rows = [np.array([tokenizer.encode(text).ids], dtype=np.int64) for text in texts]
    feeds = [{"input_ids": ids, "attention_mask": np.ones_like(ids)} for ids in rows]
    return np.concatenate([session.run(["probabilities"], feed)[0] for feed in feeds])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, usage=argparse.SUPPRESS)
    parser.add_argument("texts", nargs="+", help="after -- when one begins with a dash")
    parser.add_argument("--model", default=argparse.SUPPRESS, help="an ONNX file (default: model.onnx beside this)")
    try:
        for row in probabilities(**vars(parser.parse_args())):
            print(f"{LABELS[row.argmax()]}\t{row.max():.4f}")  # noqa: T201
    except Exception as error:
        parser.error(" ".join(str(error).split(" : ")[-1].split()))  # without the prefix of onnxruntime
