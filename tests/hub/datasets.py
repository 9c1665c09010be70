"""Writes datasets laid out as those of the Hub, for `HubServer` to serve."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, Features, Image, Value


EMOTION_NAMES = ("sadness", "joy", "love", "anger", "fear", "surprise")
BEANS_NAMES = ("angular_leaf_spot", "bean_rust", "healthy")


def _splits(rows: Sequence[Any]) -> dict[str, Sequence[Any]]:
    """Train, validation and test: 80, 10 and 10 percent, in order."""
    first, second = len(rows) * 8 // 10, len(rows) * 9 // 10
    return {"train": rows[:first], "validation": rows[first:second], "test": rows[second:]}


def _write(
    folder: Path, configs: dict[str, dict[str, list[dict[str, Any]]]], features: Features, default: str
) -> None:
    """Write parquet files, one for each split of each configuration, and the card that lists them."""
    card = "---\nconfigs:\n"
    for config, splits in configs.items():
        card += f"- config_name: {config}\n" + ("  default: true\n" if config == default else "") + "  data_files:\n"
        (folder / config).mkdir(parents=True)
        for split, rows in splits.items():
            card += f"  - split: {split}\n    path: {config}/{split}-*\n"
            Dataset.from_list(rows, features).to_parquet(folder / config / f"{split}-00000-of-00001.parquet")
    (folder / "README.md").write_text(f"{card}---\n\n# {folder.name}\n\nMade up for a test.\n", encoding="utf-8")


def serve_text_dataset(root: Path, hub_id: str, rows: Sequence[tuple[str, int]]) -> None:
    """Write a dataset laid out as dair-ai/emotion is: configurations `split` (the default) and `unsplit`."""
    listed = [{"text": text, "label": label} for text, label in rows]
    configs = {"split": _splits(listed), "unsplit": {"train": listed}}
    features = Features({"text": Value("string"), "label": ClassLabel(names=list(EMOTION_NAMES))})
    _write(root / "datasets" / hub_id, configs, features, "split")


def serve_image_dataset(root: Path, hub_id: str, rows: Sequence[tuple[bytes, int]]) -> None:
    """Write a dataset of PNG files laid out as AI-Lab-Makerere/beans is: `image_file_path`, `image` and `labels`."""
    listed = [
        {"image_file_path": f"{i}.png", "image": {"bytes": content, "path": f"{i}.png"}, "labels": label}
        for i, (content, label) in enumerate(rows)
    ]
    names = ClassLabel(names=list(BEANS_NAMES))
    features = Features({"image_file_path": Value("string"), "image": Image(), "labels": names})
    _write(root / "datasets" / hub_id, {"default": _splits(listed)}, features, "default")
