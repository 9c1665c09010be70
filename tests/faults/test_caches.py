"""A cache that is broken, too small or of other inputs is never read; a run without one comes out the same."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from tests.faults.commands import KILL, TERM, Server, assert_same_run, killed, report_of, train_words
from tests.thin import thin
from tests.tiny import build


SETUPS = "tests.faults.setups:"
FEATURES = 50_000  # bytes; both parts together are less, the states more


def also(*values: Any) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


def arrays(folder: Path, kind: str) -> dict[str, bytes]:
    """The files of one kind of cache, by key and name."""
    root = folder / "cache" / kind
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.npy"))}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def garble(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    """One bit of the data, and the time of the file as it was: nothing but the hash can tell."""
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[-5] ^= 16
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def zeros(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:128] + bytes(path.stat().st_size - 128))


def header(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"'descr'", b"(desc\0'"))


def removed(path: Path) -> None:
    path.unlink()


def other_shape(path: Path) -> None:
    np.save(path, np.zeros((3, 5), dtype=np.float32))


@pytest.mark.parametrize("damage", thin([truncate, garble, empty, flip, zeros, header, removed], [truncate, flip]))
def test_broken_features_are_made_anew(
    damage: Callable[[Path], None], server: Server, undisturbed: Any, tmp_path: Path
) -> None:
    shutil.copytree(undisturbed("full").parent / "cache", tmp_path / "cache")
    before = arrays(tmp_path, "features")
    assert len(before) == 4  # two parts of the data, two poolings
    for path in (tmp_path / "cache" / "features").rglob("native.npy"):
        damage(path)
    assert server.train(tmp_path, "full").code == 0
    assert report_of(tmp_path / "run")["probe"]["features"] == "computed, since the cached copy was damaged"
    assert arrays(tmp_path, "features") == before
    assert_same_run(tmp_path / "run", undisturbed("full"))


def test_whole_features_are_read(server: Server, undisturbed: Any, tmp_path: Path) -> None:
    shutil.copytree(undisturbed("full").parent / "cache", tmp_path / "cache")
    assert server.train(tmp_path, "full").code == 0
    assert report_of(tmp_path / "run")["probe"]["features"] == "cache"
    assert_same_run(tmp_path / "run", undisturbed("full"))


@pytest.mark.parametrize("damage", thin([truncate, garble, empty, other_shape, flip, header], [other_shape, flip]))
def test_broken_states_are_made_anew(
    damage: Callable[[Path], None], server: Server, undisturbed: Any, tmp_path: Path
) -> None:
    """A killed run leaves its states; the resumed one reads them, unless they are broken."""
    done = server.train(tmp_path, "gradual", moments=[killed("hftl.training.stages:_drop_stage", 2)])
    assert done.code == -KILL
    whole = arrays(tmp_path, "states")
    assert len(whole) == 6  # two parts of the data, three boundaries
    for path in (tmp_path / "cache" / "states").rglob("*.npy"):
        damage(path)
    rebuilt = [("hftl.training.replay:_write", "before", 1, "", KILL)]
    assert server.train(tmp_path, "gradual", "--resume", moments=rebuilt).code == -KILL
    assert server.train(tmp_path, "gradual", "--resume").code == 0
    assert_same_run(tmp_path / "run", undisturbed("gradual"))
    assert [s["reads"] for s in report_of(tmp_path / "run")["stages"]] == ["features", *["states"] * 3, "rows"]


def test_whole_states_are_read(server: Server, undisturbed: Any, tmp_path: Path) -> None:
    done = server.train(tmp_path, "gradual", moments=[killed("hftl.training.stages:_by_gradient")])
    assert done.code == -KILL
    rebuilt = [("hftl.training.replay:_write", "before", 1, "", KILL)]
    assert server.train(tmp_path, "gradual", "--resume", moments=rebuilt).code == 0
    assert_same_run(tmp_path / "run", undisturbed("gradual"))


def test_what_a_dead_process_left_is_removed_after_a_day(server: Server, tmp_path: Path) -> None:
    for kind in ("features", "states"):
        for name in ("new", "old"):
            folder = tmp_path / "cache" / kind / f".partial-{name}"
            folder.mkdir(parents=True)
            (folder / "1.npy").write_bytes(b"half")
        os.utime(folder, (0, 0))
    assert server.train(tmp_path, "gradual").code == 0
    for kind in ("features", "states"):
        assert [path.name for path in (tmp_path / "cache" / kind).glob(".partial-*")] == [".partial-new"]


@pytest.mark.parametrize(
    ("setup", "env", "says"),
    [
        ("", {"HFTL_CACHE_BUDGET": str(FEATURES)}, "HFTL_CACHE_BUDGET"),
        ("no_room_for_states", {}, "No space left on device"),
        also("no_room_for_the_map", {}, "No space left on device"),
    ],
)
def test_no_room_for_states(
    setup: str, env: dict[str, str], says: str, server: Server, undisturbed: Any, tmp_path: Path
) -> None:
    """The run ends without them and says so; `--cache on` is refused, and leaves nothing."""
    setup = SETUPS + setup if setup else ""
    assert server.train(tmp_path, "gradual", setup=setup, **env).code == 0
    report = report_of(tmp_path / "run")
    (note,) = [note for note in report["warnings"] if "no cache of frozen layers" in note]
    assert says in note
    assert [s["reads"] for s in report["stages"]] == ["features", "rows", "rows", "rows", "rows"]
    assert report["metrics"]["test"].keys() == report_of(undisturbed("gradual"))["metrics"]["test"].keys()
    assert not list((tmp_path / "cache" / "states").iterdir())

    done = server.train(tmp_path, "gradual", "--cache", "on", "--output_dir", "on", setup=setup, **env)
    assert done.code == 2
    (line,) = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert "--cache on cannot be held" in line
    assert says in line
    assert {path.name for path in tmp_path.iterdir()} == {"run", "cache", "stdout", "stderr"}
    assert not list((tmp_path / "cache" / "states").iterdir())


def test_room_for_the_training_states_alone(server: Server, tmp_path: Path) -> None:
    """Those of the validation rows do not fit any more: none are kept."""
    later = [("hftl.training.cache:open_memmap", "before", 4, "", KILL)]
    assert server.train(tmp_path, "gradual", moments=later).code == -KILL
    budget = str(sum(len(data) for data in arrays(tmp_path, "states").values()))
    assert int(budget) > FEATURES
    shutil.rmtree(tmp_path / "cache")
    shutil.rmtree(tmp_path / "run.partial", ignore_errors=True)  # the kill may come before it is made
    done = server.train(tmp_path, "gradual", "--cache", "on", HFTL_CACHE_BUDGET=budget)
    assert done.code == 2
    assert "error: --cache on cannot be held" in done.err
    assert "do not fit into HFTL_CACHE_BUDGET" in done.err
    assert arrays(tmp_path, "states") == {}


@pytest.mark.parametrize(
    ("setup", "says"),
    [("no_room_for_features", "No space left on device"), also("no_cache_folder", "Not a directory")],
)
def test_no_room_for_features(setup: str, says: str, server: Server, undisturbed: Any, tmp_path: Path) -> None:
    done = server.train(tmp_path, "full", setup=SETUPS + setup)
    assert done.code == 0, done.err
    origin = report_of(tmp_path / "run")["probe"]["features"]
    assert origin.startswith("computed, not kept: ")
    assert says in origin
    assert list((tmp_path / "cache").rglob("*.npy")) == []
    assert list((tmp_path / "cache").rglob(".partial-*")) == []
    assert_same_run(tmp_path / "run", undisturbed("full"))


def other_weight(place: Path, folder: Path) -> None:
    path = folder / "bert" / "model.safetensors"
    weights = load_file(path)
    weights["bert.encoder.layer.0.output.dense.bias"][7] += 1e-3
    save_file(weights, path, metadata={"format": "pt"})


def other_row(place: Path, folder: Path) -> None:
    path = folder / "t.csv"
    path.write_text(path.read_text().replace(" the ", " an "))


def other_config(place: Path, folder: Path, **fields: object) -> None:
    path = folder / "bert" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def other_heads(place: Path, folder: Path) -> None:
    """The same tensors, cut into other attention heads."""
    other_config(place, folder, num_attention_heads=8)


def other_activation(place: Path, folder: Path) -> None:
    other_config(place, folder, hidden_act="relu")


def other_epsilon(place: Path, folder: Path) -> None:
    other_config(place, folder, layer_norm_eps=1e-3)


def other_names(place: Path, folder: Path) -> None:
    """What a config says about labels and files changes no feature."""
    other_config(place, folder, id2label={"0": "a", "1": "b"}, label2id={"a": 0, "b": 1}, problem_type="regression")


def nothing(place: Path, folder: Path) -> None:
    build("resnet", folder / "unused")


@pytest.mark.parametrize(
    ("kind", "change", "flags", "setup", "anew"),
    [
        also("gradual", nothing, [], "", False),
        ("resnet on states", nothing, [], "", False),
        ("gradual", other_weight, [], "", True),
        also("gradual", other_row, [], "", True),
        ("gradual", other_heads, [], "", True),
        also("gradual", other_activation, [], "", True),
        also("gradual", other_epsilon, [], "", True),
        ("gradual", other_names, [], "", False),
        ("gradual", nothing, ["--max_seq_length", 8], "", True),
        ("gradual", nothing, [], "another_transformers", True),
        also("gradual", nothing, [], "another_torch", True),
        also("gradual", nothing, [], "another_format", True),
        ("resnet on states", nothing, ["--augment", "light"], "", True),
        also("resnet on states", nothing, ["--no_flip"], "", True),
        also("resnet on states", nothing, ["--cache_views", 2], "", True),
    ],
)
def test_keys(
    kind: str, change: Any, flags: list[object], setup: str, anew: bool, server: Server, tmp_path: Path
) -> None:
    """Another weight, row, length, preset or version reads nothing of what the run before it has kept."""
    for name in ("t.csv", "bert", "images", "resnet"):
        source = server.place / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path)
    words = [*train_words(tmp_path, kind), "--output_dir"]
    stop = [killed("hftl.training.stages:_by_gradient")]  # all caches are made, and none is dropped
    assert server.command(tmp_path, *words, "a", moments=stop).code == -KILL
    before = {kind: arrays(tmp_path, kind) for kind in ("features", "states")}
    assert before["states"]
    change(server.place, tmp_path)
    setup = SETUPS + setup if setup else ""
    assert server.command(tmp_path, *words, "b", *flags, moments=stop, setup=setup).code == -KILL
    after = {kind: arrays(tmp_path, kind) for kind in ("features", "states")}
    new = {kind: set(after[kind]) - set(before[kind]) for kind in after}
    assert bool(new["states"]) is anew
    train_rows_only = any(flag in flags for flag in ("--augment", "--no_flip", "--cache_views"))
    assert bool(new["features"]) is (anew and not train_rows_only)  # features are never augmented
    if anew and not train_rows_only:
        assert len(new["states"]) == len(before["states"])
        assert len(new["features"]) == len(before["features"])


def test_states_that_find_no_room_again(server: Server, undisturbed: Any, tmp_path: Path) -> None:
    """A run that was begun with stored states does not go on without them: its weights would be others."""
    stop = [("hftl.training.stages:_save_stage", "after", 2, "", TERM)]
    assert server.train(tmp_path, "gradual", moments=stop).code == 143
    shutil.rmtree(tmp_path / "cache")
    done = server.train(tmp_path, "gradual", "--resume", setup=SETUPS + "no_room_for_states")
    assert done.code == 2, done.err
    assert "was begun with stored states" in done.err.strip().splitlines()[-1]
    assert server.train(tmp_path, "gradual", "--resume").code == 0
    assert_same_run(tmp_path / "run", undisturbed("gradual"))
