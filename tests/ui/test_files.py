"""What the page takes in, and what it refuses with one line: nothing half-written, nothing outside of its folders."""

import json
import stat
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hftl.config import DataConfig
from hftl.data.masks import mask_ids
from hftl.data.sources import read_source
from hftl.errors import ConfigError, DataError, ModelError
from hftl.ui import unzip
from hftl.ui.files import (
    Correction,
    Workspace,
    corrected_copy,
    parse_size,
    take_flags,
    take_model,
    take_text,
    take_upload,
)
from tests.command import text_csv, write_csv
from tests.test_segmentation import draw
from tests.tiny import tiny_images


@pytest.fixture
def space(tmp_path) -> Workspace:
    (tmp_path / "space").mkdir()
    return Workspace(tmp_path / "space", max_upload=2_000_000)


@pytest.fixture
def picture(tmp_path) -> bytes:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    return (tmp_path / "red.png").read_bytes()


def packed(path: Path, members: dict[str, bytes], **changed) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            for field, value in changed.items():
                setattr(info, field, value)
            archive.writestr(info, content)
    return path


def nothing_kept(space: Workspace) -> bool:
    return not space.data.exists() or not list(space.data.iterdir())


def test_sizes():
    assert (parse_size("500mb"), parse_size("2GB"), parse_size("1.5 kb"), parse_size("7")) == (
        5 * 10**8,
        2 * 10**9,
        1500,
        7,
    )
    for wrong in ("", "much", "-1mb", "0"):
        with pytest.raises(ConfigError, match="is no size"):
            parse_size(wrong)


def test_a_table_is_copied_and_a_second_of_its_name_gets_a_number(space, tmp_path):
    upload = text_csv(tmp_path / "tickets.csv")
    first, second = take_upload(space, upload), take_upload(space, upload)
    assert (Path(first).name, Path(second).name) == ("tickets.csv", "tickets-2.csv")
    assert Path(first).read_bytes() == upload.read_bytes()
    assert space.holds(Path(first))


def test_a_zip_of_class_folders_is_unpacked(space, tmp_path, picture):
    members = {f"pets/{kind}/{i}.png": picture for kind in ("cat", "dog") for i in range(3)}
    upload = packed(
        tmp_path / "pets.zip",
        {**members, "pets/.DS_Store": b"x", "__MACOSX/pets/cat/._0.png": b"x", "pets/readme.md": b"x"},
    )
    path = Path(take_upload(space, upload))
    assert sorted(str(file.relative_to(path)) for file in path.rglob("*.png")) == sorted(name[5:] for name in members)
    assert {file.suffix for file in path.rglob("*") if file.is_file()} == {".png"}
    assert set(read_source(str(path), "image").tables["train"]["label"]) == {"cat", "dog"}
    plain = packed(tmp_path / "plain.zip", {name[5:]: content for name, content in members.items()})
    assert {child.name for child in Path(take_upload(space, plain)).iterdir()} == {"cat", "dog"}


@pytest.mark.parametrize(
    ("members", "changed", "said"),
    [
        ({"../evil.png": b"x"}, {}, "leads out"),
        ({"a/../../evil.png": b"x"}, {}, "leads out"),
        ({"/etc/evil.png": b"x"}, {}, "leads out"),
        ({"..\\evil.png": b"x"}, {}, "leads out"),
        ({"C:\\evil.png": b"x"}, {}, "leads out"),
        ({"cat/link.png": b"/etc/passwd"}, {"external_attr": (stat.S_IFLNK | 0o777) << 16}, "holds the link"),
        ({"cat/a.png": b"x", "cat/A.png": b"y"}, {}, "two files of one name"),
        ({"notes.docx": b"x"}, {}, "holds no images"),
        ({"cat/zeros.png": b"\0" * 1_900_000}, {}, "too much"),
        ({f"cat/{i}.png": b"\0" * 1_900_000 for i in range(5)}, {}, "too much"),
    ],
)  # fmt: skip
def test_hostile_zips_leave_nothing(space, tmp_path, members, changed, said):
    upload = packed(tmp_path / "bad.zip", members, **changed)
    with pytest.raises(DataError, match=said) as refused:
        take_upload(space, upload)
    assert "\n" not in str(refused.value)
    assert nothing_kept(space)
    assert not list(tmp_path.rglob("evil*"))


def test_a_zip_with_too_many_files_or_a_false_head_leaves_nothing(space, tmp_path, picture, monkeypatch):
    monkeypatch.setattr(unzip, "MAX_FILES", 2)
    with pytest.raises(DataError, match="at most 2 are unpacked"):
        take_upload(space, packed(tmp_path / "many.zip", {f"cat/{i}.png": picture for i in range(3)}))
    whole = packed(tmp_path / "one.zip", {"cat/0.png": picture, "dog/0.png": picture}).read_bytes()
    for name, content in {"cut.zip": whole[:-30], "no.zip": b"PK nothing"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="no zip that can be read"):
            take_upload(space, tmp_path / name)
    flipped = bytearray(whole)
    flipped[60] ^= 0xFF  # in the packed bytes of the first picture: its checksum no longer holds
    (tmp_path / "flipped.zip").write_bytes(flipped)
    with pytest.raises(DataError, match="no zip that can be read"):
        take_upload(space, tmp_path / "flipped.zip")
    assert nothing_kept(space)


def test_an_encrypted_zip(space, tmp_path, picture):
    upload = packed(tmp_path / "locked.zip", {"cat/0.png": picture})
    data = bytearray(upload.read_bytes())
    data[6] |= 1  # of the local head, and of the list of files
    data[data.index(b"PK\1\2") + 8] |= 1
    upload.write_bytes(data)
    with pytest.raises(DataError, match="encrypted"):
        take_upload(space, upload)


def test_too_large_of_another_kind_and_faulty(space, tmp_path):
    (tmp_path / "large.csv").write_bytes(b"text,label\n" + b"x" * 2_000_001)
    (tmp_path / "notes.docx").write_bytes(b"x")
    (tmp_path / "zeros.csv").write_bytes(b"text,label\n\0\0\0,a\n")
    (tmp_path / "empty.csv").touch()
    for name, said in {
        "large": "--max_upload",
        "notes": "give CSV",
        "zeros": "zero bytes",
        "empty": "is empty",
    }.items():
        (upload,) = tmp_path.glob(f"{name}.*")
        with pytest.raises(DataError, match=said):
            take_upload(space, upload)
    assert nothing_kept(space)


def test_a_table_that_names_files_of_the_machine_is_refused(space, tmp_path, picture):
    secret = tmp_path / "secret.png"
    secret.write_bytes(picture)
    rows = [[str(secret), "a"], [str(secret), "b"]]
    uploads = [
        write_csv(tmp_path / "images.csv", rows, ("image", "label")),
        write_csv(tmp_path / "climbing.csv", [["../../../secret.png", "a"]], ("image", "label")),
        write_csv(tmp_path / "odd.csv", [[str(tmp_path / "images.csv"), "a"]], ("note", "label")),
    ]
    frame = pd.DataFrame({"image": [{"bytes": None, "path": str(secret)}], "label": ["a"]})
    frame.to_parquet(tmp_path / "images.parquet")
    for upload in [*uploads, tmp_path / "images.parquet"]:
        with pytest.raises(DataError, match="outside of what this page may read"):
            take_upload(space, upload)
    inside = packed(
        tmp_path / "meta.zip", {"a.png": picture, "metadata.csv": b"file_name,label\n../../../secret.png,x\na.png,y\n"}
    )
    with pytest.raises(DataError, match="outside of what this page may read"):
        take_upload(space, inside)
    assert nothing_kept(space)
    text = write_csv(tmp_path / "urls.csv", [["/r/python is a place", "a"], ["see ../docs", "b"]])
    assert take_upload(space, text)


def test_typed_paths_are_confined_to_what_was_named(space, tmp_path, monkeypatch):
    inside, named, outside = space.folder / "mine.csv", tmp_path / "named", tmp_path / "outside.csv"
    named.mkdir()
    for path in (inside, named / "theirs.csv", outside):
        text_csv(path)
    wide = Workspace(space.folder, named=(named,))
    assert take_text(space, str(inside)) == str(inside)
    assert take_text(wide, str(named / "theirs.csv")) == str(named / "theirs.csv")
    assert take_text(space, "sample:digits") == "sample:digits"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hftl.data.files.hub_reachable", lambda: True)
        assert take_text(space, "ns/name:config@main") == "ns/name:config@main"
    assert take_text(space, "mine.csv") == str(inside)
    (space.folder / "link.csv").symlink_to(outside)
    lines = []
    for text in (
        str(outside),
        str(tmp_path / "nothing.csv"),
        "~/x.csv",
        "/etc/passwd",
        f"{space.folder}/../outside.csv",
        str(space.folder / "link.csv"),
    ):
        with pytest.raises(DataError, match="not in a folder that this page may read") as refused:
            take_text(space, text)
        lines.append(str(refused.value).replace(text, ""))
    assert len({line.partition(" is not in")[2] for line in lines}) == 1, "the line tells whether a file is there"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ns" / "name").mkdir(parents=True)
    for text in ("outside.csv", "ns/name"):
        with pytest.raises(DataError, match="not in a folder that this page may read"):
            take_text(space, text)
    with pytest.raises(ModelError, match="not in a folder that this page may read"):
        take_model(space, str(named))
    for text in ("", "a b c"):
        with pytest.raises(DataError):
            take_text(space, text)


def test_flags_of_the_page_name_no_files():
    assert take_flags("--num_train_epochs 3 --augment=light --no-flip --label_columns a b") == [
        "--num_train_epochs", "3", "--augment", "light", "--no_flip", "--label_columns", "a", "b",
    ]  # fmt: skip
    for text in ("--output_dir /etc", "--data /etc/passwd", "--retain x", "--deepspeed x.json",
                 "--model /x", "--trust_remote_code", "--overwrite", "--report_to wandb", "--hub_token x"):  # fmt: skip
        with pytest.raises(ConfigError, match="not for this page"):
            take_flags(text)
    for text in ("word", "--nosuch 1", "--num_train_epochs many", "--seed 'x"):
        with pytest.raises(ConfigError):
            take_flags(text)


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_corrections_of_a_table_add_up_and_spare_the_original(space, tmp_path, ending):
    frame = pd.DataFrame(
        {
            "id": ["007", "008", "009", "010"],
            "text": ["one, two", "three", "four", "five"],
            "label": ["b", "a", "b", "a"],
        }
    )
    path = tmp_path / f"moods{ending}"
    {".csv": lambda: frame.to_csv(path, index=False), ".parquet": lambda: frame.to_parquet(path, index=False),
     ".jsonl": lambda: frame.to_json(path, orient="records", lines=True)}[ending]()  # fmt: skip
    before = path.read_bytes()
    first = corrected_copy(space, str(path), [Correction("train", 1, "b")])
    second = corrected_copy(space, str(path), [Correction("train", 2, "a")])
    third = corrected_copy(space, second, [Correction("train", 3, " b ")])
    assert path.read_bytes() == before
    labels = [list(read_source(data, "text").tables["train"]["label"]) for data in (first, second, third)]
    assert labels == [["b", "b", "b", "a"], ["b", "b", "a", "a"], ["b", "b", "a", "b"]]
    table = read_source(third, "text").tables["train"]
    assert list(table["id"]) == list(frame["id"])
    assert list(table["text"]) == list(frame["text"])
    assert {file.suffix for file in Path(third).iterdir()} == {ending, ".log"}
    changes = [json.loads(line) for line in (Path(second) / "changes.log").read_text().splitlines()]
    assert [(one["row"], one["check"]) for one in changes] == [(1, "corrected"), (2, "corrected")]
    with pytest.raises(DataError, match="has no row 9"):
        corrected_copy(space, str(path), [Correction("train", 9, "a")])
    with pytest.raises(DataError, match=r"no class 'c': they have 'a', 'b'"):
        corrected_copy(space, str(path), [Correction("train", 0, "c")])
    assert len([*space.data.glob("moods-corrected*")]) == 3, "what is refused leaves nothing"


def test_numbers_stay_numbers(space, tmp_path):
    path = tmp_path / "stars.jsonl"
    pd.DataFrame({"text": ["one", "two", "three"], "label": [1, 2, 1]}).to_json(path, orient="records", lines=True)
    copy = corrected_copy(space, str(path), [Correction("train", 0, "2")])
    assert list(read_source(copy, "text").tables["train"]["label"]) == [2, 2, 1]
    with pytest.raises(DataError, match="no class 'many': they have '1', '2'"):
        corrected_copy(space, str(path), [Correction("train", 0, "many")])


def test_sets_of_labels_and_numbers_are_corrected(space, tmp_path):
    texts = ["one", "two", "three", "four"]
    sets, amounts = [["a"], ["a", "b"], [], ["b"]], [0.25, 1.0, 2.5, 7.125]
    many, number = (tmp_path / f"{name}.jsonl" for name in ("many", "number"))
    pd.DataFrame({"text": texts, "label": sets}).to_json(many, orient="records", lines=True)
    pd.DataFrame({"text": texts, "label": amounts}).to_json(number, orient="records", lines=True)
    copy = corrected_copy(space, str(many), [Correction("train", 0, "b, a")])
    assert [sorted(row) for row in read_source(copy, "text").tables["train"]["label"]] == [["a", "b"], *sets[1:]]
    config = DataConfig(problem_type="regression")
    copy = corrected_copy(space, str(number), [Correction("train", 2, "3.5")], config=config)
    assert list(read_source(copy, "text").tables["train"]["label"]) == [0.25, 1.0, 3.5, 7.125]
    with pytest.raises(DataError, match="'much' is not a number"):
        corrected_copy(space, str(number), [Correction("train", 2, "much")], config=config)


def test_a_mask_is_replaced_by_another(space, tmp_path):
    shapes, right = draw(tmp_path / "shapes", 4), tmp_path / "right.tif"
    (shapes / "labels.txt").write_text("back\nround\nsquare\n")
    before = {path: path.read_bytes() for path in shapes.rglob("*.png")}

    def refused(picture, said):
        picture.save(right, format="TIFF")
        with pytest.raises(DataError, match=said):
            corrected_copy(space, str(shapes), [Correction("train", 1, str(right))])

    refused(Image.new("L", (5, 4)), r"of another size: right\.tif is 5 x 4 pixels and its image 56 x 48")
    refused(Image.new("L", (56, 48), 7), "the id 7, which no mask of the data holds")
    refused(
        Image.merge("RGB", [Image.linear_gradient("L").resize((56, 48)), *[Image.new("L", (56, 48))] * 2]), "no mask: "
    )
    Image.new("L", (56, 48), 2).save(right)
    copy = Path(corrected_copy(space, str(shapes), [Correction("train", 1, str(right))]))
    again = Path(corrected_copy(space, str(shapes), [Correction("train", 3, str(shapes / "masks" / "000.png"))]))
    assert {path: path.read_bytes() for path in before} == before
    assert (copy / "labels.txt").read_text() == (shapes / "labels.txt").read_text()
    for folder, changed in ((copy, {1}), (again, {1, 3})):
        for i in range(4):
            (written,) = (folder / "train" / "masks").glob(f"00{i}.*")
            same = written.read_bytes() == (shapes / "masks" / f"00{i}.png").read_bytes()
            assert same == (i not in changed)
        assert "changed to 'right.tif'" in (folder / "changes.log").read_text()
    assert np.unique(mask_ids({"path": str(again / "train/masks/001.tif"), "bytes": None})).tolist() == [2]


def test_an_image_is_corrected_by_its_folder(space, tmp_path):
    images = tiny_images(tmp_path / "images")
    source = read_source(str(images), "image").tables["train"]
    old, name = source["label"][0], source["file_name"][0]
    new = next(label for label in source["label"] if label != old)
    before = sorted(path.relative_to(images) for path in images.rglob("*"))
    copy = read_source(corrected_copy(space, str(images), [Correction("train", 0, new)]), "image").tables["train"]
    assert len(copy) == len(source)
    assert list(copy["label"]).count(new) == list(source["label"]).count(new) + 1
    moved = [
        n
        for n, label in zip(copy["file_name"], copy["label"], strict=True)
        if Path(n).name.endswith(Path(name).name) and label == new
    ]
    assert moved
    assert {path.stat().st_nlink for path in images.rglob("*.png")} == {2}, "a picture has a second name, not a copy"
    assert sorted(path.relative_to(images) for path in images.rglob("*")) == before


def test_names_of_new_things(space, tmp_path):
    assert space.new_run("data/tickets.csv", "ns/model", "probe").name == "tickets-model-probe"
    (space.runs / ".tickets-model-probe.process").mkdir(parents=True)
    assert space.new_run("data/tickets.csv", "ns/model", "probe").name == "tickets-model-probe-2"
    assert space.new_data("../../etc/pass wd.csv") == space.data / "pass-wd.csv"
    assert space.new_data("...") == space.data / "data"
