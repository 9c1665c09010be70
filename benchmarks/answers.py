"""`python -m benchmarks.answers DATA`: labels, tags, numbers and pairs beside the plain Trainer script for each.

DATA is a folder with wnut17, restaurant8k_slots, nlupp_multilabel and clinc150. Both sides train all-MiniLM-L6-v2 on the
same rows for as many epochs, one thread after the other. The script is what transformers' examples do: a bare Trainer with
its defaults, a random head, the better of two rates by its test score. hftl runs `full` with its own defaults (`--method`).
Prints a table; docs/answers.md holds one. Steps are timed apart, with equal batches, in turns.
"""

import argparse
import random
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import transformers
from transformers import Trainer, TrainingArguments, set_seed

from benchmarks.contenders import timed
from hftl.adapt import adapt
from hftl.config import DataConfig
from hftl.data.load import load_task
from hftl.models.find import find_checkpoint
from hftl.surroundings import quiet_libraries
from hftl.tasks.scores import measure
from hftl.training.precision import choose_bf16


MODEL = "sentence-transformers/all-MiniLM-L6-v2"
RATES = (5e-5, 3e-4)  # Trainer's default, and what suits a small encoder
ROWS, TEST, EPOCHS = 600, 1000, 3
STEPS, TURNS = 20, 3  # of the timing


@dataclass(frozen=True)
class Case:
    """One set of data, and what is scored."""

    name: str
    task: str
    data: Any


def cases(folder: Path) -> list[Case]:
    """The sets; pairs and numbers are built from clinc150: same intent or not, and the mean length of its words."""
    return [
        Case("wnut17 (tags)", "token-classification", str(folder / "wnut17")),
        Case("restaurant8k (tags)", "token-classification", str(folder / "restaurant8k_slots")),
        Case("nlupp (labels)", "text-classification", str(folder / "nlupp_multilabel")),
        Case("clinc150, same intent (pairs)", "text-classification", pairs(folder / "clinc150")),
        Case("clinc150, mean length of words (number)", "text-classification", numbers(folder / "clinc150")),
    ]


def pairs(folder: Path, rows: int = 1600) -> dict[str, pd.DataFrame]:
    """Two texts of clinc150 each, half of them of one intent; test pairs are of the test split."""
    parts = {}
    for split in ("train", "test"):
        draw, table = random.Random(0), pd.read_parquet(folder / f"{split}.parquet")
        by_label = {name: list(group) for name, group in table.groupby("label")["text"] if len(group) > 1}
        names = sorted(by_label)
        drawn = []
        for i in range(rows):
            name = draw.choice(names)
            other = name if i % 2 else draw.choice([n for n in names if n != name])
            first, second = draw.choice(by_label[name]), draw.choice(by_label[other])
            drawn.append((first, second, "same" if i % 2 else "other"))
        parts[split] = pd.DataFrame(drawn, columns=["sentence1", "sentence2", "label"])
    return parts


def numbers(folder: Path) -> dict[str, pd.DataFrame]:
    """Mean length of the words of a text, in letters: a number that a model has to read off the words."""
    parts = {}
    for split in ("train", "test"):
        texts = pd.read_parquet(folder / f"{split}.parquet").sample(1600, random_state=0)["text"]
        parts[split] = pd.DataFrame(
            {"text": texts, "score": [len(t.replace(" ", "")) / len(t.split()) for t in texts]}
        )
    return parts


def saved(case: Case, folder: Path) -> str:
    """The data as a path that hftl reads."""
    if isinstance(case.data, str):
        return case.data
    target = folder / case.name.split(" ")[0]
    target.mkdir(parents=True, exist_ok=True)
    for split, frame in case.data.items():
        frame.to_json(target / f"{split}.jsonl", orient="records", lines=True)
    return str(target)


def script(
    task: Any, splits: Any, rate: float, folder: str, seed: int = 42, **more: Any
) -> tuple[Trainer, Callable[[], float]]:
    """Return the usual Trainer script for the task, and a function that scores its model on the test rows."""
    set_seed(seed)
    path = find_checkpoint(MODEL, None).path
    problem = {"softmax": None, "sigmoid": "multi_label_classification", "none": "regression"}[task.output.link]
    names = {"num_labels": len(splits.labels), "problem_type": problem}
    model = getattr(transformers, task.auto_model).from_pretrained(path, **names, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    tokenizer.model_max_length = 128
    encoded = {part: task.encode(getattr(splits, part), tokenizer) for part in ("train", "test")}
    args = TrainingArguments(
        output_dir=folder, num_train_epochs=EPOCHS, learning_rate=rate, seed=seed, report_to="none", disable_tqdm=True,
        save_strategy="no", use_cpu=not torch.cuda.is_available(), bf16=choose_bf16({}), remove_unused_columns=False,
        logging_strategy="no", **more,
    )  # fmt: skip
    collate = task.collator(tokenizer)
    trainer = Trainer(model=model, args=args, train_dataset=encoded["train"], data_collator=collate)

    def score() -> float:
        from hftl.training.features import predict_logits

        outputs = predict_logits(model, encoded["test"], collate, use_cpu=args.use_cpu)
        answers, true = task.output.decode(outputs), encoded["test"].targets
        return measure(task.output, answers, true, splits.labels)[task.output.headline]

    return trainer, score


def step_ratio(case: Case, task: Any, splits: Any, data: str, folder: str) -> float:
    """Steps a second of hftl over those of the script, batches of 16, in turns."""
    ratios = []
    for turn in range(TURNS):
        trainer, _ = script(task, splits, 5e-5, f"{folder}/s{turn}", max_steps=STEPS, per_device_train_batch_size=16,
                            train_sampling_strategy="group_by_length")  # fmt: skip
        theirs = timed(trainer.train)[1].metrics["train_steps_per_second"]
        result = adapt(case.task, data=data, model=MODEL, method="full", output_dir=f"{folder}/t{turn}", evidence=False,
                       max_train_samples=ROWS, max_eval_samples=TEST, max_seq_length=128, max_steps=STEPS,
                       per_device_train_batch_size=16, eval_strategy="no", logging_strategy="no")  # fmt: skip
        history = result.report["stages"][-1]["history"]
        ratios.append(next(e["train_steps_per_second"] for e in history if "train_steps_per_second" in e) / theirs)
    return statistics.median(ratios)


def main() -> None:
    """Run all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--method", default="full", help="of hftl")
    parser.add_argument(
        "--seeds", type=int, default=1, help="each with rows of its own, the same for both sides; the scores are means"
    )
    typed = parser.parse_args()
    quiet_libraries()
    print("| data | score | Trainer script | hftl | steps a second, hftl / script |\n|---|---|---|---|---|")
    for case in cases(typed.data):
        if typed.only not in case.name:
            continue
        with tempfile.TemporaryDirectory() as folder:
            data = saved(case, Path(folder) / "data")
            theirs, ours = [[] for _ in RATES], []
            for seed in range(42, 42 + typed.seeds):
                config = DataConfig(data=data, max_train_samples=ROWS, max_eval_samples=TEST, seed=seed)
                task, splits = load_task(case.task, config, seed)
                for i, rate in enumerate(RATES):
                    trainer, score = script(task, splits, rate, f"{folder}/script{i}-{seed}", seed)
                    trainer.train()
                    theirs[i].append(score())
                run = adapt(case.task, data=data, model=MODEL, method=typed.method, output_dir=f"{folder}/run{seed}", evidence=False,
                            max_train_samples=ROWS, max_eval_samples=TEST, max_seq_length=128,
                            num_train_epochs=EPOCHS, seed=seed)  # fmt: skip
                ours.append(run.metrics[task.output.headline])
            name = task.output.headline
            ratio = step_ratio(case, task, splits, data, folder)
        means = [statistics.fmean(values) for values in theirs]
        own = {key: statistics.fmean(one[key] for one in ours) for key in ("value", "low", "high")}
        interval = f"{own['value']:.3f} ({own['low']:.3f} to {own['high']:.3f})"
        both = ", ".join(f"{value:.3f} at {rate:g}" for value, rate in zip(means, RATES, strict=True))
        held = own["value"] >= np.max(means) and ratio >= 0.98
        print(f"| {case.name} | {name} | {both} | {interval} | {ratio:.2f}{'' if held else ' (missed)'} |", flush=True)


if __name__ == "__main__":
    main()
