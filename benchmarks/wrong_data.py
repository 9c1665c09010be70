"""Kinds of damage to data: each a function `(good, folder, rng) -> path` that writes a damaged copy into `folder`.

`good` is a text CSV (TEXT, columns text and label) or a folder of images by class (IMAGE). Used by `wrong_inputs`.
"""

import json
import os
import random
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pandas as pd


Damage = Callable[[Path, Path, random.Random], str]


def _rows(good: Path) -> list[dict[str, str]]:
    return pd.read_csv(good).to_dict("records")


def _write(folder: Path, name: str, content: bytes | str) -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return str(path)


def _csv(folder: Path, frame: pd.DataFrame, name: str = "t.csv", **options: object) -> str:
    path = folder / name
    frame.to_csv(path, index=False, **options)
    return str(path)


def utf16_without_bom(good: Path, folder: Path, rng: random.Random) -> str:
    kind = rng.choice(["utf-16-le", "utf-16-be", "utf-32-le"])
    return _write(folder, "t.csv", good.read_text(encoding="utf-8").encode(kind))


def nul_bytes(good: Path, folder: Path, rng: random.Random) -> str:
    data = bytearray(good.read_bytes())
    if rng.random() < 0.5:
        return _write(folder, rng.choice(["t.csv", "t.jsonl", "t.parquet", "t.json"]), bytes(rng.randint(1, 5000)))
    for _ in range(rng.randint(1, 40)):
        data[rng.randrange(len(data))] = 0
    return _write(folder, "t.csv", bytes(data))


def deep_json(good: Path, folder: Path, rng: random.Random) -> str:
    depth = rng.choice([2_000, 20_000, 100_000])
    open_, close = rng.choice([("[", "]"), ('{"a":', "}")])
    body = open_ * depth + "1" + close * depth
    if rng.random() < 0.5:
        return _write(folder, "t.json", body)
    return _write(folder, "t.jsonl", "\n".join([json.dumps({"text": "a b", "label": "x"})] * 5 + [body]))


def broken_json(good: Path, folder: Path, rng: random.Random) -> str:
    rows = "\n".join(json.dumps(row) for row in _rows(good))
    bad = rng.choice(
        ["{", '{"text": "a", "label": }', '["text", "label"]', "5", "null", '{"text": ["a"], "label": {}}']
    )
    return _write(folder, rng.choice(["t.jsonl", "t.json"]), bad if rng.random() < 0.3 else rows + "\n" + bad)


def broken_arrow_folder(good: Path, folder: Path, rng: random.Random) -> str:
    from datasets import Dataset, DatasetDict

    target = folder / "saved"
    data = Dataset.from_list(_rows(good))
    (DatasetDict({"train": data, "test": data}) if rng.random() < 0.6 else data).save_to_disk(str(target))
    files = [p for p in target.rglob("*") if p.is_file()]
    chosen = rng.choice([p for p in files if p.suffix == ".json"] or files)
    action = rng.choice(["empty", "garbage", "list", "delete", "arrow"])
    if action == "delete":
        chosen.unlink()
    elif action == "arrow":
        next(p for p in files if p.suffix == ".arrow").write_bytes(b"not arrow" * rng.randint(0, 9))
    else:
        chosen.write_text({"empty": "{}", "garbage": "{ not json", "list": "[1, 2]"}[action])
    return str(target)


def lone_surrogate(good: Path, folder: Path, rng: random.Random) -> str:
    rows = [json.dumps(row) for row in _rows(good)]
    at = rng.randrange(len(rows))
    rows[at] = (
        '{"text": "half \\ud800 pair", "label": "x\\udc01"}'
        if rng.random() < 0.5
        else rows[at].replace('"text": "', '"text": "\\udfff')
    )
    return _write(folder, "t.jsonl", "\n".join(rows))


def huge_number(good: Path, folder: Path, rng: random.Random) -> str:
    rows = [json.dumps(row) for row in _rows(good)]
    text, label = rng.choice(
        [('"a"', "1" + "0" * 30), ("1" + "0" * 40, '"mood1"'), ('"a"', "1e400"), ('"a"', "-" + "9" * 25)]
    )
    rows[rng.randrange(len(rows))] = f'{{"text": {text}, "label": {label}}}'
    return _write(folder, "t.jsonl", "\n".join(rows))


def two_label_columns(good: Path, folder: Path, rng: random.Random) -> str:
    lines = good.read_text(encoding="utf-8").splitlines()
    name = rng.choice(["label", "text"])
    return _write(
        folder, "t.csv", "\n".join([f"{lines[0]},{name}", *(f"{line},x{i % 3}" for i, line in enumerate(lines[1:]))])
    )


def no_header(good: Path, folder: Path, rng: random.Random) -> str:
    lines = good.read_text(encoding="utf-8").splitlines()[1:]
    rng.shuffle(lines)
    return _write(folder, "t.csv", "\n".join(lines))


def long_label(good: Path, folder: Path, rng: random.Random) -> str:
    frame = pd.read_csv(good)
    frame.loc[rng.sample(range(len(frame)), rng.choice([1, 3])), "label"] = "x" * rng.choice([300, 20_000, 200_000])
    return _csv(folder, frame)


def many_columns(good: Path, folder: Path, rng: random.Random) -> str:
    frame = pd.read_csv(good)
    extra = pd.DataFrame({f"c{i}": range(len(frame)) for i in range(rng.choice([300, 3_000]))})
    return _csv(folder, pd.concat([frame, extra], axis=1))


def long_text(good: Path, folder: Path, rng: random.Random) -> str:
    frame = pd.read_csv(good)
    frame.loc[rng.randrange(len(frame)), "text"] = rng.choice(["word " * 400_000, "x" * 2_000_000, "日本" * 500_000])
    return _csv(folder, frame)


def empty_or_odd(good: Path, folder: Path, rng: random.Random) -> str:
    content = rng.choice(
        [
            "",
            "text,label\n",
            "text,label\na\n",
            'text,label\n"a,b\n',
            "text;label\na;b;c;d\n",
            "\n\n\n",
            "label\nx\ny\n",
        ]
    )
    return _write(folder, rng.choice(["t.csv", "t.tsv", "t.txt"]), content)


def missing_cells(good: Path, folder: Path, rng: random.Random) -> str:
    frame = pd.read_csv(good)
    frame.loc[rng.sample(range(len(frame)), 7), rng.choice(["text", "label"])] = rng.choice([None, "", "  "])
    return _csv(folder, frame)


def half_labels(good: Path, folder: Path, rng: random.Random) -> str:
    frame = pd.read_csv(good)
    frame["label"] = [
        rng.choice(rng.choice([[1.0, 1.5, 2.0], [-1, 1], [0.1, 0.2, 0.3], ["=A", "@b"]])) for _ in range(len(frame))
    ]
    return _csv(folder, frame)


def wrong_suffix(good: Path, folder: Path, rng: random.Random) -> str:
    return _write(
        folder, rng.choice(["t.parquet", "t.jsonl", "t.json", "t.xlsx", "t.arrow", "t.csv.gz", "t"]), good.read_bytes()
    )


def truncated_parquet(good: Path, folder: Path, rng: random.Random) -> str:
    path = folder / "t.parquet"
    pd.read_csv(good).to_parquet(path)
    data = bytearray(path.read_bytes())
    if rng.random() < 0.5:
        return _write(folder, "t.parquet", bytes(data[: rng.randrange(len(data))]))
    for _ in range(30):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return _write(folder, "t.parquet", bytes(data))


def unreadable(good: Path, folder: Path, rng: random.Random) -> str:
    path = folder / "t.csv"
    shutil.copy(good, path)
    chosen = path if rng.random() < 0.6 else folder / "inner"
    if chosen != path:
        chosen.mkdir()
        shutil.copy(good, chosen / "train.csv")
    chosen.chmod(0)
    return str(chosen)


TEXT: dict[str, Damage] = {
    f.__name__: f
    for f in (
        utf16_without_bom, nul_bytes, deep_json, broken_json, broken_arrow_folder, lone_surrogate, huge_number,
        two_label_columns, no_header, long_label, many_columns, long_text, empty_or_odd, missing_cells, half_labels,
        wrong_suffix, truncated_parquet, unreadable,
    )
}  # fmt: skip


def _copy(good: Path, folder: Path) -> Path:
    target = folder / "images"
    shutil.copytree(good, target)
    return target


def name_not_utf8(good: Path, folder: Path, rng: random.Random) -> str:
    target = _copy(good, folder)
    image = next(target.rglob("*.png"))
    os.rename(  # noqa: PTH104  of bytes
        os.fsencode(image),
        os.fsencode(image.parent) + rng.choice([b"/a\xff\xfe.png", b"/\xe9t\xe9.png", b"/\x80.png"]),
    )
    return str(target)


def class_all_broken(good: Path, folder: Path, rng: random.Random) -> str:
    target = _copy(good, folder)
    for image in sorted(target.iterdir())[rng.randrange(3)].glob("*.png"):
        image.write_bytes(rng.choice([b"", b"no image", image.read_bytes()[: rng.randint(20, 200)]]))
    return str(target)


def picture_bomb(good: Path, folder: Path, rng: random.Random) -> str:
    """A PNG of a few kilobytes with very many pixels."""
    target = _copy(good, folder)
    side = rng.choice([8_000, 13_000, 30_000, 60_000])

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compressobj(9)
    packed = b"".join(rows.compress(bytes(side // 8 + 2)) for _ in range(side)) + rows.flush()
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    (next(target.iterdir()) / "bomb.png").write_bytes(png)
    return str(target)


def odd_pictures(good: Path, folder: Path, rng: random.Random) -> str:
    from PIL import Image

    target = _copy(good, folder)
    mode = rng.choice(["1", "L", "LA", "RGBA", "P", "CMYK", "I;16", "F"])
    suffix = "tiff" if mode in ("F", "CMYK", "I;16") else "png"
    size = rng.choice([(1, 1), (1, 500), (3000, 2), (64, 64)])
    Image.new(mode, size).save(next(target.iterdir()) / f"odd.{suffix}")
    return str(target)


def empty_classes(good: Path, folder: Path, rng: random.Random) -> str:
    target = _copy(good, folder)
    chosen = sorted(target.iterdir())
    for class_folder in chosen[: rng.choice([1, 2, 3])]:
        for image in class_folder.glob("*.png"):
            image.unlink()
    return str(target)


def loose_files(good: Path, folder: Path, rng: random.Random) -> str:
    target = _copy(good, folder)
    if rng.random() < 0.5:
        (target / "notes.txt").write_text("hello")
        (target / "loose.png").write_bytes(b"no image")
        (target / "class_0" / "Thumbs.db").write_bytes(b"\0" * 40)
    else:
        (target / "class_0" / "link.png").symlink_to(rng.choice(["/nowhere.png", "link.png", ".."]))
    return str(target)


IMAGE: dict[str, Damage] = {
    f.__name__: f for f in (name_not_utf8, class_all_broken, picture_bomb, odd_pictures, empty_classes, loose_files)
}
