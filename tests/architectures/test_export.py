"""Export of the text architectures that read a mark of the text instead of a fixed token."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

from hftl.adapt import adapt
from hftl.export import export
from hftl.export.graph import _tokens
from tests.architectures.contract import FLAGS
from tests.runs import text_frame


Checkpoints = Callable[[str], Path]


@pytest.mark.parametrize("family", ["bart", "t5", "gpt2", "bert"])
def test_example_ids_are_a_text_to_the_model(family: str, text_checkpoint: Checkpoints) -> None:
    auto = transformers.AutoModelForSequenceClassification
    model = auto.from_pretrained(text_checkpoint(family), num_labels=3, pad_token_id=0).eval()
    eos = model.config.eos_token_id
    for rows, length in ((2, 11), (1, 1), (3, 7)):
        ids, mask = _tokens(model.config, rows, length)
        assert ids.shape == mask.shape == (rows, length)
        assert torch.equal(ids == 0, mask == 0)
        if eos is not None:
            assert (ids == eos).sum(1).tolist() == [1] * rows
        with torch.no_grad():
            assert model(input_ids=ids, attention_mask=mask).logits.shape == (rows, 3)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bart", "t5", "gpt2", "opt", "llama"])
def test_exports(family: str, text_checkpoint: Checkpoints, tmp_path: Path) -> None:
    folder = str(text_checkpoint(family))
    run = adapt("text-classification", text_frame(40), folder, "probe", tmp_path / "run", pooling="native", **FLAGS)
    assert export(run.run_dir).values["parity"]["max_difference"] <= 1e-5
