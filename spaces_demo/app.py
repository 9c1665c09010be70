"""A Space that serves one model made by hftl and shows its evidence, without hftl; README.md says how to run it."""

import os


if os.environ.get("SPACES_ZERO_GPU"):  # set on ZeroGPU, whose package replaces parts of torch and so goes first
    import spaces
else:
    spaces = None

import json
import re
import sys
from collections.abc import Callable, Sequence
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
from transformers import CONFIG_MAPPING, pipeline


# `hftl push --space` writes the variables here too, for a Hub that keeps none.
SERVES: dict[str, str] = {}
MODEL_ID = os.environ.get("MODEL_ID", SERVES.get("MODEL_ID", "")).strip()
REVISION = os.environ.get("REVISION", SERVES.get("REVISION", "")).strip() or None
TRUST = os.environ.get("TRUST_REMOTE_CODE", SERVES.get("TRUST_REMOTE_CODE")) == "1"
FOLDER = next((f.resolve() for f in (Path(MODEL_ID) / "final", Path(MODEL_ID)) if MODEL_ID and f.is_dir()), None)
RUN = FOLDER.parent if FOLDER and FOLDER.name == "final" else FOLDER  # report.json may lie here

MAX_CHARACTERS = 20_000
MAX_PIXELS = 50_000_000  # looked up before anything is decoded
MAX_BYTES = 20_000_000
MAX_EXAMPLES = 8
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


class Kind(NamedTuple):
    """What a kind of model needs of the page: another task is one more row of `KINDS`."""

    ending: str  # of the classes of such models
    task: str  # of `pipeline`
    source: Callable[..., Any]  # the component of the input, one for each of its parts
    asks: tuple[str, ...]  # its events that ask, besides the button
    value: Callable[[Any], Any]  # what it sends, unprocessed -> what the pipeline takes
    example: Callable[[dict[str, Any]], Any]  # an entry of the card's widget -> a text or a path, or nothing


class Output(NamedTuple):
    """How a model answers, by the problem_type of its config: another one is one more row of `OUTPUTS`."""

    asked: Callable[[Any], Callable[[Any], Any]]  # the pipeline -> what answers an input by it
    learned: str  # of {} names
    ask: str  # on the button
    component: Callable[[dict[str, Any]], Any]  # of the config
    value: Callable[[Any, Any, dict[str, Any]], Any]  # (what is answered, to what, config) -> its value
    say: Callable[[Any, dict[str, Any], dict[str, Any], str], str]  # (that, config, report, remark) -> it in words
    fades: bool = False  # does it lie over an image, which is to be seen through it?
    cuts: bool = True  # does it read only as much of a text as the model does at once?


class Served(NamedTuple):
    """The model, and what its repository says of it."""

    pipe: Any
    kind: Kind
    output: Output
    config: dict[str, Any]  # the fields of config.json
    report: dict[str, Any]  # empty when there is none
    examples: list[str]  # texts, or paths of images

    @property
    def columns(self) -> list[str]:
        """The parts of an input, as the pipeline names them; one for all but pairs of texts."""
        return list(self.config.get("input_columns") or ["text"])


def stop(message: str) -> NoReturn:
    """End with one line."""
    raise SystemExit(f"{MODEL_ID or 'MODEL_ID'}: {message}")


def fetch(name: str) -> Path | None:
    """Return a file of the model, downloaded when it lies on the Hub; None when there is none of this name."""
    if FOLDER and RUN:
        return next((folder / name for folder in (FOLDER, RUN) if (folder / name).is_file()), None)
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


def read_config() -> tuple[Kind, dict[str, Any], bool]:
    """Return the kind of model, its config, and whether its class is a file; end with one line when it cannot be served."""
    path = fetch("config.json")
    if path is None:
        adapter = "this holds an adapter only, and the Space needs merged weights: push it without --adapter_only."
        stop(adapter if fetch("adapter_config.json") else "there is no config.json, or the Hub cannot be reached.")
    fields = json.loads(path.read_text(encoding="utf-8"))
    name = (fields.get("architectures") or ["?"])[0]
    kind = next((kind for kind in KINDS if name.endswith(kind.ending)), None)
    if kind is None:
        stop("this is no classifier of texts, tokens, images or pixels.")
    is_file = fields.get("model_type") not in CONFIG_MAPPING
    if is_file and not TRUST:
        stop("its class is a file of the repository: read that file, then set TRUST_REMOTE_CODE=1 to let it run.")
    return kind, fields, is_file


def load() -> Served:
    """Load what MODEL_ID names, in fp32 and from safetensors, onto the GPU where there is one."""
    if not MODEL_ID:
        stop("set it to the Hub id or the folder of the model to serve.")
    kind, fields, is_file = read_config()
    options = {"revision": REVISION, "trust_remote_code": TRUST and is_file, "dtype": torch.float32}
    options |= {"device": "cuda" if torch.cuda.is_available() else "cpu", "model_kwargs": {"use_safetensors": True}}
    try:
        pipe = pipeline(kind.task, str(FOLDER or MODEL_ID), **options)
    except (OSError, ValueError) as error:
        stop(" ".join(str(error).split())[:300])
    names = [str(pipe.model.config.id2label[i]) for i in range(pipe.model.config.num_labels)]
    labels = [name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names)]
    pipe.model.config.id2label = dict(enumerate(labels))
    what = kind.task if kind.task in OUTPUTS else fields.get("problem_type")
    output = OUTPUTS.get(what, OUTPUTS["single_label_classification"])
    fields = {**fields, "labels": labels}
    report = parsed("report.json", lambda path: json.loads(path.read_text(encoding="utf-8")))
    listed = parsed("README.md", metadata_load).get("widget")
    single = len(fields.get("input_columns") or ["text"]) == 1
    entries = listed[:MAX_EXAMPLES] if isinstance(listed, list) and single else []
    examples = [kind.example(entry) for entry in entries if isinstance(entry, dict)]
    return Served(pipe, kind, output, fields, report, [str(example) for example in examples if example])


def parsed(name: str, parse: Callable[[Path], Any]) -> dict[str, Any]:
    """Return what a file of the model says, {} when there is none or it cannot be read."""
    path = fetch(name)
    try:
        fields = parse(path) if path else {}
    except (ValueError, yaml.YAMLError):
        fields = {}
    return fields if isinstance(fields, dict) else {}


def image_example(entry: dict[str, Any]) -> Any:
    """Return the path of an example of the card that is an image of this repository."""
    name = str(entry.get("src")).removeprefix(f"https://huggingface.co/{MODEL_ID}/resolve/main/")
    inside = re.fullmatch(r"(?!/)[^:]+\.(png|jpe?g|webp|gif|bmp)", name, re.IGNORECASE)
    return fetch(name) if inside and ".." not in name.split("/") else None


def check_text(text: Any) -> str:
    """Return the text as a tokenizer takes it, or tell the visitor what is wrong with it."""
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_CHARACTERS:
        raise gr.Error(f"Give a text that has no more than {MAX_CHARACTERS:,} characters.", print_exception=False)
    return text.encode("utf-8", "replace").decode()  # a lone surrogate is no character


def open_image(upload: Any) -> Image.Image:
    """Return the image upright and in RGB, as transformers decodes it; 16 bits and floats are scaled to eight, not clipped."""
    path = upload.get("path") if isinstance(upload, dict) else None
    if not isinstance(path, str):
        raise gr.Error("Give an image.", print_exception=False)
    try:
        image = Image.open(path, formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError  # as Pillow itself does, from 179 megapixels on
        image = ImageOps.exif_transpose(image)
        if image.mode[0] in "IF":
            pixels = np.asarray(image).astype("f8")
            tops = (65535,) if image.mode[0] == "I" else (1, 255, 65535)  # floats may be shares of white
            white = next(top for top in tops if image.mode[0] == "I" or 0 <= pixels.min() <= pixels.max() <= top)
            if image.mode != "I" or pixels.max() > 255:  # mode "I" may hold eight bits
                image = Image.fromarray((pixels.clip(0, 65535) * (255 / white) + 0.5).astype(np.uint8))
        return image.convert("RGB")
    except Exception:  # of a broken file Pillow raises nearly anything: OSError, SyntaxError, struct.error, ...
        kinds = f"{', '.join(FORMATS)}, of up to {MAX_PIXELS // 1_000_000} megapixels"
        raise gr.Error(f"This is no image that can be read ({kinds}).", print_exception=False) from None


def length_remark(tokenizer: Any, content: Any) -> str:
    """Return a warning when a text fills all that the model reads; nothing for an image, which has no tokenizer."""
    if tokenizer is None:
        return ""
    texts = content.values() if isinstance(content, dict) else [content]
    if len(tokenizer(*texts, truncation=True)["input_ids"]) < tokenizer.model_max_length:
        return ""
    return f"It reads the first {tokenizer.model_max_length:,} tokens of a text, and no more."


def build(served: Served) -> gr.Blocks:
    """Return the page; its one public endpoint is /predict: what the model reads in, {label, confidences} or a number out."""
    pipe, kind, output, columns = served.pipe, served.kind, served.output, served.columns
    classes, answer_of = pipe.model.config.num_labels, output.asked(pipe)

    def score(content: Any) -> list[dict[str, Any]]:
        return answer_of(content)

    ask = spaces.GPU(score, duration=20) if spaces else score  # seconds of a GPU that ZeroGPU lends for each call

    def read(values: Sequence[Any]) -> Any:
        parts = [kind.value(value) for value in values]
        return parts[0] if len(parts) == 1 else dict(zip(columns, parts, strict=True))

    def predict(value: Any, *more: Any) -> Any:
        """Return the likeliest labels with their probabilities, or the number."""
        content = read((value, *more))
        return output.value(ask(content), content, served.config)

    def say(*values: Any) -> str:
        remark = length_remark(pipe.tokenizer, read(values[:-1])) if output.cuts else ""
        return output.say(values[-1], served.config, served.report, remark)

    title, link = RUN.name if RUN else MODEL_ID, None if FOLDER else f"{constants.ENDPOINT}/{quote(MODEL_ID)}"
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        gr.HTML(panel.heading(title, link, kind.task, output.learned.format(classes), served.report))
        with gr.Row():
            with gr.Column():
                second = [kind.source(elem_id="source-2", label="Second text")] if len(columns) > 1 else []
                sources = [kind.source(elem_id="source"), *second]
                with gr.Row():
                    clear = gr.Button("Clear", min_width=100)
                    button = gr.Button(output.ask, variant="primary", min_width=100, elem_id="classify")
                if served.examples:
                    given = [[example] for example in served.examples]
                    gr.Examples(given, sources, cache_examples=False, api_visibility="private")
            with gr.Column():
                note = gr.HTML(panel.WAITING, elem_id="note")
                shown = output.component(served.config)
                if output.fades:
                    share = gr.Slider(0.1, 1.0, 0.6, step=0.05, label="Opacity", elem_id="opacity", buttons=[])
                    share.input(None, share, None, js=FADE, api_visibility="private")
        gr.HTML(panel.evidence(served.report), elem_id="evidence")
        raw: dict[str, Any] = {"preprocess": False}  # gradio's own would decode an image before its size is known
        triggers = [button.click, *(getattr(source, event) for source in sources for event in kind.asks)]
        answered = gr.on(triggers, predict, sources, shown, api_name="predict", **raw)
        answered.success(say, [*sources, shown], note, api_visibility="private", show_progress="hidden", **raw)
        places = [*sources, shown, note]
        emptied = [*(None for _ in places[1:]), panel.WAITING]
        clear.click(lambda: emptied, None, places, api_visibility="private", queue=False)
    return page.queue(max_size=64)


TEXT = Kind(
    ending="ForSequenceClassification",
    task="text-classification",
    source=partial(gr.Textbox, label="Text", lines=6, placeholder="Type or paste a text"),
    asks=("submit",),
    value=check_text,
    example=lambda entry: isinstance(entry.get("text"), str) and entry["text"].strip(),
)
IMAGE = Kind(
    ending="ForImageClassification",
    task="image-classification",
    source=partial(gr.Image, label="Image", sources=["upload", "clipboard"], height=320),
    asks=(),
    value=open_image,
    example=image_example,
)
KINDS = (
    TEXT,
    TEXT._replace(ending="ForTokenClassification", task="token-classification"),
    IMAGE,
    IMAGE._replace(ending="ForSemanticSegmentation", task="image-segmentation"),
)


def whole(function: str) -> Callable[[Any], Callable[[Any], Any]]:
    """Ask for every label, cut at what the model reads."""

    def asked(pipe: Any) -> Callable[[Any], Any]:
        cut = {"truncation": True} if pipe.tokenizer is not None else {}
        return partial(pipe, top_k=pipe.model.config.num_labels, function_to_apply=function, **cut)

    return asked


def by_entity(pipe: Any) -> Callable[[Any], Any]:
    """Ask for entities as `hftl predict` finds them: by the first piece of each word, in windows that share a quarter."""
    try:
        import predict_words
    except ImportError:  # in hftl itself, where a push takes both files from
        above = Path(__file__).resolve().parents[1]
        home = above / "hftl" if (above / "hftl").is_dir() else above
        sys.path += [str(home / "data"), str(home / "export" / "templates")]
        import predict_words
    names, limit = list(pipe.model.config.id2label.values()), min(pipe.tokenizer.model_max_length, 4096)
    backend = type(pipe.tokenizer.backend_tokenizer).from_str(pipe.tokenizer.backend_tokenizer.to_str())  # a copy
    backend.no_padding()
    backend.enable_truncation(limit, stride=min(limit // 4, limit - pipe.tokenizer.num_special_tokens_to_add() - 1))

    def tags_of(ids: np.ndarray) -> np.ndarray:
        row = torch.from_numpy(ids).to(pipe.model.device)
        with torch.inference_mode():
            logits = pipe.model(input_ids=row, attention_mask=torch.ones_like(row)).logits[0]
        return logits.double().softmax(-1).cpu().numpy()

    return lambda text: predict_words.entities(*predict_words.by_word(text, backend, tags_of, len(names)), names)


def entities(answers: Any, text: Any, _: dict[str, Any]) -> dict[str, Any]:
    """Return the text with its entities, as the component of marked texts takes them."""
    found = [{"entity": name, "start": start, "end": end} for name, _, start, end, _ in answers]
    return {"text": text, "entities": found}


def probabilities(answers: list[dict[str, Any]], *_: Any) -> dict[str, float]:
    """Return every label with its probability, as the component of labels takes them."""
    return {answer["label"]: answer["score"] for answer in answers}


def colours(config: dict[str, Any]) -> dict[str, str]:
    """Return the colour of each class that has one, as #rrggbb."""
    palette = config.get("palette")
    given = [one for one in palette if isinstance(one, list) and len(one) == 3] if isinstance(palette, list) else []
    codes = ["#{:02x}{:02x}{:02x}".format(*(int(value) & 255 for value in one)) for one in given]
    return dict(zip(config["labels"], codes, strict=False))


def masks(answers: list[dict[str, Any]], image: Any, config: dict[str, Any]) -> Any:
    """Return the image, not too large, and where in it each class is, as the component of annotated images takes them.

    A class in black, as the ground is, is left out: it would hide the image.
    """
    small, known = image.copy(), colours(config)
    small.thumbnail((1024, 1024))
    there = [answer for answer in answers if known.get(answer["label"]) != "#000000"]
    resized = [(a["mask"].resize(small.size, Image.Resampling.NEAREST), a["label"]) for a in there]
    return small, [(np.asarray(mask) / 255.0, label) for mask, label in resized]


def annotated(config: dict[str, Any]) -> Any:
    """Return the component of images with masks, in the colours of the config."""
    known = colours(config)
    return gr.AnnotatedImage(label="Masks", color_map=known, elem_id="answer", buttons=["fullscreen"])


FADE = "(share) => document.querySelector('#answer').style.setProperty('--opacity', share)"
SHOWN: dict[str, Any] = {"num_top_classes": 5, "show_heading": False, "elem_id": "answer"}
CLASSES = Output(
    whole("softmax"),
    "{} classes",
    "Classify",
    lambda _: gr.Label(label="Confidences", **SHOWN),
    value=probabilities,
    say=panel.best_label,
)
OUTPUTS = {
    "single_label_classification": CLASSES,
    "multi_label_classification": CLASSES._replace(
        asked=whole("sigmoid"), learned="{} labels", say=panel.labels_above
    ),
    "regression": Output(
        whole("none"),
        "a number",
        "Estimate",
        lambda _: gr.Number(label="Answer", interactive=False, elem_id="answer"),
        value=lambda answers, *_: answers[0]["score"],
        say=panel.number_between,
    ),
    "token-classification": Output(
        by_entity,
        "{} tags",
        "Find entities",
        lambda _: gr.HighlightedText(label="Entities", combine_adjacent=False, show_legend=True, elem_id="answer"),
        value=entities,
        say=panel.how_many,
        cuts=False,
    ),
    "image-segmentation": Output(
        lambda pipe: pipe, "{} classes", "Segment", annotated, value=masks, say=panel.which_classes, fades=True
    ),
}


def launch(page: gr.Blocks, **options: Any) -> None:
    """Serve the page, on 127.0.0.1 unless a Space says otherwise, with the visitor's own fonts: nothing is fetched."""
    hues = {"primary_hue": "indigo", "secondary_hue": "indigo", "neutral_hue": "slate"}
    options |= {"ssr_mode": False, "footer_links": ["api", "gradio"], "max_file_size": MAX_BYTES, "css": panel.STYLE}
    page.launch(theme=gr.themes.Default(**hues, radius_size="lg", font=("system-ui", "sans-serif")), **options)


if __name__ == "__main__":
    launch(build(load()))
