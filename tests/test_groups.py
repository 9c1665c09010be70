"""--group_column: rows of one group never lie on both sides of a cut; a given split that shares groups is noted."""

import numpy as np
import pandas as pd
import pytest

from hftl.config import DataConfig
from hftl.data.columns import name_stem
from hftl.data.load import load_splits
from hftl.data.splits import cut, joined
from hftl.errors import DataError
from tests.doctor.pictures import scene


def table(people: int = 60, rows: int = 5, seed: int = 0) -> pd.DataFrame:
    """Texts of people, who are each of one class but for a row now and then."""
    rng = np.random.default_rng(seed)
    lines = []
    for person in range(people):
        for _ in range(int(rng.integers(1, 2 * rows))):
            label = "ab"[person % 2] if rng.random() < 0.9 else "ab"[(person + 1) % 2]
            lines.append({"text": f"{label} {rng.integers(10**9)}", "label": label, "person": f"p{person}"})
    return pd.DataFrame(lines).sample(frac=1, random_state=seed, ignore_index=True)


def people(data: pd.DataFrame, **flags) -> dict[str, set[str]]:
    splits = load_splits("text", DataConfig(data=data, group_column="person", **flags))
    parts = {split: getattr(splits, split)["row"][:] for split in ("train", "validation", "test")}
    return {split: set(data["person"].iloc[list(rows)]) for split, rows in parts.items()}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_group_is_in_two_splits(seed):
    data = table(seed=seed)
    groups = people(data, seed=seed)
    assert all(groups.values())
    assert sum(map(len, groups.values())) == len(set.union(*groups.values())) == data["person"].nunique()
    assert len(groups["test"]) == 12  # a fifth of 60, half of each class
    plain = load_splits("text", DataConfig(data=data, seed=seed))
    first, second = (set(data["person"].iloc[list(part["row"][:])]) for part in (plain.train, plain.test))
    assert first & second  # what happens without the flag


def test_a_cut_of_groups_is_stratified_and_leaves_one_of_every_class():
    groups = np.repeat(np.arange(40), 3)
    labels = np.repeat([0] * 28 + [1] * 11 + [2], 3)
    left, taken = cut(labels, 3, 0.25, 7, groups)
    assert sorted([*left, *taken]) == list(range(120))
    assert not set(groups[left]) & set(groups[taken])
    assert np.bincount(labels[taken], minlength=3).tolist() == [21, 9, 0]
    with pytest.raises(DataError, match="too few groups: 2 groups in 2 classes"):
        cut(np.array([0, 0, 1, 1]), 2, 0.5, 0, np.array([0, 0, 1, 1]))


def test_copies_join_groups():
    same = joined(["a", "a", "b", "c", "c"], [b"1", b"2", b"2", None, None])
    assert same.tolist() == [0, 0, 0, 1, 1]
    data = table(40)
    data.loc[data["person"] == "p1", "text"] = data.loc[data["person"] == "p2", "text"].iloc[0]
    for seed in range(8):
        groups = people(data, seed=seed)
        assert sum({"p1", "p2"} <= here for here in groups.values()) == 1


def test_a_row_without_a_group_is_one_of_its_own(tmp_path):
    data = table()
    data.loc[data.index % 2 == 0, "person"] = None
    splits = load_splits("text", DataConfig(data=data, group_column="person"))
    assert len(splits.test) > 20
    named = [set(data["person"].iloc[list(part["row"][:])].dropna()) for part in (splits.train, splits.test)]
    assert not named[0] & named[1]


def test_a_given_split_that_shares_groups_is_noted(tmp_path):
    data = table()
    data.iloc[:200].to_csv(tmp_path / "train.csv", index=False)
    data.iloc[200:].to_csv(tmp_path / "test.csv", index=False)
    splits = load_splits("text", DataConfig(data=str(tmp_path), group_column="person"))
    both = data.iloc[200:]["person"].isin(data.iloc[:200]["person"])
    (note,) = [note for note in splits.warnings if "groups" in note]
    assert note.startswith(f"{both.sum()} rows of 'test' are of ")
    assert "of its groups" in splits.origins["validation"]
    with pytest.raises(DataError, match="has no column 'who' for --group_column"):
        load_splits("text", DataConfig(data=str(tmp_path), group_column="who"))


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a/obj12_003.jpg", "a/obj12"),
        ("obj12-3.png", "obj12"),
        ("0042.jpg", "0042.jpg"),
        ("b/frame.png", "b/frame"),
        ("plate 7 (2).png", "plate 7"),
    ],
)
def test_the_stem_of_a_name(name, stem):
    assert name_stem(name) == stem


def test_groups_of_image_files(tmp_path):
    for i in range(96):
        folder = tmp_path / "images" / "ab"[i // 8 % 2]
        folder.mkdir(parents=True, exist_ok=True)
        scene(i).save(folder / f"obj{i // 8}_{i % 8:03}.png")
    splits = load_splits("image", DataConfig(data=str(tmp_path / "images"), group_column="file_name"))
    names = [{name_stem(image["path"]) for image in part["image"][:]} for part in (splits.train, splits.test)]
    assert names[1]
    assert not names[0] & names[1]
