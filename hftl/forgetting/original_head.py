"""The head that the checkpoint came with, on the tuned body: how much worse does it do its old work?"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn

from hftl.errors import ModelError
from hftl.evaluation.row_scores import row_scores
from hftl.hub_errors import hub_errors
from hftl.models.find import find_checkpoint
from hftl.prepare import Prepared
from hftl.tasks.task import Encoded, Ragged
from hftl.training.features import Passer
from hftl.training.world import from_every_process


CLASSES, MASKED = "classification", "masked language"
_KINDS = {"ForImageClassification": CLASSES, "ForSequenceClassification": CLASSES, "ForMaskedLM": MASKED}
ROWS = 200  # of the retention rows: two more passes
MASK_SHARE = 0.15  # BERT's (Devlin et al. 2019); here every chosen token is masked, none is exchanged or left
_NO_LOSS = -100
_TITLE = "the original head"


def original_losses(ready: Prepared, tuned: Any, encoded: Encoded) -> dict[str, Any] | None:
    """Return {kind, loss_before, loss_after} of the checkpoint's own head, in nats; None where it has none.

    The head stays as the checkpoint has it, and reads the base's body, then `tuned`'s. A classification head is held
    against the base's own first choice for each row, a masked-language head against the tokens under 15% seeded masks,
    the same before and after. All processes call this together. Raises `ModelError` where the checkpoint can no longer
    be read.
    """
    original, kind, problem = None, "", None
    try:
        original, kind = _load_original(ready)
    except ModelError as error:
        problem = str(error)
    # All or none: a pass that only some of the processes run would never end.
    problem = next((p for p in from_every_process(problem) if p), None)
    if problem:
        raise ModelError(problem)
    if original is None:
        return None
    rows = encoded.take(np.arange(min(ROWS, len(encoded))))
    passer = Passer(ready.collate, ready.use_cpu, ready.bf16)
    if kind == CLASSES:
        before = passer.logits(original, rows, f"{_TITLE} before")
        swap_body(original, tuned)
        after, first_choice = passer.logits(original, rows, f"{_TITLE} after"), before.argmax(1)
        losses = tuple(float(row_scores(logits, first_choice).loss.mean()) for logits in (before, after))
    else:
        masked, targets = mask_tokens(rows, ready.loaded.processor)
        if not len(masked):
            return None
        mask_id = ready.loaded.processor.mask_token_id
        first = _masked_loss(passer, original, masked, targets, mask_id)
        swap_body(original, tuned)
        losses = first, _masked_loss(passer, original, masked, targets, mask_id)
    return {"kind": kind, "loss_before": losses[0], "loss_after": losses[1]}


def _load_original(ready: Prepared) -> tuple[Any, str]:
    """Return the checkpoint under the class that it was saved from, or None, and the kind of its head."""
    config = ready.config.model
    name = config.model or ready.task.default_model
    checkpoint = find_checkpoint(name, config.revision)
    with hub_errors(name, ready.task.name), torch.random.fork_rng(devices=[]):
        fields, _ = transformers.PretrainedConfig.get_config_dict(checkpoint.path, **checkpoint.options)
        architecture = (fields.get("architectures") or [""])[0]
        kind = next((kind for ending, kind in _KINDS.items() if architecture.endswith(ending)), "")
        cls = getattr(transformers, architecture, None) if kind else None
        if cls is None or (kind == CLASSES and cls.config_class(**fields).num_labels < 2):
            return None, kind
        model, info = cls.from_pretrained(
            checkpoint.path,
            output_loading_info=True,
            use_safetensors=None if config.allow_pickle else True,
            dtype=torch.float32,
            **checkpoint.options,
        )
    complete = not info["missing_keys"] and not info["mismatched_keys"]  # else the head is named, but not in the file
    return model.eval() if complete else None, kind


def swap_body(original: Any, tuned: Any) -> None:
    """Give `original` the body of `tuned`; its head stays, also where it shares a matrix with the embeddings."""
    output = original.get_output_embeddings()
    if output is not None:
        output.weight = nn.Parameter(output.weight.detach().clone())
    body = original.base_model.state_dict()
    new = {k: v for k, v in tuned.base_model.state_dict().items() if k in body and v.shape == body[k].shape}
    original.base_model.load_state_dict({**body, **new})


def mask_tokens(rows: Encoded, tokenizer: Any, seed: int = 0) -> tuple[Encoded, np.ndarray]:
    """Return texts with 15% of their words' tokens (at least one) masked, and the tokens that were there.

    The targets [n, most] are padded with -100; the labels of the texts are the numbers of their targets' rows. Texts
    of special tokens alone, and those that hold a mask already, are left out.
    """
    rng, special = np.random.default_rng(seed), set(tokenizer.all_special_ids)
    masked, targets = [], []
    texts = [ids.tolist() for ids in rows.arrays["input_ids"]] if tokenizer.mask_token_id is not None else []
    for ids in texts:
        plain = [i for i, token in enumerate(ids) if token not in special]
        if not plain or tokenizer.mask_token_id in ids:
            continue
        hidden = sorted(rng.choice(plain, size=max(1, round(MASK_SHARE * len(plain))), replace=False).tolist())
        targets.append([ids[i] for i in hidden])
        masked.append([tokenizer.mask_token_id if i in set(hidden) else token for i, token in enumerate(ids)])
    padded = np.full((len(masked), max(map(len, targets), default=0)), _NO_LOSS)
    for row, tokens in zip(padded, targets, strict=True):
        row[: len(tokens)] = tokens
    return Encoded({"input_ids": Ragged.of(masked)}, np.arange(len(masked))), padded


def _masked_loss(passer: Passer, model: Any, rows: Encoded, targets: np.ndarray, mask_id: int) -> float:
    """Return the mean loss of the masked tokens of all rows."""
    hidden = torch.from_numpy(targets)

    def read(out: Any, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        logits = out.logits.float()  # [rows, masks, vocabulary]
        here = hidden[batch["labels"].long().cpu()][:, : logits.shape[1]].to(logits.device)
        loss = nn.functional.cross_entropy(logits.transpose(1, 2), here, ignore_index=_NO_LOSS, reduction="none")
        return {"loss": nn.functional.pad(loss, (0, hidden.shape[1] - loss.shape[1]))}

    with only_masked(model, mask_id):
        losses = passer.outputs(model, rows, read, _TITLE)["loss"]
    return float(losses[targets != _NO_LOSS].mean())


@contextmanager
def only_masked(model: Any, mask_id: int) -> Iterator[None]:
    """Let the head of `model` see the masked places alone, [rows, most masks of a row, d], not every token.

    Such heads look at each place by itself, and a vocabulary of 250,000 words times 4,096 tokens would be gigabytes.
    """
    places: dict[str, torch.Tensor] = {}

    def note(_: Any, __: Any, kwargs: dict[str, Any]) -> None:
        masked = kwargs["input_ids"] == mask_id
        first = torch.argsort(masked.int(), dim=1, descending=True, stable=True)  # masked places, in their order
        places["index"] = first[:, : int(masked.sum(1).max())]

    def narrow(_: Any, __: Any, out: Any) -> Any:
        index = places["index"].unsqueeze(-1).expand(-1, -1, out[0].shape[-1])
        out.last_hidden_state = out[0].gather(1, index)
        return out

    with (
        model.register_forward_pre_hook(note, with_kwargs=True),
        model.base_model.register_forward_hook(narrow),
    ):
        yield
