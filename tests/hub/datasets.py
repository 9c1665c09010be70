"""Writes datasets laid out as those of the Hub, for `HubServer` to serve; needs pyarrow."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


EMOTION_NAMES = ("sadness", "joy", "love", "anger", "fear", "surprise")
BEANS_NAMES = ("angular_leaf_spot", "bean_rust", "healthy")

_Splits = Mapping[str, Sequence[tuple[Any, int]]]


def _as_splits(rows: Sequence[tuple[Any, int]] | _Splits) -> _Splits:
    """Rows that are not split yet become train, validation and test: 80, 10 and 10 percent, in order."""
    if isinstance(rows, Mapping):
        return rows
    first, second = len(rows) * 8 // 10, len(rows) * 9 // 10
    return {"train": rows[:first], "validation": rows[first:second], "test": rows[second:]}


def _write_parquet(path: Path, columns: Mapping[str, Any], features: Mapping[str, Any]) -> int:
    """Write the table with the features in its metadata, as `push_to_hub` does; return its size in memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    note = json.dumps({"info": {"features": features}})
    table = pa.table(dict(columns)).replace_schema_metadata({"huggingface": note})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return int(table.nbytes)


def _class_label_yaml(name: str, names: Sequence[str]) -> str:
    listed = "".join(f"          '{index}': {label}\n" for index, label in enumerate(names))
    return f"  - name: {name}\n    dtype:\n      class_label:\n        names:\n{listed}"


def _info_yaml(config: str, features: str, splits: Mapping[str, tuple[int, int]]) -> str:
    """One entry of the card's `dataset_info`; each split comes with its bytes and its rows."""
    lines = "".join(
        f"  - name: {split}\n    num_bytes: {size}\n    num_examples: {count}\n"
        for split, (size, count) in splits.items()
    )
    total = sum(size for size, _ in splits.values())
    return f"- config_name: {config}\n  features:\n{features}  splits:\n{lines}  dataset_size: {total}\n"


def _config_yaml(config: str, prefix: str, splits: Sequence[str], default: bool) -> str:
    files = "".join(f"  - split: {split}\n    path: {prefix}/{split}-*\n" for split in splits)
    return f"- config_name: {config}\n  data_files:\n{files}" + ("  default: true\n" if default else "")


def _write_card(folder: Path, title: str, infos: str, configs: str) -> None:
    text = f"---\ndataset_info:\n{infos}configs:\n{configs}---\n\n# {title}\n\nMade up for a test.\n"
    (folder / "README.md").write_text(text, encoding="utf-8")


def serve_text_dataset(
    root: Path,
    hub_id: str,
    rows: Sequence[tuple[str, int]] | _Splits,
    names: Sequence[str] = EMOTION_NAMES,
) -> Path:
    """Write a dataset laid out as dair-ai/emotion is: configurations `split` (the default) and `unsplit`.

    `rows` are (text, label), cut into 80/10/10, or {split: rows}. Returns the dataset's folder below `root`.
    """
    folder = Path(root) / "datasets" / hub_id
    splits = _as_splits(rows)
    label = {"names": list(names), "_type": "ClassLabel"}
    features = {"text": {"dtype": "string", "_type": "Value"}, "label": label}
    features_yaml = "  - name: text\n    dtype: string\n" + _class_label_yaml("label", names)
    tables: dict[str, _Splits] = {
        "split": splits,
        "unsplit": {"train": [row for part in splits.values() for row in part]},
    }
    infos = configs = ""
    for config, parts in tables.items():
        sizes = {}
        for split, part in parts.items():
            columns = {"text": [text for text, _ in part], "label": [index for _, index in part]}
            size = _write_parquet(folder / config / f"{split}-00000-of-00001.parquet", columns, features)
            sizes[split] = (size, len(part))
        infos += _info_yaml(config, features_yaml, sizes)
        configs += _config_yaml(config, config, list(parts), default=config == "split")
    _write_card(folder, hub_id.split("/")[-1], infos, configs)
    return folder


def serve_image_dataset(
    root: Path,
    hub_id: str,
    rows: Sequence[tuple[bytes, int]] | _Splits,
    names: Sequence[str] = BEANS_NAMES,
) -> Path:
    """Write a dataset laid out as AI-Lab-Makerere/beans is: columns `image_file_path`, `image` and `labels`.

    `rows` are (PNG bytes, label), cut into 80/10/10, or {split: rows}. Returns the dataset's folder below `root`.
    """
    folder = Path(root) / "datasets" / hub_id
    splits = _as_splits(rows)
    features = {
        "image_file_path": {"dtype": "string", "_type": "Value"},
        "image": {"_type": "Image"},
        "labels": {"names": list(names), "_type": "ClassLabel"},
    }
    sizes = {}
    for split, part in splits.items():
        paths = [f"{split}/{names[label]}/{names[label]}_{split}.{index}.png" for index, (_, label) in enumerate(part)]
        images = [{"bytes": content, "path": Path(path).name} for (content, _), path in zip(part, paths, strict=True)]
        columns = {"image_file_path": paths, "image": images, "labels": [label for _, label in part]}
        size = _write_parquet(folder / "data" / f"{split}-00000-of-00001.parquet", columns, features)
        sizes[split] = (size, len(part))
    features_yaml = "  - name: image_file_path\n    dtype: string\n  - name: image\n    dtype: image\n"
    infos = _info_yaml("default", features_yaml + _class_label_yaml("labels", names), sizes)
    _write_card(folder, hub_id.split("/")[-1], infos, _config_yaml("default", "data", list(splits), default=False))
    return folder
