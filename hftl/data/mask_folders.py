"""Folders of images and masks as people and data sets lay them out: which mask is of which image.

Only the standard library is imported, so that what is wrong with names alone is said at once.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hftl.data.files import (
    METADATA_NAMES,
    SPLIT_NAMES,
    exact_split,
    has_images,
    images_in,
    split_of,
    text_errors,
)
from hftl.errors import DataError


IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "leftimg8bit")  # the last two of VOC and Cityscapes
MASK_FOLDERS = (
    *("masks", "mask", "annotations", "annotation", "annot", "labels", "label", "segmentationclass", "gtfine"),
    *("segmentations", "segmentation", "groundtruth", "ground_truth", "gt"),
)
# Words in other names of such folders, as in ann_dir, masks_machine or ISIC2018_Training_GroundTruth; of masks first.
_IMAGE_WORDS = {*IMAGE_FOLDERS, "input", "inputs", "photo", "photos", "rgb"}
_MASK_WORDS = {*MASK_FOLDERS, "ann", "anns", "target", "targets", "seg", "truth"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_LISTS = Path("ImageSets") / "Segmentation"  # of VOC: a file with the names of images for each split
# What names of files say beside the name that an image and its mask share, and what Cityscapes calls the same image.
_MARKS = "masks?|seg|segmentation|labels?|annot|annotation|gt|groundtruth|img|image|sat|l"
_BEFORE = re.compile(rf"^({_MARKS})([_\- .]|(?=\d))", re.IGNORECASE)
_BEHIND = re.compile(rf"[_\- .]({_MARKS}|jpe?g|png|tiff?|bmp|leftImg8bit|gtFine_label(Train)?Ids)$", re.IGNORECASE)
_MASK_WORD = re.compile(r"mask|seg|label|annot|gt|groundtruth", re.IGNORECASE)
_KINDS = ("_labelTrainIds", "_labelIds")  # of masks that Cityscapes has of one image, the better one first
Home = tuple[list[Path], list[Path], Path, Path]  # images and masks, and the folders that their names start from


@dataclass(frozen=True)
class MaskPairs:
    """The images of one split with the files of their masks: one, none where it has none, or one of each object."""

    images: list[Path]
    masks: list[list[Path]]
    top: Path  # the folder that the names of images start from
    below: Path  # that of the masks


def mask_pairs(folder: Path) -> tuple[Path, dict[str, MaskPairs]] | None:
    """Find images and masks, side by side in folders or by names (`a.jpg`, `a_mask.png`), splits around them or in them,
    or a folder for each image.

    Returns the folder in which they lie and its splits; None for any other folder. Raises `DataError` for masks without
    images, and for images beside an empty folder of masks.
    """
    children = _folders(folder)
    homes = _listed(folder) or _homes(folder, children)
    called = {child.name.lower() for child in children}
    if not homes and called & {*MASK_FOLDERS[:2]} and called <= {*IMAGE_FOLDERS, *MASK_FOLDERS}:
        lacking = (
            "the masks hold no picture" if called & {*IMAGE_FOLDERS} else "there are masks, and no folder of images"
        )
        raise DataError(f"{folder.resolve().name}: {lacking}: put them side by side, as images/a.jpg and masks/a.png")
    if not homes:
        apart = _apart(folder, children)
        if apart:
            return folder, apart
        # an archive often holds one folder with everything
        return mask_pairs(children[0]) if len(children) == 1 and not images_in(folder, "*") else None
    kind, found = _kind(homes), {}
    for split, (images, masks, top, below) in homes.items():
        pairs = _pairs(images, [mask for mask in masks if mask.stem.endswith(kind)], top, below, split)
        found[split] = MaskPairs(images, [[] if mask is None else [mask] for _, mask in pairs], top, below)
    return folder, found


def _folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted, without a look at each of its files."""
    with os.scandir(folder) as entries:
        names = [one.name for one in entries if one.is_dir() and not one.name.startswith((".", "__"))]
    return [folder / name for name in sorted(names)]


def _apart(folder: Path, children: Sequence[Path]) -> dict[str, MaskPairs]:
    """Return the splits of a folder that holds a folder for each image, in it `images` and `masks`, often one of each object."""
    found = {}
    for place in [child for child in children if exact_split(child.name)] or [folder]:
        homes = [tuple(map(images_in, pair)) for pair in map(_side_by_side, _folders(place)) if pair is not None]
        if homes and all(len(images) == 1 for images, _ in homes):
            images, masks = [images[0] for images, _ in homes], [masks for _, masks in homes]
            found["train" if place == folder else place.name] = MaskPairs(images, masks, place, place)
    return found


def _homes(folder: Path, children: Sequence[Path]) -> dict[str, Home]:
    """Return where the images and masks of each split lie."""
    around = _side_by_side(folder)
    if around is not None:
        images, masks = around
        within = {home: _within(home) for home in around}
        alone = next((place for split, place in within[masks].items() if split not in within[images]), None)
        if within[images] and alone is not None:
            raise DataError(f"{masks.name}/{alone.name} holds masks, and {images.name} has no such folder")
        pairs = [(place, within[masks].get(split, masks / place.name)) for split, place in within[images].items()]
        return {place.name: _home(place, below) for place, below in pairs} or {"train": _home(*around)}
    homes: dict[str, Home] = {}
    for child in children:
        pair = _side_by_side(child) if exact_split(child.name) else _twin(child, children)
        if pair is not None:
            homes[child.name if exact_split(child.name) else str(_role(child)[0])] = _home(*pair)
    if homes:
        return homes
    if not any(_MASK_WORD.search(name) for _, _, names in os.walk(folder) for name in names):
        return {}  # of a million images of classes none becomes a path here
    places = [child for child in children if exact_split(child.name)]
    mixed = {place.name: _mixed(place) for place in places} if places else {"train": _mixed(folder)}
    return {split: home for split, home in mixed.items() if home[0]} if any(h[1] for h in mixed.values()) else {}


def _kind(homes: dict[str, Home]) -> str:
    """Return how the names of the masks end that Cityscapes has in all splits; "" elsewhere. Raises `DataError`."""
    masks = [home[1] for home in homes.values() if home[1]]
    kinds = [{kind for kind in _KINDS if any(mask.stem.endswith(kind) for mask in one)} for one in masks]
    common = [kind for kind in _KINDS if all(kind in one for one in kinds)]
    if any(kinds) and not common:
        raise DataError(
            f"the splits have masks of different kinds ({', '.join(_KINDS)}): keep one of them in all splits"
        )
    return common[0] if any(kinds) else ""


def _within(folder: Path) -> dict[str, Path]:
    """Return the folders of splits in a folder by their split, "train" of `Training`."""
    return {split: child for child in _folders(folder) if (split := exact_split(child.name))}


def _home(images: Path, masks: Path) -> Home:
    return images_in(images), images_in(masks), images, masks


def _side_by_side(folder: Path) -> tuple[Path, Path] | None:
    """Return the folders of images and of masks in a folder; None unless it has both."""
    by_name = {child.name.lower(): child for child in reversed(_folders(folder))}
    images = next((by_name[name] for name in IMAGE_FOLDERS if name in by_name), None)
    homes = (by_name[name] for name in MASK_FOLDERS if name in by_name)
    masks = next((home for home in homes if has_images(home)), None)  # `annotations` may hold a COCO file
    return _by_words([*by_name.values()]) if images is None or masks is None else (images, masks)


def _by_words(folders: Sequence[Path]) -> tuple[Path, Path] | None:
    """Return the folders of images and of masks whose names say so in other words, and whose files go together."""
    roles = {home: _role(home) for home in folders}
    homes = {home: {_bare(file.stem) for file in images_in(home)} for home in folders if roles[home][1]}
    images, masks = ([home for home in homes if roles[home] == (None, kind)] for kind in ("image", "mask"))
    pairs = [(a, b) for a in images for b in masks if 2 * len(homes[a] & homes[b]) > len(homes[b])]
    return max(pairs, key=lambda pair: len(homes[pair[0]] & homes[pair[1]]), default=None)


def _role(folder: Path) -> tuple[str | None, str]:
    """Return the split in the name of a folder, and whether it holds "image" or "mask"; None and "" where the name does not tell.

    It is ("train", "mask") for "trainannot", "masks_train" and "ISIC_Training_GroundTruth", ("train", "") for "train".
    """
    words = {word.lower() for word in _WORD.findall(folder.name)} | {folder.name.lower()}
    for begun in (name for names in SPLIT_NAMES.values() for name in names):
        rest = folder.name.lower().removeprefix(begun)
        words |= {begun, rest} if {rest} & {*IMAGE_FOLDERS, *MASK_FOLDERS} and rest != folder.name.lower() else set()
    split = next(filter(None, map(split_of, sorted(words))), None)
    return split, "mask" if words & _MASK_WORDS else "image" if words & _IMAGE_WORDS else ""


def _twin(folder: Path, others: Sequence[Path]) -> tuple[Path, Path] | None:
    """Return a folder of masks such as `trainannot` or `masks_train`, after that of its images: `train`, `images_train`."""
    split, kind = _role(folder)
    if split is None or kind != "mask":
        return None
    named = {_role(other): other for other in others if _role(other)[1] or exact_split(other.name)}
    images = named.get((split, "image"), named.get((split, "")))
    if images is None and any(home and kind == "image" for home, kind in named):
        raise DataError(f"{folder.name} holds masks, and there is no folder of their images beside it")
    return None if images is None else (images, folder)


def _mixed(folder: Path) -> Home:
    """Return the images of a folder and the masks among them, such as `a.jpg` and `a_mask.png` in the same inner folder."""
    files = images_in(folder)
    marked = {path for path in files if _MASK_WORD.search(path.stem.replace(_bare(path.stem), "", 1))}
    bare = {path.with_name(_bare(path.stem)) for path in files if path not in marked}
    masks = {path for path in marked if path.with_name(_bare(path.stem)) in bare}
    if 2 * len(masks) < len(files) - len(masks) or any((folder / name).is_file() for name in METADATA_NAMES):
        masks = set()  # photos that happen to be called so
    return [path for path in files if path not in masks], sorted(masks), folder, folder


def _listed(folder: Path) -> dict[str, Home]:
    """Return the splits of a folder laid out as VOC's, whose lists name the images of each; {} without lists."""
    pair, lists = _side_by_side(folder), sorted((folder / _LISTS).glob("*.txt"))
    if pair is None or not lists:
        return {}
    images, masks, top, below = _home(*pair)
    known, homes = {image.stem: image for image in images}, dict[str, Home]()
    for path in (path for path in lists if exact_split(path.stem)):
        with text_errors(path.name):
            lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        names = [line if line in known else line.split()[0] for line in lines]
        lacking = [name for name in names if name not in known]
        if lacking:
            raise DataError(f"{path.name} lists {len(names)} images, and {lacking[0]} is not in {pair[0].name}")
        chosen = {*names}
        homes[path.stem] = ([known[name] for name in names], [one for one in masks if one.stem in chosen], top, below)
    return homes


def _bare(stem: str) -> str:
    return _BEHIND.sub("", _BEFORE.sub("", stem))


def _pairs(
    images: Sequence[Path], masks: Sequence[Path], top: Path, below: Path, where: str
) -> list[tuple[Path, Path | None]]:
    """Return each image with its mask, None where it has none: the one of the same path, else of the same name.

    Of names, one that says "mask" or the like counts as the same without it. Raises `DataError` for masks without images,
    and for several of one image.
    """

    def paths(name: Callable[[str], str], whole: bool) -> tuple[list[str], list[str]]:
        both = [(path, home) for home, files in ((top, images), (below, masks)) for path in files]
        named = [(path.relative_to(home) if whole else Path(path.name), path) for path, home in both]
        keys = [relative.with_name(name(path.stem) or path.stem).as_posix() for relative, path in named]
        return keys[: len(images)], keys[len(images) :]

    ways = [paths(name, whole) for name in (str, _bare) for whole in (True, False)]
    of_images, of_masks = min(ways, key=lambda way: len(masks) - len({*way[0]} & {*way[1]}))
    by_name = dict(zip(of_masks, masks, strict=True))
    for kind, files, keys in (("masks of one image", masks, of_masks), ("images of one mask", images, of_images)):
        double = next((key for key, count in Counter(keys).items() if count > 1 and key in by_name), None)
        if double is not None:
            first, second, *_ = (path.name for path, key in zip(files, keys, strict=True) if key == double)
            raise DataError(f"{where}: {first} and {second} are {kind}: keep one")
    alone = sorted(by_name.keys() - {*of_images})
    if alone:
        count = f"{len(alone)} mask{'s have' if len(alone) > 1 else ' has'} no image"
        raise DataError(
            f"{where}: {count}, such as {by_name[alone[0]].name}: an image and its mask have the same name"
        )
    return [(image, by_name.get(key)) for image, key in zip(images, of_images, strict=True)]
