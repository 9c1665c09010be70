"""States of every block: shapes on every family, and values against transformers' own hidden states."""

import numpy as np
import pytest
import torch
import transformers

from hftl.forgetting.measure import block_states, body_hashes, pool
from hftl.forgetting.retention import choose_retention
from hftl.models.heads import pool_mean
from hftl.training.features import Passer
from tests.forgetting.setups import ready_run, shake
from tests.tiny import IMAGE_FAMILIES, IMAGE_SIZE, TEXT_FAMILIES, _image_processor


FAMILIES = TEXT_FAMILIES + IMAGE_FAMILIES
BLOCKS = {**dict.fromkeys(FAMILIES, 3), "resnet": 4, "convnext": 4, "efficientnet": 4, "swin": 2}


def states_of(ready, model=None):
    retention = choose_retention(ready)
    passer = Passer(ready.collate, use_cpu=True)
    return block_states(model or ready.loaded.model, ready.loaded, retention.encoded, passer), retention.encoded


@pytest.fixture(scope="module")
def swin(folder):
    config = transformers.SwinConfig(
        image_size=IMAGE_SIZE, patch_size=4, embed_dim=8, depths=[1, 2], num_heads=[2, 2], window_size=4
    )
    torch.manual_seed(0)
    path = folder / "base-swin"
    transformers.SwinModel(config).save_pretrained(path)
    _image_processor("vit").save_pretrained(path)
    return path


@pytest.mark.parametrize("family", [*FAMILIES, "swin"])
def test_every_block_of_every_family(family, folder, request):
    model = request.getfixturevalue("swin") if family == "swin" else None
    ready = ready_run(folder, family, model=model)
    found, encoded = states_of(ready)
    assert list(found) == [*(f"block {i + 1}" for i in range(BLOCKS[family])), "final"]
    for states in found.values():
        assert states.shape[0] == len(encoded) == 60
        assert np.isfinite(states).all()
        assert states.std(0).max() > 1e-4  # rows differ: nothing was averaged over the batch
    assert found["final"].shape[1] == ready.loaded.model.get_submodule(ready.loaded.output).in_features


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_texts_are_averaged_over_their_tokens_alone(family, folder):
    ready = ready_run(folder, family)
    found, encoded = states_of(ready)
    for row in (0, 1, 59):  # one by one, so without padding
        with torch.no_grad():
            hidden = ready.loaded.model(
                input_ids=torch.from_numpy(encoded.arrays["input_ids"][row])[None], output_hidden_states=True
            ).hidden_states
        for block in range(BLOCKS[family]):
            expected = hidden[block + 1][0].mean(0).numpy()
            assert found[f"block {block + 1}"][row] == pytest.approx(expected, abs=1e-5)
        assert found["final"][row] == pytest.approx(hidden[-1][0].mean(0).numpy(), abs=1e-5)


@pytest.mark.parametrize("family", ["vit", "resnet"])
def test_images_are_averaged_over_their_places(family, folder):
    ready = ready_run(folder, family)
    found, encoded = states_of(ready)
    batch = ready.collate([encoded[i] for i in range(5)])
    with torch.no_grad():
        hidden = ready.loaded.model(pixel_values=batch["pixel_values"], output_hidden_states=True).hidden_states
    for block in range(BLOCKS[family]):
        states = hidden[block + 1]
        expected = states.mean(1) if family == "vit" else states.mean((2, 3))
        assert found[f"block {block + 1}"][:5] == pytest.approx(expected.numpy(), abs=1e-5)


def test_a_pooled_model_around_the_same_body_has_the_same_states(folder):
    ready = ready_run(folder, "bert", method="probe")
    plain, _ = states_of(ready)
    pooled, _ = states_of(ready, pool_mean(ready.loaded.model, ready.splits.labels))
    for name, states in plain.items():
        assert np.array_equal(states, pooled[name])


def test_pool_by_hand():
    states = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert pool(states, mask).tolist() == [[2, 3, 4, 5], [16, 17, 18, 19]]
    assert pool(states, None).tolist() == pool(states, mask[:, :2]).tolist() == [[4, 5, 6, 7], [16, 17, 18, 19]]
    assert pool(states.reshape(2, 3, 2, 2), None).tolist() == [[1.5, 5.5, 9.5], [13.5, 17.5, 21.5]]
    assert pool(states[:, 0], mask).tolist() == states[:, 0].tolist()


@pytest.mark.parametrize("family", ["bert", "distilbert", "resnet", "dinov2"])
def test_hashes_see_every_tensor_of_the_body_and_none_of_the_head(family, folder):
    ready = ready_run(folder, family)
    model, head = ready.loaded.model, ready.loaded.head
    before = body_hashes(model, head)
    state = model.state_dict()
    start = model.base_model_prefix + "."
    for name, tensor in state.items():
        inside = name.startswith(start) and not any(name.startswith(h + ".") for h in head)
        usual = tensor.clone()
        tensor.reshape(-1)[0] += 1
        changed = {k for k, v in body_hashes(model, head).items() if v != before[k]}
        tensor.copy_(usual)
        assert changed == ({name.removeprefix(start)} if inside else set()), name
    shake(model.get_submodule(head[0]), 0.1)
    assert body_hashes(model, head) == before
