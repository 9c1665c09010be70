"""What people run today, written as they write it: the usual Trainer script, embeddings with scikit-learn, bare torch."""

import time
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments, set_seed

from benchmarks.rows import Text


def timed(function: Any) -> tuple[float, Any]:
    """Return (seconds, result)."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    result = function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def rows(text: Text, part: str) -> list[dict[str, Any]]:
    """The tokenised rows of a split, as Trainer takes them."""
    return [
        {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": int(y)}
        for ids, y in zip(text.tokens[part], text.targets[part], strict=True)
    ]


def trainer_script(
    text: Text,
    folder: str,
    *,
    frozen: bool,
    epochs: float,
    rate: float,
    bf16: bool,
    max_steps: int = -1,
    batch: int = 16,
) -> dict[str, Any]:
    """(a) and (b): load a classifier, freeze the body or not, train with Trainer's defaults, evaluate every epoch."""
    set_seed(42)
    model = text.model()
    if frozen:
        for parameter in model.base_model.parameters():
            parameter.requires_grad = False
    args = TrainingArguments(
        output_dir=folder, num_train_epochs=epochs, max_steps=max_steps, learning_rate=rate, bf16=bf16, seed=42,
        per_device_train_batch_size=batch, per_device_eval_batch_size=64, eval_strategy="epoch" if max_steps < 0 else "no",
        save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=not torch.cuda.is_available(),
        logging_strategy="no",
    )  # fmt: skip
    trainer = Trainer(
        model=model, args=args, train_dataset=rows(text, "train"), eval_dataset=rows(text, "validation"),
        data_collator=DataCollatorWithPadding(text.tokenizer),
    )  # fmt: skip
    seconds, result = timed(trainer.train)
    return {"seconds": seconds, "accuracy": accuracy(model, text, bf16), "steps": result.global_step}


def accuracy(model: Any, text: Text, bf16: bool) -> float:
    """Share of right answers on the test rows."""
    logits = forward(model, text.tokens["test"], text, bf16, lambda out, _: out.logits)
    return float((logits.argmax(1) == text.targets["test"]).mean())


def forward(model: Any, tokens: list[list[int]], text: Text, bf16: bool, read: Any) -> np.ndarray:
    """The bare limit of inference: one pass, longest rows first, in batches of about 4,096 tokens."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = model.to(device).eval()
    order = sorted(range(len(tokens)), key=lambda i: -len(tokens[i]))
    out: list[Any] = [None] * len(tokens)
    start = 0
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        while start < len(order):
            size = max(1, min(32, 4096 // len(tokens[order[start]])))
            chosen = order[start : start + size]
            batch = text.tokenizer.pad({"input_ids": [tokens[i] for i in chosen]}, return_tensors="pt").to(device)
            for i, value in zip(chosen, read(model(**batch), batch).float().cpu().numpy(), strict=True):
                out[i] = value
            start += size
    return np.stack(out)


def mean_states(output: Any, batch: Any) -> torch.Tensor:
    """Mean of the last states over the tokens that are not padding."""
    mask = batch["attention_mask"].unsqueeze(-1).float()
    return (output[0].float() * mask).sum(1) / mask.sum(1)


def regression(features: np.ndarray, targets: np.ndarray, c: float) -> Any:
    """scikit-learn's logistic regression on standardised features, at its own default tolerance."""
    mean, scale = features.mean(0), features.std(0)
    scale[scale < 1e-8] = 1.0  # MiniLM has a dimension that never changes
    model = LogisticRegression(C=c, max_iter=1000).fit((features - mean) / scale, targets)
    return lambda x: model.predict((x - mean) / scale)


def bare_probe(text: Text, bf16: bool, c: float) -> dict[str, Any]:
    """(e) for the probe: one forward pass over train and validation rows, one regression."""
    body = text.model().base_model

    def work() -> Any:
        tokens = text.tokens["train"] + text.tokens["validation"]
        features = forward(body, tokens, text, bf16, mean_states)
        return regression(features[: len(text.tokens["train"])], text.targets["train"], c)

    seconds, predict = timed(work)
    test = forward(body, text.tokens["test"], text, bf16, mean_states)
    return {"seconds": seconds, "accuracy": float((predict(test) == text.targets["test"]).mean())}


def sentence_transformers(text: Text, c: float) -> dict[str, Any]:
    """(c): SentenceTransformer.encode with its defaults, then scikit-learn."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(text.checkpoint)
    model.max_seq_length = text.max_length
    train, validation, test = (list(text.data[p]["text"][:]) for p in ("train", "validation", "test"))

    def work() -> Any:
        features = model.encode(train + validation)
        return regression(features[: len(train)], text.targets["train"], c)

    seconds, predict = timed(work)
    return {"seconds": seconds, "accuracy": float((predict(model.encode(test)) == text.targets["test"]).mean())}


def bare_steps(text: Text, steps: int, bf16: bool, batch: int = 16) -> dict[str, Any]:
    """(e) for training: AdamW in a plain loop over shuffled batches, nothing else. Rows per second."""
    torch.manual_seed(42)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = text.model().to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    order = torch.randperm(len(text.tokens["train"])).tolist()

    def work() -> None:
        for step in range(steps):
            chosen = [order[(step * batch + k) % len(order)] for k in range(batch)]
            inputs = text.tokenizer.pad({"input_ids": [text.tokens["train"][i] for i in chosen]}, return_tensors="pt")
            targets = torch.tensor(text.targets["train"][chosen]).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits = model(**inputs.to(device)).logits
            torch.nn.functional.cross_entropy(logits.float(), targets).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    seconds, _ = timed(work)
    return {"seconds": seconds, "rows_per_second": steps * batch / seconds}


def setfit(text: Text, iterations: int, folder: str) -> dict[str, Any]:
    """(d): SetFit (Tunstall et al. 2022) by its own package: contrastive pairs, then a logistic regression."""
    from setfit import SetFitModel
    from setfit import Trainer as SetFitTrainer
    from setfit import TrainingArguments as SetFitArguments

    model = SetFitModel.from_pretrained(text.checkpoint, labels=list(text.labels))
    model.model_body.max_seq_length = text.max_length
    args = SetFitArguments(
        output_dir=folder,
        batch_size=16,
        num_iterations=iterations,
        num_epochs=1,
        report_to="none",
        show_progress_bar=False,
    )
    trainer = SetFitTrainer(model=model, args=args, train_dataset=text.data["train"])
    seconds, _ = timed(trainer.train)
    found = model.predict(list(text.data["test"]["text"][:]))
    return {
        "seconds": seconds,
        "accuracy": float(np.mean([str(a) == b for a, b in zip(found, text.data["test"]["label"][:], strict=True)])),
    }
