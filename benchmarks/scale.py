"""Cost of many rows of many classes: seconds, CPU seconds and peak memory of `probe` with evidence, `plan` and `doctor`.

python -m benchmarks.scale --rows 25000 50000 --classes 1000
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np


COMMON, OWN, LENGTH = 600, 3, 12  # words that all classes share, words of each class, words of a text
WIDTH = 384
_LETTERS = "bcdfghklmnprstvz"
_MEASURED = """
import json, resource, sys, time
from hftl.cli import run_command
start = time.perf_counter()
code = run_command(sys.argv[1:])
own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
cpu = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
print("\\nMEASURED " + json.dumps({"code": code, "wall": time.perf_counter() - start, "cpu": cpu, "peak_kb": own.ru_maxrss}))
"""


def words(count: int) -> list[str]:
    """Return `count` distinct made-up words."""
    syllables = [a + b for a in _LETTERS for b in "aeiou"]
    n = len(syllables)
    return [syllables[i % n] + syllables[i // n % n] + syllables[i // n**2 % n] for i in range(count)]


def write_texts(path: Path, rows: int, classes: int) -> None:
    """Write a CSV: of the words of a text some belong to its class, others to a wrong class or to all."""
    rng = np.random.default_rng(0)
    names = np.array(words(COMMON + OWN * classes))
    labels = rng.permutation(np.arange(rows) % classes)
    drawn = rng.integers(0, COMMON, (rows, LENGTH))
    own = COMMON + labels[:, None] * OWN + rng.integers(0, OWN, (rows, LENGTH))
    other = COMMON + rng.integers(0, OWN * classes, (rows, LENGTH))
    kind = rng.random((rows, LENGTH))
    drawn = np.where(kind < 0.2, own, np.where(kind < 0.35, other, drawn))
    lines = [f"{' '.join(text)},class {label}" for text, label in zip(names[drawn], labels, strict=True)]
    path.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")


def write_checkpoint(path: Path, classes: int) -> None:
    """Write a BERT of one layer with random weights and a token for each word, so that features cost little."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words(COMMON + OWN * classes)]
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=4,
        intermediate_size=WIDTH, max_position_embeddings=32,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(path)
    vocab = {piece: i for i, piece in enumerate(vocabulary)}
    BertTokenizer(vocab=vocab, model_max_length=32).save_pretrained(path)


def measure(arguments: list[str], threads: int, cache: Path) -> dict[str, float]:
    """Run `hftl` with `arguments` in a process of its own; return wall and CPU seconds and the peak in MB."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HFTL_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *arguments], env=environment, capture_output=True, text=True
    )
    last = next((x for x in reversed(done.stdout.splitlines()) if x.startswith("MEASURED ")), None)
    if last is None:
        raise SystemExit(f"hftl {' '.join(arguments)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return json.loads(last.removeprefix("MEASURED "))


def one_size(rows: int, classes: int, threads: int, verbs: list[str]) -> None:
    """Measure every verb on `rows` rows and print a row of the table for each."""
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        write_texts(at / "texts.csv", rows, classes)
        write_checkpoint(at / "model", classes)
        data, model = ["--data", str(at / "texts.csv")], ["--model", str(at / "model")]
        commands = {
            "doctor": ["doctor", str(at / "texts.csv")],
            "plan": ["plan", "text-classification", *data, *model],
            "probe": ["train", "text-classification", *data, *model, "--method", "probe", "--output_dir", str(at / "run")],
        }  # fmt: skip
        for verb in verbs:
            start = time.perf_counter()
            found = measure(commands[verb], threads, at / "cache")
            print(
                f"| {verb} | {rows:,} | {classes:,} | {found['cpu']:.0f} | {time.perf_counter() - start:.0f} | "
                f"{found['peak_kb'] / 1000:,.0f} |{'' if found['code'] in (0, None) else ' exit ' + str(found['code'])}",
                flush=True,
            )
        report = at / "run" / "report.json"
        if "probe" in verbs and report.exists():
            kept = json.loads(report.read_text(encoding="utf-8"))
            size = {p.name: f"{p.stat().st_size / 1e6:.1f} MB" for p in (report, report.with_suffix(".html"))}
            rungs = {
                r["name"]: f"{r['seconds']:.0f} s, {r['accuracy']['value']:.3f}" for r in kept["evidence"]["ladder"]
            }
            print(json.dumps({"timing": kept["timing"], "evidence": kept["evidence"]["seconds"], "C": kept["probe"]["C"],
                              "ladder": rungs, "files": size}), flush=True)  # fmt: skip


def main() -> None:
    """Measure the sizes asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[25_000, 50_000, 100_000, 200_000])
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--verbs", nargs="+", default=["doctor", "plan", "probe"])
    chosen = parser.parse_args()
    print("| verb | rows | classes | CPU s | wall s | peak MB |\n|---|---|---|---|---|---|")
    for rows in chosen.rows:
        one_size(rows, chosen.classes, chosen.threads, chosen.verbs)


if __name__ == "__main__":
    main()
