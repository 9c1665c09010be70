"""Kinds of damage to a checkpoint folder: each a function `(folder, rng) -> None` that spoils it in place.

Used by `wrong_inputs`.
"""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file


Damage = Callable[[Path, random.Random], None]


def _edit(file: Path, **fields: Any) -> None:
    values = json.loads(file.read_text())
    file.write_text(json.dumps({**values, **fields}))


def _config(folder: Path, **fields: Any) -> None:
    _edit(folder / "config.json", **fields)


def _weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def config_is_no_mapping(folder: Path, rng: random.Random) -> None:
    body = rng.choice(["null", "5", "[]", '"text"', "{", "", "[" * 5000, '{"model_type": 7}', '{"model_type": null}'])
    (folder / "config.json").write_text(body)


def layers_is_a_word(folder: Path, rng: random.Random) -> None:
    _config(
        folder,
        **{
            rng.choice(["num_hidden_layers", "hidden_size", "num_attention_heads"]): rng.choice(
                ["three", [], None, -1, 0, 1.5]
            )
        },
    )


def id2label_is_a_list(folder: Path, rng: random.Random) -> None:
    _config(folder, id2label=rng.choice([["a", "b"], "a", 5, {"x": "y"}, {"0": None, "7": "b"}]))


def dtype_unknown(folder: Path, rng: random.Random) -> None:
    _config(folder, dtype=rng.choice(["nosuch", 7, "int8", "float", []]), torch_dtype=rng.choice(["nosuch", None]))


def pad_token_out_of_range(folder: Path, rng: random.Random) -> None:
    _config(folder, pad_token_id=rng.choice([10**6, -5, "zero", 1.5, [0]]))


def quantised(folder: Path, rng: random.Random) -> None:
    kind = rng.choice(["bitsandbytes", "gptq", "awq", "nosuch", None])
    _config(folder, quantization_config={"quant_method": kind, "load_in_4bit": True, "bits": 4})


def positions_enormous(folder: Path, rng: random.Random) -> None:
    _config(folder, max_position_embeddings=rng.choice([10**9, 10**12, 3, 0, -1, "many"]))


def vocabulary_too_small(folder: Path, rng: random.Random) -> None:
    size = rng.randint(5, 60)

    def cut(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        rows = json.loads((folder / "config.json").read_text())["vocab_size"]
        return {k: v[:size].clone() if v.shape[:1] == (rows,) else v for k, v in state.items()}

    _weights(folder, cut)
    _config(folder, vocab_size=size)


def tokens_added(folder: Path, rng: random.Random) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([*rng.choice([["day"], ["new1", "new2"], ["friend", "sister", "home"]]), "the"])
    tokenizer.save_pretrained(folder)


def tokenizer_config_odd(folder: Path, rng: random.Random) -> None:
    body = rng.choice(["[]", "null", "5", "{", '{"tokenizer_class": "NoSuch"}', '{"tokenizer_class": 5}', ""])
    (folder / "tokenizer_config.json").write_text(body)


def tokenizer_broken(folder: Path, rng: random.Random) -> None:
    file = folder / "tokenizer.json"
    body = file.read_text()
    file.write_text(rng.choice(["{}", "[]", body[: rng.randrange(len(body))], "", '{"model": {"type": "NoSuch"}}']))


def max_length_odd(folder: Path, rng: random.Random) -> None:
    _edit(
        folder / "tokenizer_config.json", model_max_length=rng.choice(["many", -1, 0, 1, 2, None, 10**40, 1e30, [5]])
    )


def no_special_tokens(folder: Path, rng: random.Random) -> None:
    file = folder / "tokenizer_config.json"
    values = {k: v for k, v in json.loads(file.read_text()).items() if not k.endswith("_token")}
    file.write_text(
        json.dumps(
            {
                **values,
                "pad_token": None,
                "eos_token": None,
                "sep_token": None,
                "tokenizer_class": "PreTrainedTokenizerFast",
            }
        )
    )
    (folder / "special_tokens_map.json").write_text("{}")


def weight_map_odd(folder: Path, rng: random.Random) -> None:
    names = list(load_file(folder / "model.safetensors"))
    target = rng.choice(
        ["../../etc/passwd", "/etc/passwd", "absent-00001-of-00002.safetensors", "", 5, "model.safetensors"]
    )
    body = rng.choice([{"weight_map": dict.fromkeys(names, target), "metadata": {}}, {"weight_map": target}, {}, []])
    (folder / "model.safetensors").rename(folder / "shard.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(body))


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("ran", "w"))


def evil_pickle(folder: Path, rng: random.Random) -> None:
    import pickle

    (folder / "model.safetensors").unlink()
    body = pickle.dumps({"a": Evil()}) if rng.random() < 0.5 else b"\x80\x02}q\x00."
    (folder / "pytorch_model.bin").write_bytes(body)
    if rng.random() < 0.5:
        torch.save({"a": Evil()}, folder / "pytorch_model.bin")


def foreign_prefix(folder: Path, rng: random.Random) -> None:
    prefix = rng.choice(["module.", "model.", "_orig_mod.", "encoder.net."])
    _weights(folder, lambda state: {prefix + k: v for k, v in state.items()})


def sizes_that_do_not_fit(folder: Path, rng: random.Random) -> None:
    key = rng.choice(["hidden_size", "intermediate_size", "hidden_sizes"])
    values = json.loads((folder / "config.json").read_text())
    if key not in values:
        key = next(k for k in ("hidden_size", "hidden_sizes") if k in values)
    old = values[key]
    _config(folder, **{key: [2 * n for n in old] if isinstance(old, list) else 2 * old})


def layer_missing(folder: Path, rng: random.Random) -> None:
    layer = rng.choice(["layer.0.", "layer.1.", "layers.0.", "embeddings", "stages.0.", "embedder"])
    _weights(folder, lambda state: {k: v for k, v in state.items() if layer not in k} or {"none": torch.zeros(1)})


def layers_added(folder: Path, rng: random.Random) -> None:
    values = json.loads((folder / "config.json").read_text())
    if "num_hidden_layers" in values:
        _config(folder, num_hidden_layers=values["num_hidden_layers"] + rng.randint(1, 4))
    else:
        _config(folder, depths=[d + 1 for d in values["depths"]])


def weights_truncated(folder: Path, rng: random.Random) -> None:
    file = folder / "model.safetensors"
    body = file.read_bytes()
    file.write_bytes(rng.choice([body[: rng.randrange(len(body))], b"", b"\xff" * 64, body + b"more", body[8:]]))


def weights_not_finite(folder: Path, rng: random.Random) -> None:
    value = rng.choice([float("nan"), float("inf")])
    _weights(
        folder, lambda state: {k: torch.full_like(v, value) if v.is_floating_point() else v for k, v in state.items()}
    )


def files_missing(folder: Path, rng: random.Random) -> None:
    names = sorted(p.name for p in folder.iterdir() if p.is_file() and p.suffix in (".json", ".safetensors"))
    (folder / rng.choice(names)).unlink()


def unreadable(folder: Path, rng: random.Random) -> None:
    names = sorted(p.name for p in folder.iterdir() if p.suffix in (".json", ".safetensors"))
    (folder / rng.choice([*names, "model.safetensors", "model.safetensors"])).chmod(0)


ANY: dict[str, Damage] = {
    f.__name__: f
    for f in (
        config_is_no_mapping, layers_is_a_word, id2label_is_a_list, dtype_unknown, quantised, weight_map_odd,
        evil_pickle, foreign_prefix, sizes_that_do_not_fit, layer_missing, layers_added, weights_truncated,
        weights_not_finite, files_missing, unreadable,
    )
}  # fmt: skip
TEXT: dict[str, Damage] = {
    f.__name__: f
    for f in (
        pad_token_out_of_range, positions_enormous, vocabulary_too_small, tokens_added, tokenizer_config_odd,
        tokenizer_broken, max_length_odd, no_special_tokens,
    )
}  # fmt: skip


def processor_size(folder: Path, rng: random.Random) -> None:
    size = rng.choice(
        [
            0,
            -3,
            {"height": 32, "width": 64},
            {"height": 0, "width": 0},
            "big",
            [],
            {"shortest_edge": 0},
            {"a": 1},
            10**9,
        ]
    )
    _edit(folder / "preprocessor_config.json", size=size)


def processor_means(folder: Path, rng: random.Random) -> None:
    _edit(
        folder / "preprocessor_config.json",
        image_mean=rng.choice([[0.5], [0.5] * 4, "half", None, [], 5]),
        image_std=rng.choice([[0.5], [0.0] * 3, [0.5] * 3, "x"]),
    )


def one_channel(folder: Path, rng: random.Random) -> None:
    _config(folder, num_channels=rng.choice([1, 4, 0, "three"]))


def image_size_differs(folder: Path, rng: random.Random) -> None:
    _config(folder, image_size=rng.choice([64, 33, 16, 0, -32, "big", None, [32, 64]]))


def processor_odd(folder: Path, rng: random.Random) -> None:
    body = rng.choice(["[]", "null", "{}", "{", '{"image_processor_type": "NoSuch"}', '{"image_processor_type": 7}'])
    (folder / "preprocessor_config.json").write_text(body)


IMAGE: dict[str, Damage] = {
    f.__name__: f for f in (processor_size, processor_means, one_channel, image_size_differs, processor_odd)
}
