"""Make the fixed splits of the samples, once: python benchmarks/make_sample_splits.py

They are stratified by label with seed 0, 20% (topics) and 30% (digits: with fewer test rows the loss of frozen features
to raw pixels is not significant) for test, stored by row index with the sha256 of the source that they belong to.
"""

import json
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

from hftl.data.samples import SAMPLES, UNLABELLED, digits_source, wikipedia_source


def main() -> None:
    out = Path(__file__).parents[1] / "hftl" / "data" / "splits"
    out.mkdir(exist_ok=True)
    rows, digest = wikipedia_source()
    topics = [row["topic"] for row in rows if row["topic"] != UNLABELLED]
    (_, targets), digits_digest = digits_source()
    tags = [row for row in SAMPLES["wikipedia-subjects"].table(rows)[3] if row is not None]
    types = [next(tag[2:] for tag in row if tag != "O") for row in tags]
    for name, labels, n_test, sha in (
        ("wikipedia-topics", topics, 1807, digest),
        ("wikipedia-subjects", types, len(types) // 5, digest),
        ("digits", targets, 540, digits_digest),
    ):
        _, test = train_test_split(np.arange(len(labels)), test_size=n_test, stratify=labels, random_state=0)
        text = json.dumps({"sha256": sha, "test": sorted(int(i) for i in test)})
        (out / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
