"""The checkpoint's own head on another body: losses against a plain forward pass, and checkpoints that have none."""

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModelForImageClassification, AutoModelForMaskedLM, AutoModelForSequenceClassification

from hftl.errors import ModelError
from hftl.forgetting.original_head import mask_tokens, only_masked, original_losses, swap_body
from hftl.forgetting.retention import choose_retention
from tests.forgetting.setups import ready_run, shake
from tests.small_data import encoded_texts
from tests.tiny import TEXT_FAMILIES, build


def masked_loss(model, rows, targets, mask_id):
    """One row at a time, with logits for every token, and no padding."""
    total, count = 0.0, 0
    for ids, wanted in zip(rows.arrays["input_ids"], targets, strict=True):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0]
        places = [i for i, token in enumerate(ids) if token == mask_id]
        wanted = [t for t in wanted.tolist() if t != -100]
        loss = torch.nn.functional.cross_entropy(logits[places], torch.tensor(wanted), reduction="sum")
        total, count = total + float(loss), count + len(places)
    return total / count


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_masked_language_head(family, folder):
    ready = ready_run(folder, family)
    model, rows = ready.loaded.model, choose_retention(ready).encoded
    untouched = original_losses(ready, model, rows)
    assert untouched["kind"] == "masked language"
    assert untouched["loss_after"] == untouched["loss_before"]
    masked, targets = mask_tokens(rows, ready.loaded.processor)
    plain = AutoModelForMaskedLM.from_pretrained(folder / f"base-{family}").eval()
    mask_id = ready.loaded.processor.mask_token_id
    assert untouched["loss_before"] == pytest.approx(masked_loss(plain, masked, targets, mask_id), rel=1e-4)
    shake(model, 0.3)
    found = original_losses(ready, model, rows)
    assert found["loss_before"] == untouched["loss_before"]
    # By hand: the tuned body's tensors in the plain model, whose output matrix is no longer that of the embeddings.
    with torch.no_grad():
        plain.get_output_embeddings().weight = torch.nn.Parameter(plain.get_output_embeddings().weight.clone())
        own = dict(plain.base_model.named_parameters())
        for name, weight in model.base_model.named_parameters():
            if name in own:
                own[name].copy_(weight)
    assert found["loss_after"] == pytest.approx(masked_loss(plain, masked, targets, mask_id), rel=1e-4)
    assert found["loss_after"] != found["loss_before"]


@pytest.mark.parametrize("family", ["resnet", "vit", "efficientnet", "bert"])
def test_classification_head(family, folder):
    base = build(family, folder / f"classes-{family}", num_labels=7)
    ready = ready_run(folder, family, model=base)
    model, rows = ready.loaded.model, choose_retention(ready).encoded
    auto = AutoModelForSequenceClassification if family == "bert" else AutoModelForImageClassification
    plain = auto.from_pretrained(base).eval()
    batch = ready.collate([rows[i] for i in range(len(rows))])
    batch.pop("labels")
    with torch.no_grad():
        before = plain(**batch).logits
        shake(model, 0.3)
        plain.base_model.load_state_dict(model.base_model.state_dict())
        after = plain(**batch).logits
    chosen = before.argmax(1)
    found = original_losses(ready, model, rows)
    assert found["kind"] == "classification"
    for key, logits in (("loss_before", before), ("loss_after", after)):
        expected = float(torch.nn.functional.cross_entropy(logits, chosen))
        assert found[key] == pytest.approx(expected, rel=1e-4)
    assert found["loss_after"] > found["loss_before"]


def test_at_most_200_rows_are_run(folder):
    ready = ready_run(folder, "bert")
    long = encoded_texts([[2, 40 + i % 50, 41, 42, 3] for i in range(300)], np.zeros(300, dtype=int))
    short = long.take(range(200))
    assert original_losses(ready, ready.loaded.model, long) == original_losses(ready, ready.loaded.model, short)


def test_masks_are_fifteen_percent_of_the_words(folder):
    ready = ready_run(folder, "bert")
    tokenizer = ready.loaded.processor
    cls, sep, mask = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id
    words = list(range(60, 100))
    rows = [[cls, *words, sep], [cls, 61, sep], [cls, sep], [cls, mask, 62, sep], [cls, *words[:20], sep]]
    masked, targets = mask_tokens(encoded_texts(rows, np.zeros(5, dtype=int)), tokenizer)
    assert masked.targets.tolist() == [0, 1, 2]  # nothing to mask in the third, a mask already in the fourth
    assert [(ids == mask).sum() for ids in masked.arrays["input_ids"]] == [6, 1, 3]
    assert [(row != -100).sum() for row in targets] == [6, 1, 3]
    for ids, original, wanted in zip(masked.arrays["input_ids"], [rows[0], rows[1], rows[4]], targets, strict=True):
        hidden = iter(wanted)
        assert [next(hidden) if t == mask else t for t in ids] == original
    again, _ = mask_tokens(encoded_texts(rows, np.zeros(5, dtype=int)), tokenizer)
    assert again.fingerprint() == masked.fingerprint()


def test_head_of_a_large_vocabulary_sees_masked_places_alone(folder):
    ready = ready_run(folder, "bert")
    model = AutoModelForMaskedLM.from_pretrained(folder / "base-bert").eval()
    mask = ready.loaded.processor.mask_token_id
    ids = torch.tensor([[2, 60, mask, 61, mask, 3], [2, mask, 60, 61, 3, 0]])
    seen = torch.tensor([[1] * 6, [1] * 5 + [0]])
    with torch.no_grad():
        whole = model(input_ids=ids, attention_mask=seen).logits
        with only_masked(model, mask):
            narrow = model(input_ids=ids, attention_mask=seen).logits
        assert torch.equal(model(input_ids=ids, attention_mask=seen).logits, whole)
    assert narrow.shape[1] == 2
    assert torch.allclose(narrow[0], whole[0, [2, 4]], atol=1e-5)
    assert torch.allclose(narrow[1, 0], whole[1, 1], atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "deberta-v2"])
def test_swap_leaves_the_head_as_it_was(family, folder):
    ready_run(folder, family)
    original = AutoModelForMaskedLM.from_pretrained(folder / f"base-{family}").eval()
    tuned = AutoModelForMaskedLM.from_pretrained(folder / f"base-{family}").eval()
    prefix = original.base_model_prefix + "."
    head = {k: v.clone() for k, v in original.state_dict().items() if not k.startswith(prefix)}
    shake(tuned.base_model, 0.5)
    swap_body(original, tuned)
    state = original.state_dict()
    assert all(torch.equal(state[k], v) for k, v in head.items())
    assert all(torch.equal(state[prefix + k], v) for k, v in tuned.base_model.state_dict().items())


def test_checkpoints_without_a_head(folder):
    bare = folder / "bare-vit"
    ready = ready_run(folder, "vit")  # saved as ViTModel
    rows = choose_retention(ready).encoded
    assert original_losses(ready, ready.loaded.model, rows) is None
    config = transformers.ViTConfig.from_pretrained(folder / "base-vit")
    config.architectures = ["ViTForImageClassification"]  # named, but not in the file
    transformers.ViTModel.from_pretrained(folder / "base-vit").save_pretrained(bare)
    ready.loaded.processor.save_pretrained(bare)
    config.save_pretrained(bare)
    named = ready_run(folder, "vit", model=bare)
    assert original_losses(named, named.loaded.model, rows) is None


def test_one_output_is_no_classifier(folder):
    base = build("bert", folder / "regression", num_labels=1)
    ready = ready_run(folder, "bert", model=base)
    assert original_losses(ready, ready.loaded.model, choose_retention(ready).encoded) is None


def test_reading_the_original_draws_no_random_number(folder):
    ready = ready_run(folder, "roberta")
    rows = choose_retention(ready).encoded
    torch.manual_seed(3)
    first = torch.rand(1)
    torch.manual_seed(3)
    original_losses(ready, ready.loaded.model, rows)
    assert torch.rand(1) == first


def test_a_checkpoint_that_is_gone(folder, tmp_path):
    base = build("bert", tmp_path / "gone")
    ready = ready_run(folder, "bert", model=base)
    rows = choose_retention(ready).encoded
    (base / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config\.json"):
        original_losses(ready, ready.loaded.model, rows)
