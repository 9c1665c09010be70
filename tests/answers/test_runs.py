"""Runs that answer with labels, numbers, or about pairs: figures, artifacts and processes hold as for classes."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import transformers
from safetensors.torch import load_file
from sklearn.metrics import average_precision_score, f1_score, r2_score, root_mean_squared_error

import hftl
from hftl.adapt import adapt
from hftl.data.load import load_task
from hftl.errors import ConfigError, DataError
from hftl.predict_file import evaluate_data, predict_data
from tests.answers.rows import TABLES, labelled, measured, paired
from tests.faults.commands import assert_goes_on_after_a_kill
from tests.runs import SMALL, checkpoint, subprocess_env
from tests.thin import thin
from tests.tiny import tiny_images


TASK = "text-classification"
FAMILIES, METHODS = ("bert", "roberta", "distilbert"), ("probe", "head", "lora", "full", "gradual", "wise")
KEPT = [("labels", "bert", "lora"), ("number", "bert", "full"), ("number", "distilbert", "head"), ("pair", "roberta", "gradual"),
        ("labels", "roberta", "probe"), ("number", "roberta", "wise")]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("answers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFTL_CACHE", str(path / "cache"))
        yield path


def run(folder, kind, family="bert", method="probe", name=None, **flags):
    options = {**SMALL, "max_steps": 4, "warmup_steps": 0, "data": TABLES[kind](), **flags}
    target = folder / (name or f"{kind}-{family}-{method}")
    return adapt(TASK, model=str(checkpoint(family, folder)), method=method, output_dir=target, **options)


@pytest.mark.parametrize(
    ("kind", "family", "method"), thin([(k, f, m) for k in TABLES for f in FAMILIES for m in METHODS], KEPT)
)
def test_plain_pipeline_answers_alike(kind, family, method, folder):
    result = run(folder, kind, family, method)
    model = hftl.load(result.run_dir)
    own = json.loads((result.run_dir / "final" / "config.json").read_text())["model_type"] == "hftl_mean_pooled"
    pipe = transformers.pipeline(TASK, str(result.run_dir / "final"), device="cpu", trust_remote_code=own)
    output, inputs = model.task.output, model.task.inputs
    assert inputs.kind == ("pair" if kind == "pair" else "text")
    assert output.link == {"labels": "sigmoid", "number": "none"}.get(kind, "softmax")
    values = inputs.values(load_task(TASK, hftl.config.DataConfig(data=TABLES[kind]()))[1].test)[:5]
    rows = [inputs.row(value) for value in values]
    for row, answer in zip(rows, model.predict(rows), strict=True):
        theirs = np.array(output.flatten(pipe(row, **output.ask(model.labels)), model.labels, row))
        ours = np.array(output.flat(answer, model.labels))
        assert np.abs(theirs - ours).max() < 1e-4 * max(1, np.abs(ours).max())


def test_figures_of_labels_are_those_of_scikit_learn(folder):
    result = run(folder, "labels", name="figures", data=labelled(200), thresholds="auto")
    _, splits = load_task(TASK, hftl.config.DataConfig(data=labelled(200)))
    true = np.asarray(splits.test["label"][:])
    answers = result.predict(splits.test["text"][:])
    thresholds = json.loads((result.run_dir / "final" / "config.json").read_text())["thresholds"]
    scores = np.array([[a.probabilities[name] for name in splits.labels] for a in answers])
    given = scores > np.array(thresholds)
    assert [set(a.labels) for a in answers] == [{splits.labels[i] for i in np.flatnonzero(row)} for row in given]
    test = result.metrics
    assert test["micro_f1"]["value"] == pytest.approx(f1_score(true, given, average="micro"))
    assert test["macro_f1"]["value"] == pytest.approx(f1_score(true, given, average="macro", zero_division=0))
    assert test["exact"]["value"] == pytest.approx((true == given).all(axis=1).mean())
    assert test["map"]["value"] == pytest.approx(average_precision_score(true, scores, average="macro"))
    assert all({"value", "low", "high"} <= set(test[name]) for name in ("micro_f1", "macro_f1", "exact", "map"))
    assert [row["label"] for row in result.report["per_class"]] == list(splits.labels)


def test_of_errors_the_smallest_is_the_best(folder):
    flags = {"method": "full", "learning_rate": 5e-2, "max_steps": -1, "num_train_epochs": 4}
    result = run(folder, "number", name="smallest", metric_for_best_model="rmse", **flags)
    scores = [entry["eval_r2"] for entry in result.report["stages"][-1]["history"] if "eval_r2" in entry]
    assert len(set(scores)) == 4
    assert result.report["metrics"]["validation"]["r2"]["value"] == pytest.approx(max(scores), abs=1e-4)
    with pytest.raises(hftl.HftlError, match=r"no such score here\. There are loss, r2, rmse"):
        run(folder, "number", name="none", metric_for_best_model="accuracy", **flags)


def test_figures_of_numbers_are_those_of_scikit_learn(folder):
    data = measured(200)
    result = run(folder, "number", method="full", name="numbers", data=data, learning_rate=5e-3, max_steps=40)
    _, splits = load_task(TASK, hftl.config.DataConfig(data=data))
    true = np.asarray(splits.test["label"][:])
    answers = result.predict(splits.test["text"][:])
    given = np.array([answer.value for answer in answers])
    test = result.metrics
    assert test["r2"]["value"] == pytest.approx(r2_score(true, given), abs=1e-5)
    assert test["rmse"]["value"] == pytest.approx(root_mean_squared_error(true, given), rel=1e-4)
    assert {"rmse", "mae", "r2", "pearson", "spearman"} <= set(test)
    assert 900 < given.mean() < 1100, "the scale of the targets is in the head"
    assert all(a.low < a.value < a.high for a in answers)
    assert np.mean([(a.low <= t <= a.high) for a, t in zip(answers, true, strict=True)]) > 0.6
    assert result.report["problem_type"] == "regression"


@pytest.mark.parametrize("kind", thin(TABLES, ["labels", "number"]))
def test_evidence_of_every_kind(folder, kind):
    result = run(folder, kind, name=f"evidence-{kind}", evidence=True, method="full")
    evidence, output = result.report["evidence"], hftl.load(result.run_dir).task.output
    assert evidence["ladder"][0]["kind"] == "majority"
    assert all(output.headline in rung for rung in evidence["ladder"])
    assert evidence["verdict"]["label"] in ("POSITIVE", "NEUTRAL", "NEGATIVE")
    assert evidence["slices"] or len(evidence["ladder"]) > 4
    assert result.report["parity"]["final"]["labels_equal"] is True
    assert (result.run_dir / "report.html").stat().st_size > 20_000
    assert set(output.parts) <= set(evidence)


def test_predict_and_evaluate_files(folder, tmp_path):
    for kind, columns in (
        ("labels", {"prediction"}),
        ("number", {"prediction", "low", "high"}),
        ("pair", {"probability"}),
    ):
        model = hftl.load(run(folder, kind, name=f"files-{kind}").run_dir)
        TABLES[kind](12, seed=5).to_json(tmp_path / f"{kind}.jsonl", orient="records", lines=True)
        flags = {"data": str(tmp_path / f"{kind}.jsonl"), "output": str(tmp_path / f"{kind}.csv")}
        rows = predict_data(model, flags).rows
        assert len(rows) == 12
        written = pd.read_csv(tmp_path / f"{kind}.csv")
        assert columns <= set(written.columns)
        scores = evaluate_data(str(folder / f"files-{kind}"), {"data": flags["data"]})
        assert scores["rows"] == 12
        assert model.task.output.headline in scores["metrics"]


def test_images_have_labels_and_numbers(folder):
    files = sorted(tiny_images(folder / "images").rglob("*.png"))
    names = [path.parent.name for path in files]
    table = pd.DataFrame(
        {"image": map(str, files), "label": [f"{n}|{'dark' if i % 2 else 'light'}" for i, n in enumerate(names)]}
    )
    model, flags = str(checkpoint("vit", folder)), {**SMALL, "method": "probe"}
    labels = adapt(
        "image-classification", data=table, model=model, output_dir=folder / "il", label_separator="|", **flags
    )
    assert {"dark", "light"} < set(labels.report["data"]["labels"])
    numbers = table.assign(label=[i * 1.25 for i in range(len(table))])
    number = adapt("image-classification", data=numbers, model=model, output_dir=folder / "in", **flags)
    assert number.report["problem_type"] == "regression"
    assert isinstance(number.predict([str(files[0])])[0].value, float)


def test_flags_that_mean_nothing(folder):
    for kind, flag, value in (
        ("labels", "class_weights", "balanced"),
        ("number", "class_weights", "auto"),
        ("number", "thresholds", "auto"),
        ("pair", "thresholds", "0.3"),
        ("number", "label_smoothing_factor", 0.1),
    ):
        with pytest.raises(ConfigError, match=f"--{flag}"):
            run(folder, kind, name="none", **{flag: value})
    for kind in ("labels", "number"):
        with pytest.raises(DataError, match="shots are so many rows of every class"):
            run(folder, kind, name="none", shots=2)
    sliced = run(folder, "number", name="sliced", data=measured(90).assign(source=["a", "b", "c"] * 30),
                 slice_column="source", evidence=True)  # fmt: skip
    assert {s["slice"] for s in sliced.report["evidence"]["slices"] if s["by"] == "source"} == {"a", "b", "c"}


def exact(folder, kind, name, rows, accumulate, launch=(), **more):
    data = folder / f"exact-{kind}"
    if not data.is_dir():
        data.mkdir()
        frame = TABLES[kind](56)
        for split, part in (("train", frame[:32]), ("validation", frame[32:44]), ("test", frame[44:])):
            part.to_json(data / f"{split}.jsonl", orient="records", lines=True)
    model = checkpoint("bert", folder / "exact", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    flags = {
        "data": data, "model": model, "method": "full", "use_cpu": True, "bf16": False, "evidence": False, "max_steps": 6,
        "per_device_train_batch_size": rows, "gradient_accumulation_steps": accumulate, "learning_rate": 0.01,
        "optim": "sgd", "warmup_steps": 0, "train_sampling_strategy": "random", "output_dir": folder / name, **more,
    }  # fmt: skip
    if not launch:
        return adapt(TASK, **{k: str(v) if isinstance(v, Path) else v for k, v in flags.items()}).report
    words = [w for k, v in flags.items() for w in (f"--{k}", str(v).lower() if isinstance(v, bool) else str(v))]
    done = subprocess.run(
        [*launch, "-m", "hftl", "train", TASK, *words], capture_output=True, text=True, timeout=300,
        cwd=Path(__file__).parents[2], env=subprocess_env(HFTL_CACHE=str(folder / f"cache-{name}")),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / name / "report.json").read_text())


def distance(folder, a, b):
    one, two = (load_file(folder / name / "final" / "model.safetensors") for name in (a, b))
    return max(
        float((one[k] - two[k]).abs().max() / two[k].abs().max().clamp(min=1)) for k in one if "key.bias" not in k
    )


@pytest.mark.parametrize("kind", thin(TABLES, ("labels",)))
def test_accumulation_and_two_processes_are_exact(folder, kind):
    (folder / "exact").mkdir(exist_ok=True)
    whole = exact(folder, kind, f"{kind}-whole", 8, 1)
    exact(folder, kind, f"{kind}-parts", 2, 4)
    assert distance(folder, f"{kind}-whole", f"{kind}-parts") < 1e-5
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    two = exact(folder, kind, f"{kind}-two", 4, 1, launch)
    assert two["environment"]["processes"] == 2
    assert distance(folder, f"{kind}-whole", f"{kind}-two") < 1e-5
    for name, score in whole["metrics"]["test"].items():
        assert two["metrics"]["test"][name] == pytest.approx(score, rel=1e-4), name


@pytest.mark.parametrize("kind", thin(TABLES, ["number"]))
def test_a_killed_run_goes_on(folder, kind, tmp_path):
    table = TABLES[kind]()
    table = table.assign(labels=table["labels"].str.join("|")) if kind == "labels" else table
    table.to_csv(tmp_path / "rows.csv", index=False)
    flags = {"data": tmp_path / "rows.csv", "model": checkpoint("bert", folder), "method": "full", "num_train_epochs": 3,
             "per_device_train_batch_size": 8, "evidence": "off", "use_cpu": "true", "bf16": "false"}  # fmt: skip
    flags |= {"label_separator": "|"} if kind == "labels" else {}
    assert_goes_on_after_a_kill(TASK, flags, tmp_path)


def test_a_scale_is_resumed(folder, monkeypatch):
    """A run that ends between its last stage and the fold of the scale gives the same model when it is resumed."""
    plain = run(folder, "number", method="full", name="plain", learning_rate=1e-3)
    with monkeypatch.context() as patch:
        patch.setattr("hftl.training.stages.unfold_scale", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(folder, "number", method="full", name="resumed", learning_rate=1e-3)
    again = run(folder, "number", method="full", name="resumed", learning_rate=1e-3, resume=True)
    one, two = (load_file(r.run_dir / "final" / "model.safetensors") for r in (plain, again))
    assert all((one[k] == two[k]).all() for k in one)


def test_pairs_are_told_apart_from_texts(folder):
    model = hftl.load(run(folder, "pair", name="told").run_dir)
    pair = model.predict([("one text", "another")])[0]
    assert pair == model.predict([{"text": "one text", "text_pair": "another"}])[0]
    with pytest.raises(DataError, match="reads pairs of texts"):
        model.predict(["one text"])
    assert paired(4)["label"].isin(["same", "other"]).all()


@pytest.mark.parametrize(
    ("recipe", "kind"), [("multi_label", "labels"), ("regression", "number"), ("text_pairs", "pair")]
)
def test_recipes(folder, recipe, kind):
    flags = {**SMALL, "data": TABLES[kind](), "model": str(checkpoint("bert", folder)), "max_steps": 2}
    report = import_module(f"recipes.{recipe}").run(output_dir=folder / f"recipe-{kind}", **flags).report
    assert (report["inputs"] == "pair", report["problem_type"] == "regression") == (kind == "pair", kind == "number")
