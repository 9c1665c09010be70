"""A Space that serves one classifier made by hftl, and shows its evidence. It needs transformers and gradio alone.

Variables: MODEL_ID (a Hub id, or a folder such as `runs/x/final`), REVISION (a commit, branch or tag of it),
TRUST_REMOTE_CODE=1 (only for a mean-pooled text model, whose class is a file of its repository). A private model
needs the secret HF_TOKEN. Locally: `MODEL_ID=runs/x/final python spaces_demo/app.py`.
"""

import os


if os.environ.get("SPACES_ZERO_GPU"):  # set on ZeroGPU, whose package replaces parts of torch and so goes first
    import spaces
else:
    spaces = None

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from urllib.parse import quote

import evidence_panel as panel
import gradio as gr
import numpy as np
import torch
import yaml
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.repocard import metadata_load
from PIL import Image, ImageOps
from transformers import (
    CONFIG_MAPPING,
    AutoImageProcessor,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)


# `hftl push --space` writes the variables here too, for a Hub that keeps none.
SERVES: dict[str, str] = {}
MODEL_ID = os.environ.get("MODEL_ID", SERVES.get("MODEL_ID", "")).strip()
REVISION = os.environ.get("REVISION", SERVES.get("REVISION", "")).strip() or None
TRUST = os.environ.get("TRUST_REMOTE_CODE", SERVES.get("TRUST_REMOTE_CODE")) == "1"
FOLDER = next((f for f in (Path(MODEL_ID) / "final", Path(MODEL_ID)) if MODEL_ID and f.is_dir()), None)
ON_HUB = f"https://huggingface.co/{MODEL_ID}/resolve/main/"  # how a card names a file of its own repository
EXAMPLE = re.compile(r"(?!/)[^:]+\.(png|jpe?g|webp|gif|bmp)", re.IGNORECASE)

MAX_CHARACTERS = 20_000
MAX_PIXELS = 50_000_000  # looked up before anything is decoded
MAX_BYTES = 20_000_000
MAX_EXAMPLES = 8
WAITING = 64  # requests that may queue
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
GPU_SECONDS = 20  # what one request may take of ZeroGPU; a short time queues better


CONFIDENCES = partial(gr.Label, label="Confidences", num_top_classes=5, show_heading=False, elem_id="answer")


class Kind(NamedTuple):
    """What a kind of model needs of the page: another task is one more row of `KINDS`."""

    ending: str  # of the classes of such models
    auto_model: Any
    auto_processor: Any
    options: dict[str, Any]  # of the processor
    source: Callable[[], Any]  # the component of the input
    asks: tuple[str, ...]  # its events that ask, besides the button
    value: Callable[[Any], Any]  # what it sends, unprocessed -> what the processor takes
    remark: Callable[[Any, Any], str]  # (processor, that) -> what to say beside the answer
    examples: Callable[[list[dict[str, Any]]], list[str]]  # of the card's widget entries
    output: Callable[[], Any] = CONFIDENCES  # the component of the answer
    draw: Callable[..., Any] = lambda labels, row: dict(zip(labels, row, strict=True))  # its value


class Served(NamedTuple):
    """The model, and what its repository says of it."""

    model: Any
    processor: Any
    kind: Kind
    labels: list[str]  # by class id
    report: dict[str, Any]  # empty when there is none
    examples: list[str]  # texts, or paths of images


def stop(message: str) -> NoReturn:
    """End with one line."""
    raise SystemExit(f"{MODEL_ID or 'MODEL_ID'}: {message}")


def fetch(name: str) -> Path | None:
    """Return a file of the model, downloaded when it lies on the Hub; None when there is none of this name."""
    if FOLDER is not None:
        beside = FOLDER.resolve().parent / name if name == "report.json" and FOLDER.resolve().name == "final" else None
        return next((p for p in (FOLDER / name, beside) if p is not None and p.is_file()), None)
    try:
        return Path(hf_hub_download(MODEL_ID, name, revision=REVISION))
    except EntryNotFoundError:
        return None
    except RepositoryNotFoundError:
        stop("there is no such model, or it is private: then give the Space a secret HF_TOKEN that may read it.")
    except HfHubHTTPError as error:
        stop(f"the Hub answered: {' '.join(str(error).split())[:300]}")
    except ValueError:
        stop("this is neither a folder nor a Hub id such as namespace/name.")


def read_config() -> tuple[Kind, bool]:
    """Return the kind of model, and whether its class is a file; end with one line when it cannot be served."""
    path = fetch("config.json")
    if path is None and fetch("adapter_config.json"):
        stop("this holds an adapter only, and the Space needs merged weights: push it without --adapter_only.")
    if path is None:
        stop("there is no config.json, or the Hub cannot be reached.")
    fields = json.loads(path.read_text(encoding="utf-8"))
    name = (fields.get("architectures") or ["?"])[0]
    kind = next((kind for kind in KINDS if name.endswith(kind.ending)), None)
    if kind is None:
        stop("this is no text or image classifier.")
    is_file = fields.get("model_type") not in CONFIG_MAPPING
    if is_file and not TRUST:
        stop("its class is a file of the repository: read that file, then set TRUST_REMOTE_CODE=1 to let it run.")
    return kind, is_file


def load() -> Served:
    """Load what MODEL_ID names, in fp32 and from safetensors, onto the GPU where there is one."""
    if not MODEL_ID:
        stop("set it to the Hub id or the folder of the model to serve.")
    kind, is_file = read_config()
    where = {"revision": REVISION} if FOLDER is None else {}
    where["trust_remote_code"] = TRUST and is_file
    name = str(FOLDER or MODEL_ID)
    try:
        processor = kind.auto_processor.from_pretrained(name, **where)
        model = kind.auto_model.from_pretrained(name, dtype=torch.float32, use_safetensors=True, **where)
    except OSError as error:
        stop(" ".join(str(error).split())[:300])
    names = [str(model.config.id2label[i]) for i in range(model.config.num_labels)]
    labels = [name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names)]
    model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    report = parsed("report.json", lambda path: json.loads(path.read_text(encoding="utf-8")))
    listed = parsed("README.md", metadata_load).get("widget")
    entries = [e for e in listed if isinstance(e, dict)] if isinstance(listed, list) else []
    return Served(model, processor, kind, labels, report, kind.examples(entries))


def parsed(name: str, parse: Callable[[Path], Any]) -> dict[str, Any]:
    """Return what a file of the model says, {} when there is none or it cannot be read."""
    path = fetch(name)
    try:
        fields = parse(path) if path else {}
    except (ValueError, yaml.YAMLError):
        fields = {}
    return fields if isinstance(fields, dict) else {}


def text_examples(entries: list[dict[str, Any]]) -> list[str]:
    """Return the texts among the card's examples."""
    return [e["text"] for e in entries if isinstance(e.get("text"), str) and e["text"].strip()][:MAX_EXAMPLES]


def image_examples(entries: list[dict[str, Any]]) -> list[str]:
    """Return the paths of the images among the card's examples that are files of this repository."""
    sources = [e["src"].removeprefix(ON_HUB) for e in entries if isinstance(e.get("src"), str)]
    inside = [s for s in sources if EXAMPLE.fullmatch(s) and ".." not in s.split("/")]
    return [str(path) for s in inside[:MAX_EXAMPLES] if (path := fetch(s))]


# ------------------------------------------------------------------------------------------------ predictions


def check_text(text: Any) -> str:
    """Return the text as a tokenizer takes it, or tell the visitor what is wrong with it."""
    if not isinstance(text, str) or not text.strip():
        raise gr.Error("Give a text.", print_exception=False)
    if len(text) > MAX_CHARACTERS:
        raise gr.Error(f"The text has more than {MAX_CHARACTERS:,} characters.", print_exception=False)
    return text.encode("utf-8", "replace").decode()  # a lone surrogate is no character


def open_image(upload: Any) -> Image.Image:
    """Return the image upright and in RGB, as transformers decodes it; 16 bits are scaled to eight, not clipped."""
    path = upload.get("path") if isinstance(upload, dict) else None
    if not isinstance(path, str):
        raise gr.Error("Give an image.", print_exception=False)
    if Path(path).stat().st_size > MAX_BYTES:
        raise gr.Error(f"The file has more than {MAX_BYTES // 1_000_000} MB.", print_exception=False)
    try:
        image = Image.open(path, formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError  # as Pillow itself does, from 179 megapixels on
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):
            pixels = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
            if image.mode != "I" or pixels.max(initial=0) > 255:  # mode "I" may hold eight bits
                image = Image.fromarray(((pixels + 128) // 257).astype(np.uint8))
        return image.convert("RGB")
    except Image.DecompressionBombError:
        message = f"The image has more than {MAX_PIXELS // 1_000_000} megapixels."
        raise gr.Error(message, print_exception=False) from None
    except Exception:  # of a broken file Pillow raises nearly anything: OSError, SyntaxError, struct.error, ...
        raise gr.Error(f"This is no image that can be read ({', '.join(FORMATS)}).", print_exception=False) from None


def scorer(served: Served) -> Callable[[list[Any]], list[list[float]]]:
    """Return the function from inputs to probabilities [n, classes], which on ZeroGPU asks for a GPU at each call."""

    @torch.inference_mode()
    def score(values: list[Any]) -> list[list[float]]:
        inputs = served.processor(values, return_tensors="pt", **served.kind.options).to(served.model.device)
        return served.model(**inputs).logits.float().softmax(-1).tolist()

    return spaces.GPU(score, duration=GPU_SECONDS) if spaces else score


# ------------------------------------------------------------------------------------------------ the page


def build(served: Served) -> gr.Blocks:
    """Return the page; its one public endpoint is /predict: a text or an image in, {label, confidences} out."""
    kind, score, threshold = served.kind, scorer(served), panel.threshold(served.report)

    def predict(value: Any) -> Any:
        """Return the likeliest labels with their probabilities."""
        return kind.draw(served.labels, score([kind.value(value)])[0])

    def say(value: Any, answer: dict[str, Any]) -> str:
        best = answer["confidences"][0]
        note = kind.remark(served.processor, kind.value(value))
        return panel.sureness(best["label"], best["confidence"], threshold, note)

    title, link = shown_name(), None if FOLDER else f"{constants.ENDPOINT}/{quote(MODEL_ID)}"
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.HTML(panel.heading(title, link, kind is TEXT, len(served.labels), served.report))
        with gr.Row():
            with gr.Column():
                source = kind.source()
                with gr.Row():
                    clear = gr.Button("Clear", min_width=100)
                    button = gr.Button("Classify", variant="primary", min_width=100, elem_id="classify")
                if served.examples:
                    gr.Examples([[e] for e in served.examples], source, cache_examples=False, api_visibility="private")
            with gr.Column():
                note = gr.HTML(panel.waiting(), elem_id="note")
                output = kind.output()
        gr.HTML(panel.evidence(served.report), elem_id="evidence")
        unchecked: dict[str, Any] = {
            "preprocess": False
        }  # gradio's own would decode an image before its size is known
        triggers = [button.click, *(getattr(source, event) for event in kind.asks)]
        answered = gr.on(
            triggers, predict, source, output, api_name="predict", api_description="Classify one input.", **unchecked
        )
        answered.success(say, [source, output], note, api_visibility="private", show_progress="hidden", **unchecked)
        fresh = (None, None, panel.waiting())
        clear.click(lambda: fresh, None, [source, output, note], api_visibility="private", queue=False)
    return page.queue(max_size=WAITING)


def count_tokens(tokenizer: Any, text: str) -> int:
    """Count all tokens of a text with the settings of a prediction: others would change them under its feet."""
    if not tokenizer.is_fast:
        return len(tokenizer(text, verbose=False)["input_ids"])
    read = tokenizer(text, truncation=True, padding=True).encodings[0]
    return len(read.ids) + sum(len(part.ids) - tokenizer.num_special_tokens_to_add() for part in read.overflowing)


def length_remark(tokenizer: Any, text: str) -> str:
    """Return a warning when the model did not read all of a text."""
    limit, tokens = tokenizer.model_max_length, count_tokens(tokenizer, text)
    return f"It reads the first {limit:,} tokens; this text has {tokens:,}." if tokens > limit else ""


def shown_name() -> str:
    """Return the name of the model: of a run's final/ that of the run, never the path."""
    if FOLDER is None:
        return MODEL_ID
    folder = FOLDER.resolve()
    return folder.parent.name if folder.name == "final" else folder.name


TEXT = Kind(
    ending="ForSequenceClassification",
    auto_model=AutoModelForSequenceClassification,
    auto_processor=AutoTokenizer,
    options={"truncation": True, "padding": True},
    source=partial(
        gr.Textbox, label="Text", lines=6, max_lines=16, placeholder="Type or paste a text", elem_id="source"
    ),
    asks=("submit",),
    value=check_text,
    remark=length_remark,
    examples=text_examples,
)
IMAGE = Kind(
    ending="ForImageClassification",
    auto_model=AutoModelForImageClassification,
    auto_processor=AutoImageProcessor,
    options={},
    source=partial(
        gr.Image, label="Image", type="filepath", sources=["upload", "clipboard"], height=320, elem_id="source"
    ),
    asks=(),
    value=open_image,
    remark=lambda processor, image: "",
    examples=image_examples,
)
KINDS = (TEXT, IMAGE)


def page_theme() -> Any:
    """Return the theme: the visitor's own fonts, so that nothing is fetched, and light or dark as their system is."""
    theme = gr.themes.Default(
        primary_hue="indigo",
        secondary_hue="indigo",
        neutral_hue="slate",
        radius_size="lg",
        font=("system-ui", "sans-serif"),
    )
    fills = {"body_background_fill": "#f5f6f8", "body_background_fill_dark": "#0e1115"}
    return theme.set(**fills, block_background_fill="#ffffff", block_background_fill_dark="#171b21")


def launch(page: gr.Blocks, **options: Any) -> None:
    """Serve the page, on 127.0.0.1 unless a Space says otherwise."""
    plain = {"ssr_mode": False, "footer_links": ["api", "gradio"]}
    page.launch(theme=page_theme(), css=panel.STYLE, max_file_size=MAX_BYTES, **plain, **options)


if __name__ == "__main__":
    launch(build(load()))
