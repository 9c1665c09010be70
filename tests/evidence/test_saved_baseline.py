"""Saved baselines predict in a fresh process what they predicted when they were fitted, and hold no pickle."""

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy.special import softmax

from hftl.errors import DataError, ModelError
from hftl.evaluation.baselines import CLASS, constant_baseline
from hftl.evaluation.linear_baselines import linear_baseline
from hftl.evaluation.saved_baseline import load_baseline, save_baseline
from tests.thin import thin


LABELS = ["a", "<b>", "never seen", "ü\n"]
WORDS = {0: "goal match team", 1: "court judge law", 3: "étoile 星 <planet>\u2028 \ud800"}
SCRIPT = """
import json, sys, numpy as np
from scipy.special import softmax
from hftl.evaluation.saved_baseline import load_baseline
inputs = json.load(open(sys.argv[2])) if sys.argv[2].endswith(".json") else np.load(sys.argv[2])
loaded = load_baseline(sys.argv[1])
np.savez(sys.argv[3], predictions=loaded.predict(inputs), probabilities=softmax(loaded.outputs(inputs), axis=1))
assert "torch" not in sys.modules
"""


def texts(rows, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 3], rows)
    noise = [f"word{i}" for i in range(20)]
    return [" ".join(rng.permutation([*WORDS[y].split(" "), *rng.choice(noise, 6)])) for y in labels], labels


def images(rows, seed=0, channels=3):
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 3], rows)
    return (rng.integers(0, 120, (rows, 40, 36, channels)) + 40 * labels[:, None, None, None]).astype(np.uint8), labels


def fitted(kind):
    """Return (baseline, test inputs)."""
    if kind == "majority":
        return constant_baseline(CLASS, np.array([3, 1, 3]), range(5)), ["x"] * 5
    if kind == "tfidf":
        test = [*texts(50, 1)[0], "", "a", "nothing known"]
        return linear_baseline("tfidf", *texts(150), test), test
    features = "raw_pixels" if kind == "raw pixels" else "colour_histogram"
    channels = 1 if kind == "grey histogram" else 3
    test = images(60, 1, channels)[0]
    return linear_baseline(features, *images(90, 0, channels), test), test


@pytest.mark.parametrize(
    "kind", thin(("majority", "tfidf", "raw pixels", "histogram", "grey histogram"), ("tfidf", "histogram"))
)
def test_predicts_the_same_in_a_fresh_process(kind, tmp_path):
    baseline, test = fitted(kind)
    save_baseline(baseline, tmp_path / "baseline", LABELS)
    assert sorted(path.name for path in (tmp_path / "baseline").iterdir()) == ["config.json", "model.safetensors"]
    inputs = tmp_path / ("inputs.json" if isinstance(test, list) else "inputs.npy")
    if isinstance(test, list):
        inputs.write_text(json.dumps(test))
    else:
        np.save(inputs, test)
    subprocess.run([sys.executable, "-c", SCRIPT, tmp_path / "baseline", inputs, tmp_path / "out.npz"], check=True)
    out = np.load(tmp_path / "out.npz")
    np.testing.assert_array_equal(out["predictions"], baseline.predictions)
    assert out["probabilities"].shape == (len(test), 4)
    np.testing.assert_allclose(out["probabilities"].sum(1), 1, atol=1e-5)
    assert (out["probabilities"][:, 2] == 0).all()
    np.testing.assert_array_equal(out["probabilities"].argmax(1), baseline.predictions)
    assert load_baseline(tmp_path / "baseline").labels == tuple(LABELS)


def test_majority_probabilities_are_the_shares(tmp_path):
    save_baseline(constant_baseline(CLASS, np.array([3, 1, 3]), range(0)), tmp_path, LABELS)
    np.testing.assert_allclose(
        softmax(load_baseline(tmp_path).outputs(["x"]), axis=1), [[0, 1 / 3, 0, 2 / 3]], atol=1e-6
    )


def test_images_of_another_size_are_refused(tmp_path):
    baseline, test = fitted("raw pixels")
    save_baseline(baseline, tmp_path, LABELS)
    for wrong in (test[:, :20], test[..., :1], test.astype(np.float32)):
        with pytest.raises(DataError, match="40 x 36 x 3"):
            load_baseline(tmp_path).predict(wrong)


def test_labels_must_cover_the_classes(tmp_path):
    with pytest.raises(DataError):
        save_baseline(constant_baseline(CLASS, np.array([3, 1, 3]), range(1)), tmp_path, ["a", "b"])


def break_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    "harm",
    [
        lambda f: (f / "config.json").unlink(),
        lambda f: (f / "model.safetensors").unlink(),
        lambda f: (f / "config.json").write_text("{"),
        lambda f: (f / "config.json").write_text("[]"),
        lambda f: (f / "model.safetensors").write_bytes(b"\x80\x04pickle"),
        lambda f: break_config(f, format=2),
        lambda f: break_config(f, kind="other"),
        lambda f: break_config(f, kind=["tfidf"]),
        lambda f: break_config(f, labels=["a"]),
        lambda f: break_config(f, settings={"blocks": []}),
        lambda f: break_config(f, settings={}),
        lambda f: save_file({**load_file(f / "model.safetensors"), "bias": np.zeros(1, np.float32)}, f / "model.safetensors"),
    ],
)  # fmt: skip
def test_damage_is_named(harm, tmp_path):
    save_baseline(fitted("tfidf")[0], tmp_path, LABELS)
    harm(tmp_path)
    with pytest.raises(ModelError):
        load_baseline(tmp_path)
