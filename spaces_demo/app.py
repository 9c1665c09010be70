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
from collections.abc import Callable, Sequence
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


class Served(NamedTuple):
    """The model, and what its repository says of it."""

    model: Any
    processor: Any
    is_text: bool
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


def read_config() -> dict[str, Any]:
    """Return the fields of config.json; end with one line when this is no classifier that can be served."""
    path = fetch("config.json")
    if path is None and fetch("adapter_config.json"):
        stop("this holds an adapter only, and the Space needs merged weights: push it without --adapter_only.")
    if path is None:
        stop("there is no config.json, or the Hub cannot be reached.")
    fields = json.loads(path.read_text(encoding="utf-8"))
    if not (fields.get("architectures") or ["?"])[0].endswith(("ForSequenceClassification", "ForImageClassification")):
        stop("this is no text or image classifier.")
    if fields.get("model_type") not in CONFIG_MAPPING and not TRUST:
        stop("its class is a file of the repository: read that file, then set TRUST_REMOTE_CODE=1 to let it run.")
    return fields


def load() -> Served:
    """Load what MODEL_ID names, in fp32 and from safetensors, onto the GPU where there is one."""
    if not MODEL_ID:
        stop("set it to the Hub id or the folder of the model to serve.")
    fields = read_config()
    is_text = fields["architectures"][0].endswith("ForSequenceClassification")
    auto_model = AutoModelForSequenceClassification if is_text else AutoModelForImageClassification
    where = {"revision": REVISION} if FOLDER is None else {}
    where["trust_remote_code"] = TRUST and fields.get("model_type") not in CONFIG_MAPPING
    name = str(FOLDER or MODEL_ID)
    try:
        processor = (AutoTokenizer if is_text else AutoImageProcessor).from_pretrained(name, **where)
        model = auto_model.from_pretrained(name, dtype=torch.float32, use_safetensors=True, **where)
    except OSError as error:
        stop(" ".join(str(error).split())[:300])
    names = [str(model.config.id2label[i]) for i in range(model.config.num_labels)]
    labels = [name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names)]
    model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    return Served(model, processor, is_text, labels, read_report(), find_examples(is_text))


def read_report() -> dict[str, Any]:
    """Return report.json, {} when there is none."""
    path = fetch("report.json")
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path else {}
    except ValueError:
        found = {}
    return found if isinstance(found, dict) else {}


def find_examples(is_text: bool) -> list[str]:
    """Return the example inputs that the model card lists under `widget`: texts, or images of the repository."""
    card = fetch("README.md")
    try:
        listed = ((metadata_load(card) if card else None) or {}).get("widget")
    except (ValueError, yaml.YAMLError):
        listed = None
    entries = [e for e in listed if isinstance(e, dict)] if isinstance(listed, list) else []
    if is_text:
        return [e["text"] for e in entries if isinstance(e.get("text"), str) and e["text"].strip()][:MAX_EXAMPLES]
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


def open_image(path: Any) -> Image.Image:
    """Return the image upright and in RGB, as transformers decodes it; 16 bits are scaled to eight, not clipped."""
    if path is None:
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
        options = {"truncation": True, "padding": True} if served.is_text else {}
        inputs = served.processor(values, return_tensors="pt", **options).to(served.model.device)
        return served.model(**inputs).logits.float().softmax(-1).tolist()

    return spaces.GPU(score, duration=GPU_SECONDS) if spaces else score


def ranked(labels: Sequence[str], row: Sequence[float]) -> dict[str, float]:
    """Return {label: probability}, the likeliest first."""
    order = sorted(range(len(row)), key=lambda i: -row[i])
    return {labels[i]: row[i] for i in order}


# ------------------------------------------------------------------------------------------------ the page


def build(served: Served) -> gr.Blocks:
    """Return the page; its one public endpoint is /predict: a text or an image in, {label, confidences} out."""
    score, threshold = scorer(served), panel.threshold(served.report)

    def predict(value: Any) -> dict[str, float]:
        """Return the likeliest labels with their probabilities."""
        checked = check_text(value) if served.is_text else open_image(value)
        return ranked(served.labels, score([checked])[0])

    def say(value: Any, answer: dict[str, float]) -> str:
        label = max(answer, key=answer.__getitem__)
        return panel.sureness(label, answer[label], threshold, remark(served, value))

    title = shown_name()
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.HTML(panel.heading(title, model_link(), served.is_text, len(served.labels), served.report))
        with gr.Row():
            with gr.Column():
                source = input_component(served.is_text)
                with gr.Row():
                    clear = gr.Button("Clear", min_width=100)
                    button = gr.Button("Classify", variant="primary", min_width=100, elem_id="classify")
                if served.examples:
                    gr.Examples([[e] for e in served.examples], source, cache_examples=False, api_visibility="private")
            with gr.Column():
                note = gr.HTML(panel.waiting(), elem_id="note")
                label = gr.Label(label="Confidences", num_top_classes=5, show_heading=False, elem_id="answer")
        gr.HTML(panel.evidence(served.report), elem_id="evidence")
        triggers = [button.click, source.submit] if served.is_text else [button.click]
        answered = gr.on(triggers, predict, source, label, api_name="predict", api_description="Classify one input.")
        answered.success(say, [source, label], note, api_visibility="private", show_progress="hidden")
        clear.click(
            lambda: (None, None, panel.waiting()), None, [source, label, note], api_visibility="private", queue=False
        )
    return page.queue(max_size=WAITING)


def input_component(is_text: bool) -> Any:
    """Return the place for the input; an image arrives as the path of a file that nobody has opened yet."""
    if is_text:
        return gr.Textbox(label="Text", lines=6, max_lines=16, placeholder="Type or paste a text", elem_id="source")
    image = gr.Image(label="Image", type="filepath", sources=["upload", "clipboard"], height=320, elem_id="source")
    image.preprocess = lambda payload: payload.path if payload else None  # gradio's own would decode it unchecked
    return image


def count_tokens(tokenizer: Any, text: str) -> int:
    """Count all tokens of a text with the settings of a prediction: others would change them under its feet."""
    if not tokenizer.is_fast:
        return len(tokenizer(text, verbose=False)["input_ids"])
    read = tokenizer(text, truncation=True, padding=True).encodings[0]
    return len(read.ids) + sum(len(part.ids) - tokenizer.num_special_tokens_to_add() for part in read.overflowing)


def remark(served: Served, value: Any) -> str:
    """Return a warning when the model did not read all of a text."""
    limit = getattr(served.processor, "model_max_length", None)
    if not served.is_text or limit is None:
        return ""
    tokens = count_tokens(served.processor, check_text(value))
    return f"It reads the first {limit:,} tokens; this text has {tokens:,}." if tokens > limit else ""


def shown_name() -> str:
    """Return the name of the model: of a run's final/ that of the run, never the path."""
    if FOLDER is None:
        return MODEL_ID
    folder = FOLDER.resolve()
    return folder.parent.name if folder.name == "final" else folder.name


def model_link() -> str | None:
    """Return the address of the model on the Hub, None for a folder."""
    return None if FOLDER is not None else f"{constants.ENDPOINT}/{quote(MODEL_ID)}"


def look() -> Any:
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
    page.launch(theme=look(), css=panel.STYLE, max_file_size=MAX_BYTES, **plain, **options)


if __name__ == "__main__":
    launch(build(load()))
