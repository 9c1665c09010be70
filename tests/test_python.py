"""hftl from Python: what type checkers see, which objects are taken and refused, what a result shows, who is quiet."""

import inspect
import json
import logging
import pickle
import re
import sys
import warnings
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import transformers
from datasets import Dataset
from PIL import Image as PILImage
from transformers import AutoModelForSequenceClassification, EvalPrediction, TrainerCallback, TrainingArguments

import hftl
from hftl.adapt import Result
from hftl.config import OWN_FLAGS, build_config
from hftl.errors import ConfigError, DataError
from hftl.objects import data_with
from tests.command import ROOT, environment, shell
from tests.runs import SMALL, checkpoint, text_frame
from tests.write_stubs import PACKAGE, STUBS


SCRIPT = """
from hftl import adapt, load
result = adapt(data="x.csv", methd="probe")
adapt(data="x.csv", pooling="naive")
adapt(data="x.csv", num_train_epochs=2, evidence=False)
reveal_type(result)
reveal_type(load("x"))
reveal_type(result.predict(["a"]))
"""
SKIPPED = [
    "torch",
    "transformers",
    "datasets",
    "numpy",
    "pandas",
    "peft",
    "accelerate",
    "sklearn",
    "scipy",
    "gradio",
    "huggingface_hub",
    "PIL",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("python")


@pytest.fixture(scope="module")
def base(folder) -> str:
    return str(checkpoint("bert", folder))


# ------------------------------------------------------------------------------------------------------ types


@pytest.mark.parametrize("name", STUBS)
def test_stubs_are_up_to_date(name):
    assert (PACKAGE / name).read_text(encoding="utf-8") == STUBS[name](), "python -m tests.write_stubs"


def test_public_names_exist():
    assert [name for name in hftl.__all__ if getattr(hftl, name, None) is None] == []


def _is_installed_from_here() -> bool:
    try:
        text = distribution("hftl").read_text("direct_url.json") or "{}"
    except PackageNotFoundError:
        return False
    return bool(json.loads(text).get("url") == ROOT.as_uri())


@pytest.mark.parametrize("way", ["path", "editable"])
def test_a_type_checker_sees_the_package(folder, way):
    if way == "editable" and not _is_installed_from_here():
        pytest.skip("another checkout is installed here")
    (folder / "user.py").write_text(SCRIPT)
    others = ",".join(f"{name}.*" for name in SKIPPED)
    (folder / "mypy.ini").write_text(f"[mypy]\n[mypy-{others}]\nfollow_imports = skip\n")
    env = environment(PYTHONPATH=str(ROOT))
    if way == "editable":
        del env["PYTHONPATH"]
    said = shell(["-m", "mypy", "--config-file", "mypy.ini", "user.py"], folder, env).out
    lines = [line.partition("user.py:")[2] for line in said.splitlines()]
    errors = [line for line in lines if "error" in line]
    assert [line.split(":")[0] for line in errors] == ["3", "4"], said
    assert 'did you mean "method"?' in errors[0]
    assert "'mean'" in errors[1]
    revealed = [line.rpartition("is ")[2] for line in lines if "Revealed" in line]
    assert revealed == [
        '"hftl.adapt.Result"',
        '"hftl.predict.Predictor"',
        '"list[hftl.tasks.outputs.classes.Prediction]"',
    ]


@pytest.mark.parametrize("name", ["adapt", "plan", "compare", "curve", "pick"])
def test_help_and_tab_know_the_flags(name):
    function = getattr(hftl, name)
    assert OWN_FLAGS.keys() - {"models"} <= inspect.signature(function).parameters.keys() | {"race"}
    assert f"lora_r: {OWN_FLAGS['lora_r'].metadata['help']}" in function.__doc__


# ------------------------------------------------------------------------------------------------------ objects


class Epochs(TrainerCallback):
    seen: list[Any] = []  # noqa: RUF012

    def on_epoch_end(self, args, state, control, **_):
        self.seen.append(state.epoch)


def shares(found: EvalPrediction) -> dict[str, float]:
    assert found.predictions.shape == (len(found.label_ids), 3)
    return {"eval_mine": (found.predictions.argmax(-1) == found.label_ids).mean(), "accuracy": 7.0}


@pytest.fixture(scope="module")
def result(base, folder) -> Result:
    """A run from the objects of a Trainer script."""
    frame, model = text_frame(60), AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    args = TrainingArguments(str(folder / "run"), num_train_epochs=2, learning_rate=1e-3, use_cpu=True)
    objects = {
        "args": args,
        "processing_class": transformers.AutoTokenizer.from_pretrained(base),
        "callbacks": [Epochs],
        "compute_metrics": shares,
        "eval_dataset": frame[48:],
        "metric_for_best_model": "mine",
    }
    Epochs.seen.clear()
    rows = frame[:48].to_dict("records")
    return hftl.adapt(data=rows, model=model, method="full", bf16=False, target_precision=0.5, **objects)


def test_what_a_trainer_script_has_is_taken(result, folder):
    assert result.run_dir == folder / "run"
    assert Epochs.seen == [1.0, 2.0]
    assert result.report["data"]["rows"]["validation"] == 12
    assert 0 <= result.metrics["mine"] <= 1
    assert result.metrics["mine"] == pytest.approx(result.metrics["accuracy"]["value"])  # hftl's own stays
    looks = [entry for stage in result.report["stages"] for entry in stage["history"] if "eval_mine" in entry]
    assert len(looks) == 2
    config = (result.run_dir / "config.yaml").read_text()
    assert "learning_rate: 0.001" in config
    assert "disable_tqdm" not in config


def test_eval_dataset_goes_beside_columns():
    columns = {"text": ["a", "b"], "label": ["c", "d"]}
    assert data_with(columns, columns) == {"train": columns, "validation": columns}


def test_a_model_object_is_saved_once_and_named(result, base):
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    model.classifier.weight.data = model.classifier.weight.data + 1
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    from hftl.objects import model_name

    name = model_name(model, tokenizer)
    assert name == model_name(model, tokenizer)
    assert name == model_name(model, tokenizer)
    again = AutoModelForSequenceClassification.from_pretrained(name)
    assert again.classifier.weight.equal(model.classifier.weight)
    assert result.report["model"]["source"] == "folder"


def test_data_of_every_kind(folder):
    frame = text_frame(12)
    frame.to_csv(folder / "train.csv", index=False)
    rows, table = frame.to_dict("records"), hftl.DataConfig
    same = [
        rows,
        (frame.text.tolist(), frame.label.to_numpy()),
        (frame.text, frame.label),
        (frame[["text"]], frame.label),
        frame.to_dict("list"),
        {"text": frame.text.to_numpy(), "label": frame.label.astype("category")},
        pa.table(
            {"text": pa.array(frame.text, pa.large_string()), "label": pa.array(frame.label).dictionary_encode()}
        ),
        {"train": str(folder / "train.csv"), "test": rows},
        {"train": frame.to_dict("list"), "test": frame.to_dict("list")},
    ]
    from hftl.data.load import load_splits

    found = [load_splits("text", table(data=data)) for data in same]
    assert all(splits.labels == found[0].labels for splits in found)
    assert [len(splits.test) for splits in found] == [2, 2, 2, 2, 2, 2, 2, 12, 12]
    assert all(splits.train[:] == found[0].train[:] for splits in found[:7])
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    assert len(load_splits("image", table(data={"image": pixels, "label": [0, 1] * 6})).train) == 9
    for images in (pixels, [PILImage.fromarray(one) for one in pixels]):
        assert len(load_splits("image", table(data=(images, [0, 1] * 6))).train) == 9
    words = [text.split() for text in frame.text]
    task, splits = hftl.TASKS["token-classification"], [["O"] * len(row) for row in words]
    splits[0][0] = splits[5][0] = splits[9][0] = "B-x"
    assert load_splits("sentence", table(data=(words, splits)), output=task.output).labels == ("O", "B-x", "I-x")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"args": 3}, "args is a TrainingArguments"),
        ({"callbacks": [Epochs()]}, "method 'probe': it solves for the head"),
        ({"callbacks": [Epochs()], "method": None}, "method 'auto': it trains several candidates"),
        ({"callbacks": [3]}, "no TrainerCallback"),
        ({"callbacks": Epochs()}, "callbacks is a list"),
        ({"callbacks": [transformers.EarlyStoppingCallback()]}, "early_stopping_patience"),
        ({"compute_metrics": 3}, "compute_metrics is a function"),
        ({"compute_metrics": lambda found: 3}, r"predictions \(\d+, 3\) and label_ids \(\d+,\)"),
        ({"data_collator": None}, "data_collator= is not taken"),
        ({"tokenizer": None}, "processing_class"),
        ({"methd": None}, "Did you mean 'method'"),
        ({"push_to_hub": True}, "hftl push"),
        ({"model": 3}, "of the type int"),
        ({"processing_class": 3}, "give both as objects"),
        ({"data": "sample:digits", "eval_dataset": []}, "Name them all"),
        ({"data": {"train": [], "dev": []}, "eval_dataset": []}, "there are several"),
        ({"data": ([[1.5]], ["a"])}, r"X holds \[1.5\]"),
        ({"data": (["a"], ["b", "c"])}, "X has 1 rows and y has 2"),
        ({"data": {"text": ["a"], "label": ["b", "c"]}}, "not equally long: text has 1, label has 2"),
        ({"data": {"text": [], "label": []}}, "is empty: train has no rows"),
        ({"data": (iter(["a", "b"]), ["c", "d"])}, "X is of the type list_iterator: give a list"),
        ({"data": np.array([["a", "b"], ["c", "d"]])}, r"the data is array\(\[\['a', 'b'\], \['c', 'd'\]\]"),
        ({"data": 3}, "of the type int"),
        ({"data": [3]}, "a list of records"),
    ],
)
def test_refused_with_a_reason(flags, said, base, folder):
    with pytest.raises((ConfigError, DataError), match=said):
        hftl.adapt(
            **{"data": text_frame(30), "model": base, "method": "probe", **flags}, output_dir=folder / "no", **SMALL
        )
    assert not [*folder.glob("no*")]


def test_args_that_change_nothing_are_no_flags():
    from hftl.objects import flags_in

    assert flags_in(TrainingArguments(), {}) == {}
    given = flags_in(
        TrainingArguments(eval_strategy="steps", eval_steps=5, lr_scheduler_kwargs={"a": 1}, optim="sgd"), {}
    )
    assert given == {"eval_strategy": "steps", "eval_steps": 5, "lr_scheduler_kwargs": {"a": 1}, "optim": "sgd"}
    build_config("text-classification", given)


# ------------------------------------------------------------------------------------------------------ results


def test_a_result_is_three_lines_and_a_card(result):
    assert len(repr(result).splitlines()) == 3
    assert "3 classes" in repr(result)
    assert str(result.run_dir) in repr(result)
    html = result._repr_html_()
    assert html.count("<tr") == 1 + len(result.evidence["ladder"])
    assert "<script" not in html
    named = Result(result.metrics, {**result.report, "evidence": None}, result.run_dir)
    assert len(repr(named).splitlines()) == 3
    assert named._repr_html_().count("<tr") == 2


def test_names_of_the_data_are_escaped(result):
    report = {**result.report, "evidence": {**result.evidence, "ladder": [dict(r) for r in result.evidence["ladder"]]}}
    report["evidence"]["ladder"][-1]["name"] = "<b>x</b>"
    assert "&lt;b&gt;x" in Result(result.metrics, report, result.run_dir)._repr_html_()


def test_the_predictor(result, monkeypatch):
    frame = text_frame(20, seed=3)
    predictor = result.load()
    monkeypatch.setattr(sys.modules["hftl.adapt"], "load", None)  # weights are read once
    answers = result.predict(frame.text)
    texts = frame.text.tolist()
    assert [a.label for a in predictor(texts)] == [a.label for a in answers]
    assert [a.label for a in predictor(frame[["text"]])] == [a.label for a in answers]
    records = [{"row": i, "review": text} for i, text in enumerate(texts)]
    for table in (Dataset.from_list(records), records, {"text": texts}, {"text": np.array(texts)}):
        assert [a.label for a in predictor(table)] == [a.label for a in answers]
    probabilities = predictor.predict_proba(texts)
    assert probabilities.shape == (20, 3)
    assert [predictor.labels[i] for i in probabilities.argmax(1)] == [a.label for a in answers]
    assert predictor.predict_proba([]).shape == (0, 3)
    threshold = result.evidence["abstain"]["threshold"]
    assert predictor.threshold == threshold
    assert all(a.not_sure == (None if threshold is None else a.confidence < threshold) for a in answers)
    scores = predictor.evaluate(frame.rename(columns={"label": "kind"}), label_column="kind")
    assert scores["rows"] == 20
    right = np.mean([a.label == label for a, label in zip(answers, frame.label, strict=True)])
    assert scores["metrics"]["accuracy"]["value"] == pytest.approx(right)
    with pytest.raises(ConfigError, match="Did you mean 'label_column'"):
        predictor.evaluate(frame, label_colum="kind")
    again = pickle.loads(pickle.dumps(predictor))
    assert [a.label for a in again(texts)] == [a.label for a in answers]
    sure = type(predictor)(predictor.model, predictor.processor, predictor.task, predictor.labels, threshold=1.1)
    assert all(a.not_sure for a in sure(texts))


def test_a_number_has_no_probability(base, folder):
    texts = text_frame(40).text
    values = [float(len(text)) + 0.5 for text in texts]
    run = hftl.adapt(data=(texts, values), model=base, method="probe", output_dir=folder / "number", **SMALL)
    with pytest.raises(ConfigError, match="have no probabilities"):
        run.predictor.predict_proba(["a"])


# ------------------------------------------------------------------------------------------------------ quiet


def test_libraries_are_quiet_and_the_set_up_stays(base, folder, capfd, caplog):
    import datasets
    from transformers.utils import logging as verbosity

    verbosity.enable_progress_bar()
    datasets.enable_progress_bars()
    verbosity.set_verbosity_warning()
    before = [*logging.getLogger().handlers], logging.getLogger().level, [*warnings.filters]
    run = hftl.adapt(data=text_frame(30), model=base, method="lora", output_dir=folder / "quiet", **SMALL, max_steps=1)
    run.predict(["a text"])
    said = "".join(capfd.readouterr())
    for noise in ("Loading weights", "LOAD REPORT", "Writing model", "Warning", "it/s]"):
        assert noise not in said
    assert ([*logging.getLogger().handlers], logging.getLogger().level, [*warnings.filters]) == before
    assert verbosity.is_progress_bar_enabled()
    assert not datasets.are_progress_bars_disabled()
    assert verbosity.get_verbosity() == verbosity.WARNING


def test_a_verbosity_that_the_user_chose_stays(base, monkeypatch):
    from hftl.surroundings import quietly

    verbosity = transformers.utils.logging
    verbosity.set_verbosity_info()
    try:
        with quietly():
            assert verbosity.get_verbosity() == logging.INFO
        assert verbosity.get_verbosity() == logging.INFO
    finally:
        verbosity.set_verbosity_warning()
    monkeypatch.setattr(sys, "warnoptions", ["error"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with quietly():
            assert not any(rule[0] == "ignore" and rule[3] is not None for rule in warnings.filters)


# ------------------------------------------------------------------------------------------------------ docs


@pytest.mark.slow
def test_the_examples_of_the_docs_run(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    monkeypatch.chdir(tmp_path)
    exec("\n".join(blocks), {"__name__": "docs"})
