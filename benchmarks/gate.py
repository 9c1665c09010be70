"""Does a rebuilt hftl still give the same results? Ten runs by the code before and after, figure by figure.

git worktree add ../before <commit>
python -m benchmarks.gate --before ../before

Every number of report.json but seconds must be equal to 1e-6, by the map of old names to new in gate_names.json, and
every file of final/ bit by bit, README.md aside.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.tiny import build, tiny_image_rows, tiny_text_rows


ROOT = Path(__file__).resolve().parents[1]
NAMES = Path(__file__).with_name("gate_names.json")  # pattern of a path in the old report → its path in the new one
TOLERANCE = 1e-6
# Seconds, sizes of the machine, and where a run lies.
_NO_RESULT = re.compile(r"seconds|timing|environment|_runtime$|_per_second$")
_WIKIPEDIA = ("--data", "sample:wikipedia-topics", "--model", "all-MiniLM-L6-v2", "--max_train_samples", "300")
_DIGITS = ("--data", "sample:digits", "--model", "efficientnet-lite0", "--image_size", "32", "--no_flip")
_FEW = ("--max_train_samples", "200", "--max_eval_samples", "200")
_STEPS = ("--num_train_epochs", "2", "--seed", "3")
TEXT, IMAGE = "text-classification", "image-classification"
RUNS: dict[str, tuple[str, ...]] = {
    "wikipedia-probe": (TEXT, *_WIKIPEDIA, "--method", "probe"),
    "wikipedia-lora": (TEXT, *_WIKIPEDIA, "--method", "lora", "--max_seq_length", "64", *_STEPS),
    "digits-probe": (IMAGE, *_DIGITS, *_FEW, "--method", "probe"),
    "digits-full": (IMAGE, *_DIGITS, *_FEW, "--method", "full", *_STEPS),
    "bert-head": (TEXT, "--data", "{at}/texts.csv", "--model", "{at}/bert", "--method", "head", *_STEPS),
    "bert-gradual": (TEXT, "--data", "{at}/texts.csv", "--model", "{at}/bert", "--method", "gradual", *_STEPS),
    "bert-full": (
        TEXT, "--data", "{at}/texts.csv", "--model", "{at}/bert", "--method", "full", "--control", "scratch",
        "--class_weights", "balanced", *_STEPS,
    ),
    "vit-lora": (IMAGE, "--data", "{at}/images", "--model", "{at}/vit", "--method", "lora", *_STEPS),
    "resnet-gradual": (IMAGE, "--data", "{at}/images", "--model", "{at}/resnet", "--method", "gradual", *_STEPS),
    "resnet-seeds": (
        IMAGE, "--data", "{at}/images", "--model", "{at}/resnet", "--method", "head", "--seeds", "2", *_STEPS,
    ),
}  # fmt: skip


def write_inputs(at: Path) -> None:
    """Write tiny checkpoints with seeded weights, a CSV of texts and a folder of images."""
    for family in ("bert", "vit", "resnet"):
        build(family, at / family)
    rows = tiny_text_rows(150, 3)
    lines = [f"{text},class {label}" for text, label in rows]
    (at / "texts.csv").write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    for i, (content, label) in enumerate(tiny_image_rows(90, 3)):
        path = at / "images" / f"class {label}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def run(package: Path, at: Path, folder: Path, name: str) -> Path:
    """Run one configuration by the code in `package`; return its run folder."""
    out = folder / name
    words = [word.format(at=at) for word in RUNS[name]]
    environment = {
        **os.environ,
        "PYTHONPATH": str(package),
        "HFTL_CACHE": str(out.with_name(name + "-cache")),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "hftl", "train", *words, "--output_dir", str(out), "--use_cpu", "--bf16", "false"]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{name} by {package}: exit {done.returncode}\n{done.stderr[-3000:]}")
    return out


def figures(value: Any, path: str = "") -> dict[str, float | str]:
    """Return every number and truth value under `value` (a JSON document) by its path, those that are no result aside."""
    if isinstance(value, dict):
        parts = ((f"{path}.{key}" if path else str(key), part) for key, part in value.items())
    elif isinstance(value, list):
        parts = ((f"{path}[{i}]", part) for i, part in enumerate(value))
    else:
        return {path: value} if isinstance(value, int | float) and not _NO_RESULT.search(path) else {}
    return {key: number for at, part in parts for key, number in figures(part, at).items()}


def renamed(path: str, names: dict[str, str]) -> str | None:
    """Return the new name of a figure; None for one that went on purpose (an empty name in the map)."""
    for old, new in names.items():
        if re.match(old, path):
            return re.sub(old, new, path, count=1) or None
    return path


def differences(before: Path, after: Path, names: dict[str, str]) -> list[str]:
    """Return one line for each figure and each file of final/ that is not the same."""
    old, new = (figures(json.loads((run / "report.json").read_text(encoding="utf-8"))) for run in (before, after))
    lines = []
    for path, value in old.items():
        name = renamed(path, names)
        if name is None:
            continue
        if name not in new:
            lines.append(f"{path}: {value} is missing as {name}")
        elif abs(new[name] - value) > TOLERANCE and not (value != value and new[name] != new[name]):
            lines.append(f"{path}: {value} became {new[name]}")
    contents = [
        {p.relative_to(run / "final"): p.read_bytes() for p in (run / "final").rglob("*") if p.is_file()}
        for run in (before, after)
    ]
    for file in sorted({*contents[0], *contents[1]}):
        if file.name != "README.md" and contents[0].get(file) != contents[1].get(file):
            lines.append(f"final/{file} differs")
    return lines


def main() -> None:
    """Run what is asked for, compare, and exit with 1 when anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="a checkout of the code to compare with")
    parser.add_argument("--after", type=Path, default=ROOT)
    parser.add_argument("--work", type=Path, help="keep the runs here; those of --before are not repeated")
    parser.add_argument("--only", nargs="+", default=list(RUNS), choices=list(RUNS))
    options = parser.parse_args()
    names = json.loads(NAMES.read_text(encoding="utf-8")) if NAMES.exists() else {}
    work = (options.work or Path(tempfile.mkdtemp(prefix="hftl-gate-"))).absolute()
    at = work / "inputs"
    if not at.exists():
        write_inputs(at)
    wrong = 0
    for name in options.only:
        for side in ("before", "after"):
            (work / side).mkdir(exist_ok=True)
        before = work / "before" / name
        if not (before / "report.json").exists():
            before = run(options.before.absolute(), at, work / "before", name)
        for old in (work / "after").glob(f"{name}*"):  # cached features too, which would hide a change
            shutil.rmtree(old)
        lines = differences(before, run(options.after.absolute(), at, work / "after", name), names)
        count = len(figures(json.loads((before / "report.json").read_text(encoding="utf-8"))))
        print(f"{name}: {count} figures, {len(lines)} differences", *lines[:40], sep="\n  ", flush=True)
        wrong += bool(lines)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
