"""Memory and time of a step beside a bare Trainer with the same model, rows, batch and precision."""

import gc

import psutil
import pytest
import torch
import transformers
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments

from hftl.adapt import adapt, complete
from hftl.config import build_config
from hftl.planning.plan_report import plan_report
from tests.runs import text_frame
from tests.tiny import build


BATCH, STEPS, WARM_UP = 16, 60, 20
SIZES = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
MEMORY, TIME = 1.1, 1.15  # times the bare Trainer's, at most


class Rows(Dataset):
    """The same texts, ready for Trainer."""

    def __init__(self, frame, tokenizer):
        names = sorted(set(frame["label"]))
        self.ids = tokenizer(list(frame["text"]))["input_ids"]
        self.labels = [names.index(label) for label in frame["label"]]

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        return {"input_ids": self.ids[i], "labels": self.labels[i]}


@pytest.fixture(scope="module")
def measured(folder, gpu):
    """(seconds of a step, peak bytes) of both, and what `hftl plan` said before."""
    steps, sizes = (STEPS, SIZES) if gpu else (4, {})
    model = build("bert", folder / "measured", **sizes)
    frame = text_frame(BATCH * steps * 2)
    flags = {"per_device_train_batch_size": BATCH, "bf16": True, "use_cpu": not gpu, "init_head": "random"}
    flags |= {"train_sampling_strategy": "random", "eval_strategy": "no", "evidence": False, "method": "full"}
    values = {"data": frame, "model": str(model), "output_dir": folder / "ours", "max_steps": steps, **flags}
    planned = plan_report(complete(build_config("text-classification", values)))
    bare = _peak(gpu, lambda: _bare(folder, model, frame, steps, gpu))
    ours = _peak(gpu, lambda: _step(adapt("text-classification", **values).report["stages"][-1]["history"], steps))
    return {"bare": bare, "ours": ours, "planned": planned}


def _peak(gpu, work):
    gc.collect()
    if not gpu:
        return work(), psutil.Process().memory_info().rss
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    seconds = work()
    return seconds, torch.cuda.max_memory_allocated()


def _bare(folder, model, frame, steps, gpu):
    auto = transformers.AutoModelForSequenceClassification
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    trainer = Trainer(
        auto.from_pretrained(model, num_labels=3),
        TrainingArguments(
            str(folder / "bare"),
            per_device_train_batch_size=BATCH,
            max_steps=steps,
            bf16=True,
            use_cpu=not gpu,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        transformers.DataCollatorWithPadding(tokenizer),
        Rows(frame, tokenizer),
    )
    trainer.train()
    return _step(trainer.state.log_history, steps)


def _step(history, steps):
    return next(entry["train_runtime"] for entry in history if "train_runtime" in entry) / steps


def test_a_step_takes_what_a_bare_trainer_takes(measured, gpu):
    (ours, _), (bare, _) = measured["ours"], measured["bare"]
    assert ours > 0 < bare
    assert not gpu or ours <= TIME * bare, f"{ours:.4f} s a step, a bare Trainer {bare:.4f} s"


def test_memory_is_that_of_a_bare_trainer(measured, gpu):
    (_, ours), (_, bare) = measured["ours"], measured["bare"]
    assert ours > 0 < bare
    assert not gpu or ours <= MEMORY * bare, f"peak {ours / 2**20:.0f} MiB, a bare Trainer {bare / 2**20:.0f} MiB"


def test_the_plan_foretold_it(measured, gpu):
    memory, stage = measured["planned"]["memory"], measured["planned"]["time"]["stages"][-1]
    assert (memory["machine"]["gpu"] is not None) is gpu
    assert memory["fits"] is True
    seconds, peak = measured["ours"]
    assert stage["seconds_per_step"] > 0
    assert not gpu or memory["total_bytes"] == pytest.approx(peak, rel=0.4)
    assert not gpu or stage["seconds_per_step"] == pytest.approx(seconds, rel=0.5)
