"""Tiny random checkpoints and tiny data with something to learn, all made in code: the tests need no Hub."""

import string
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from tokenizers import pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerBase


TEXT_FAMILIES = ("bert", "distilbert", "roberta", "deberta-v2")
IMAGE_FAMILIES = ("vit", "dinov2", "convnext", "resnet", "efficientnet")
DEFAULT_IDS = ("distilbert/distilbert-base-uncased", "google/vit-base-patch16-224-in21k", "microsoft/resnet-50")

MAX_LENGTH = 64  # model_max_length of every tiny tokenizer
IMAGE_SIZE = 32

_CLASS_WORDS = (
    "sad lonely tears gloomy grief hopeless",
    "happy joyful smile delighted cheerful sunny",
    "love tender darling caring sweetheart affection",
    "angry furious rage bitter annoyed hostile",
    "afraid scared panic nervous terrified anxious",
    "surprised amazed astonished stunned sudden unexpected",
)
_PLAIN_WORDS = (
    "i you he she we they it the a an and but or so because when while after before then feel felt am was is are "
    "were been have had do did not very quite really about with from into over under at in on of to for by as if "
    "day night morning week home house street work school friend sister brother people thing time way world life "
    "today again always never still just little long new old walk talk read write think know see hear go come"
)
_SYLLABLES = tuple(consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou")
_WORD_COUNT = 235


def _vocabulary() -> tuple[str, ...]:
    """Every word the tiny tokenizers know: those above, then made-up ones up to the count."""
    known = [word for words in _CLASS_WORDS for word in words.split()] + _PLAIN_WORDS.split()
    made_up = (first + last for last in _SYLLABLES[::7] for first in _SYLLABLES)
    known += [word for word in made_up if word not in known][: _WORD_COUNT - len(known)]
    return tuple(known)


WORDS = _vocabulary()


def _class_words(label: int) -> list[str]:
    if label < len(_CLASS_WORDS):
        return _CLASS_WORDS[label].split()
    start = len(WORDS) - 6 * (label - len(_CLASS_WORDS) + 1)
    if start < len(WORDS) // 2:
        raise ValueError(f"no words of its own are left for class {label}")
    return list(WORDS[start : start + 6])


# ---------------------------------------------------------------------------------------------- tokenizers


def _wordpiece(cls: type) -> PreTrainedTokenizerBase:
    letters = string.ascii_lowercase + string.digits + ".,!?'"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
    pieces += [f"##{letter}" for letter in string.ascii_lowercase] + [word for word in WORDS if len(word) > 1]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    return cls(vocab=vocab, do_lower_case=True, model_max_length=MAX_LENGTH)


def _byte_bpe() -> PreTrainedTokenizerBase:
    """RoBERTa's kind; each merge extends a word's known beginning by one letter, so the order of merges is plain."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {piece: index for index, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", *alphabet])}
    merges: list[Any] = []  # of pairs, whatever the annotation of the tokenizer says
    for word in WORDS:
        beginning = "Ġ"
        for letter in word:
            longer = beginning + letter
            if longer not in vocab:
                vocab[longer] = len(vocab)
                merges.append((beginning, letter))
            beginning = longer
    vocab["<mask>"] = len(vocab)
    return transformers.RobertaTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_LENGTH)


def _unigram() -> PreTrainedTokenizerBase:
    pieces = [(piece, 0.0) for piece in ("[PAD]", "[CLS]", "[SEP]", "[UNK]")]
    pieces += [(f"▁{word}", -4.0 - rank / 100) for rank, word in enumerate(WORDS)]
    pieces += [(mark, -12.0) for mark in "▁" + string.ascii_letters + string.digits + ".,!?'"]
    pieces.append(("[MASK]", 0.0))
    return transformers.DebertaV2Tokenizer(vocab=pieces, do_lower_case=False, model_max_length=MAX_LENGTH)


# ---------------------------------------------------------------------------------------------- configurations

_TEXT_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": MAX_LENGTH,
    "initializer_range": 0.15,  # at this width, the usual 0.02 leaves the layers with next to no effect
}
_VIT_SIZES: dict[str, Any] = {
    "image_size": IMAGE_SIZE,
    "patch_size": 8,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "initializer_range": 0.15,
}
_STAGE_SIZES: dict[str, Any] = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}

_CONFIGS: dict[str, dict[str, Any]] = {
    "bert": _TEXT_SIZES,
    "roberta": {**_TEXT_SIZES, "max_position_embeddings": MAX_LENGTH + 2, "type_vocab_size": 1},
    "distilbert": {
        "dim": 32,
        "n_layers": 3,
        "n_heads": 4,
        "hidden_dim": 64,
        "max_position_embeddings": MAX_LENGTH,
        "initializer_range": 0.15,
    },
    "deberta-v2": {
        **_TEXT_SIZES,
        "type_vocab_size": 0,
        "relative_attention": True,
        "position_buckets": 16,
        "max_relative_positions": -1,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "layer_norm_eps": 1e-7,
    },
    "vit": {**_VIT_SIZES, "intermediate_size": 64},
    "dinov2": {**_VIT_SIZES, "mlp_ratio": 2, "layerscale_value": 0.5},
    "convnext": {
        "image_size": IMAGE_SIZE,
        "num_stages": 4,
        **_STAGE_SIZES,
        "layer_scale_init_value": 0.5,
        "initializer_range": 0.15,
    },
    "resnet": {"embedding_size": 8, "layer_type": "basic", **_STAGE_SIZES},
    "efficientnet": {
        "image_size": IMAGE_SIZE,
        "width_coefficient": 0.1,
        "depth_coefficient": 1.0,
        "kernel_sizes": [3, 5, 3],
        "in_channels": [80, 80, 160],
        "out_channels": [80, 160, 240],
        "strides": [1, 2, 2],
        "num_block_repeats": [1, 2, 1],
        "expand_ratios": [1, 4, 4],
        "hidden_dim": 128,  # what 1280 channels come to at this width
        "dropout_rate": 0.2,
        "initializer_range": 0.3,
    },
}

_TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "bert": lambda: _wordpiece(transformers.BertTokenizer),
    "distilbert": lambda: _wordpiece(transformers.DistilBertTokenizer),
    "roberta": _byte_bpe,
    "deberta-v2": _unigram,
}
_PREFIXES = {  # of the class names in transformers
    "bert": "Bert",
    "distilbert": "DistilBert",
    "roberta": "Roberta",
    "deberta-v2": "DebertaV2",
    "vit": "ViT",
    "dinov2": "Dinov2",
    "convnext": "ConvNext",
    "resnet": "ResNet",
    "efficientnet": "EfficientNet",
}


def _image_processor(family: str) -> Any:
    """The processor class that the family's checkpoints on the Hub name, set to the tiny size (PIL only)."""
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    side = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    if family == "vit":
        return transformers.ViTImageProcessorPil(size=side, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    if family == "dinov2":
        return transformers.BitImageProcessorPil(
            size={"shortest_edge": 36}, crop_size=side, image_mean=mean, image_std=std
        )
    if family == "efficientnet":
        return transformers.EfficientNetImageProcessorPil(
            size=side, do_center_crop=False, image_mean=mean, image_std=std
        )
    return transformers.ConvNextImageProcessorPil(
        size={"shortest_edge": IMAGE_SIZE}, crop_pct=0.875, image_mean=mean, image_std=std
    )


# ---------------------------------------------------------------------------------------------- checkpoints


def _settle_batch_norms(model: PreTrainedModel) -> None:
    """Give every batch norm running statistics near its real activations, but not equal to them.

    Statistics drawn at random alone would let the signal die out on its way through an untrained network.
    """
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    model.eval()
    for norm in norms:
        torch.nn.init.uniform_(norm.weight, 0.8, 1.2)
        torch.nn.init.normal_(norm.bias, std=0.1)
        norm.train()
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0  # take the statistics of the one batch whole
    colours, noise = torch.randn(64, 3, 1, 1), torch.randn(64, 3, IMAGE_SIZE, IMAGE_SIZE)
    with torch.no_grad():
        model(pixel_values=colours + 0.5 * noise)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
        mean, var, seen = norm.running_mean, norm.running_var, norm.num_batches_tracked
        assert mean is not None
        assert var is not None
        assert seen is not None
        mean += 0.2 * var.sqrt() * torch.randn_like(mean)
        var *= torch.empty_like(var).uniform_(0.7, 1.4)
        seen.fill_(100)


def _seeded(make: Callable[[], PreTrainedModel], seed: int) -> PreTrainedModel:
    """Make the model from this seed, and leave the caller's random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make()
        if any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules()):
            _settle_batch_norms(model)
    return model.eval()


def _save(model: PreTrainedModel, companion: Any, folder: Path) -> Path:
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    companion.save_pretrained(folder)
    return folder


def _text_checkpoint(family: str, options: dict[str, Any], seed: int) -> tuple[PreTrainedModel, Any]:
    tokenizer = _TOKENIZERS[family]()
    prefix = _PREFIXES[family]
    ids = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    if family == "roberta":
        ids |= {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = getattr(transformers, f"{prefix}Config")(**{**_CONFIGS[family], **ids, **options})
    head = "ForSequenceClassification" if "num_labels" in options else "ForMaskedLM"
    return _seeded(lambda: getattr(transformers, prefix + head)(config), seed), tokenizer


def _image_checkpoint(family: str, options: dict[str, Any], seed: int) -> tuple[PreTrainedModel, Any]:
    prefix = _PREFIXES[family]
    config = getattr(transformers, f"{prefix}Config")(**{**_CONFIGS[family], **options})
    if "num_labels" in options:
        model = _seeded(lambda: getattr(transformers, f"{prefix}ForImageClassification")(config), seed)
    else:
        extra = {"add_pooling_layer": False} if family == "vit" else {}
        model = _seeded(lambda: getattr(transformers, f"{prefix}Model")(config, **extra), seed)
    return model, _image_processor(family)


def build(family: str, folder: Path, *, seed: int = 0, **overrides: Any) -> Path:
    """Write a tiny checkpoint of the family, with its tokenizer or image processor, and return its folder.

    Text checkpoints come from the masked-language-model class and vision ones from the bare encoder, as base
    checkpoints do on the Hub. With `num_labels`, the checkpoint has a classification head instead. Every other
    override goes to the configuration.
    """
    if family in TEXT_FAMILIES:
        model, companion = _text_checkpoint(family, overrides, seed)
    elif family in IMAGE_FAMILIES:
        model, companion = _image_checkpoint(family, overrides, seed)
    else:
        raise ValueError(f"unknown family {family!r}; known: {', '.join(TEXT_FAMILIES + IMAGE_FAMILIES)}")
    return _save(model, companion, folder)


def build_default(hub_id: str, folder: Path, *, seed: int = 0) -> Path:
    """Write a tiny stand-in with the architecture, head and processor class of one of the default checkpoints."""
    if hub_id == "distilbert/distilbert-base-uncased":
        return build("distilbert", folder, seed=seed)
    if hub_id == "google/vit-base-patch16-224-in21k":  # unlike the plain tiny ViT, it holds a pooler
        config = transformers.ViTConfig(**_CONFIGS["vit"])
        return _save(_seeded(lambda: transformers.ViTModel(config), seed), _image_processor("vit"), folder)
    if hub_id == "microsoft/resnet-50":
        names = {index: f"thing {index}" for index in range(1000)}
        return build("resnet", folder, seed=seed, layer_type="bottleneck", num_labels=1000, id2label=names)
    raise ValueError(f"no tiny stand-in for {hub_id!r}; known: {', '.join(DEFAULT_IDS)}")


# ---------------------------------------------------------------------------------------------- data


def tiny_text_rows(n: int, classes: int, seed: int = 0) -> list[tuple[str, int]]:
    """Rows of (text, label), balanced and all different; two of each text's words belong to its class alone."""
    rng = np.random.default_rng(seed)
    plain = _PLAIN_WORDS.split()
    own = [_class_words(label) for label in range(classes)]
    labels = rng.permutation(np.arange(n) % classes)
    rows: list[tuple[str, int]] = []
    seen: set[str] = set()
    for label in labels.tolist():
        while True:
            words = [*rng.choice(plain, size=int(rng.integers(4, 10))), *rng.choice(own[label], size=2)]
            text = " ".join(words[index] for index in rng.permutation(len(words)))
            if text not in seen:
                break
        seen.add(text)
        rows.append((text, label))
    return rows


def tiny_image(label: int, classes: int, size: int, rng: np.random.Generator) -> Image.Image:
    """One noisy picture: its class sets the hue and the direction of the stripes."""
    turn = label / classes
    hue = np.array([np.cos(2 * np.pi * (turn - shift)) for shift in (0, 1 / 3, 2 / 3)])
    rows, columns = np.mgrid[:size, :size] / size
    along = columns * np.cos(np.pi * turn) + rows * np.sin(np.pi * turn)
    stripes = np.sin(2 * np.pi * (4 * along + rng.random()))
    pixels = 0.5 + 0.25 * hue + 0.15 * stripes[..., None] + rng.normal(0, 0.08, (size, size, 3))
    return Image.fromarray((pixels.clip(0, 1) * 255).astype(np.uint8))


def tiny_image_rows(n: int, classes: int, size: int = 48, seed: int = 0) -> list[tuple[bytes, int]]:
    """Rows of (PNG bytes, label), balanced."""
    rng = np.random.default_rng(seed)
    rows = []
    for label in rng.permutation(np.arange(n) % classes).tolist():
        buffer = BytesIO()
        tiny_image(label, classes, size, rng).save(buffer, format="PNG")
        rows.append((buffer.getvalue(), label))
    return rows


def tiny_images(
    folder: Path, per_class: int = 8, classes: int | Sequence[str] = 3, size: int = 48, seed: int = 0
) -> Path:
    """Write `folder/<class>/<number>.png` for every class (a count, or the names) and return the folder."""
    names = [f"class_{index}" for index in range(classes)] if isinstance(classes, int) else list(classes)
    rng = np.random.default_rng(seed)
    for label, name in enumerate(names):
        target = Path(folder) / name
        target.mkdir(parents=True, exist_ok=True)
        for index in range(per_class):
            tiny_image(label, len(names), size, rng).save(target / f"{index:03d}.png")
    return Path(folder)
