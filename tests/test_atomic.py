"""Files and folders are there complete, or not at all; what was there before goes last."""

from pathlib import Path

import pytest

from hftl.atomic import check_folder, new_file, new_folder, partial_of, put_in_place, write_new
from hftl.errors import RunError


def made(path: Path, **files: str) -> Path:
    path.mkdir()
    for name, text in files.items():
        (path / name).write_text(text)
    return path


def names(path: Path) -> set[str]:
    return {str(one.relative_to(path)) for one in path.rglob("*")}


def test_a_new_folder_takes_the_place_of_the_old_one_at_the_end(tmp_path):
    made(tmp_path / "out", old="1")
    with new_folder(tmp_path / "out", mark=".mark") as folder:
        assert names(folder) == {".mark"}
        (folder / "new").write_text("2")
        assert (tmp_path / "out" / "old").is_file()
    assert names(tmp_path) == {"out", "out/new"}


def fill(folder: Path) -> None:
    (folder / "new").write_text("2")
    raise KeyboardInterrupt


def test_an_error_leaves_the_old_folder(tmp_path):
    made(tmp_path / "out", old="1")
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "out") as folder:
        fill(folder)
    assert names(tmp_path) == {"out", "out/old"}


def test_an_error_leaves_the_old_file(tmp_path):
    write_new(tmp_path / "file", "before")
    with pytest.raises(UnicodeEncodeError):
        write_new(tmp_path / "file", "half" * 10_000 + "\ud800")
    assert names(tmp_path) == {"file"}
    assert (tmp_path / "file").read_text() == "before"
    with new_file(tmp_path / "file") as partial:
        partial.write_bytes(b"after")
        assert (tmp_path / "file").read_text() == "before"
    assert names(tmp_path) == {"file"}
    assert (tmp_path / "file").read_text() == "after"


def test_what_a_killed_process_left_of_the_old_folder_goes(tmp_path):
    """It was killed between the two renames, or while it removed the old folder."""
    made(made(tmp_path / "out.partial", new="2") / "replaced", old="1")
    put_in_place(tmp_path / "out.partial", tmp_path / "out")
    assert names(tmp_path) == {"out", "out/new"}


def test_leftovers_of_a_killed_process_are_not_mixed_in(tmp_path):
    made(tmp_path / "out.partial", half="1")
    with new_folder(tmp_path / "out") as folder:
        (folder / "new").write_text("2")
    assert names(tmp_path) == {"out", "out/new"}


@pytest.mark.parametrize(
    ("name", "files", "overwrite", "says"),
    [
        ("out", {"proof": ""}, False, "exists already"),
        ("out", {"letter": ""}, True, "not a thing, so --overwrite does not remove it"),
        ("out.partial", {"letter": ""}, True, "in the way"),
        ("out", {"proof": ""}, True, None),
        ("out.partial", {"mark": ""}, False, None),
        ("out.partial", {}, False, None),
        ("out", {}, False, None),
    ],
)
def test_folders_that_may_be_made(name, files, overwrite, says, tmp_path):
    made(tmp_path / name, **files)
    out, before = tmp_path / "out", names(tmp_path)
    rules = {"kind": "a thing", "proof": "proof", "marks": ("mark",), "overwrite": overwrite}
    if says is None:
        check_folder(out, "--out", "mine", **rules)
    else:
        with pytest.raises(RunError, match=says):
            check_folder(out, "--out", "mine", **rules)
    assert names(tmp_path) == before
    assert partial_of(out) == tmp_path / "out.partial"
