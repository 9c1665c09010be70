"""A Space that serves any classifier that hftl saved: set MODEL_ID to a Hub id or a `final/` folder.

It needs transformers and gradio alone, never hftl. A mean-pooled text model brings a modelling file of its own; it runs
only with TRUST_REMOTE_CODE=1.
"""

import os
from typing import Any

import gradio as gr
from transformers import AutoConfig, pipeline


MODEL_ID = os.environ.get("MODEL_ID", "")
TRUST = os.environ.get("TRUST_REMOTE_CODE") == "1"
MAX_CHARACTERS = 20_000


def load_pipeline(model_id: str) -> Any:
    """Return the text or image classification pipeline that fits the checkpoint."""
    config = AutoConfig.from_pretrained(model_id, trust_remote_code=TRUST)
    is_text = config.architectures[0].endswith("ForSequenceClassification")
    task = "text-classification" if is_text else "image-classification"
    return pipeline(task, model=model_id, trust_remote_code=TRUST)


def build(classify: Any) -> gr.Blocks:
    """Return the page: an input, the confidences, the endpoint /predict."""
    is_text = classify.task == "text-classification"

    def predict(value: Any) -> dict[str, float]:
        if value is None or (is_text and not value.strip()):
            raise gr.Error("Give a text." if is_text else "Give an image.")
        if is_text and len(value) > MAX_CHARACTERS:
            raise gr.Error(f"The text has more than {MAX_CHARACTERS} characters.")
        options: dict[str, Any] = {"top_k": None, **({"truncation": True} if is_text else {})}
        return {answer["label"]: answer["score"] for answer in classify(value, **options)}

    source = gr.Textbox(label="Text", lines=4) if is_text else gr.Image(label="Image", type="pil")
    return gr.Interface(
        predict,
        source,
        gr.Label(label="Label", num_top_classes=5),
        api_name="predict",
        flagging_mode="never",
        title=MODEL_ID,
    )


if __name__ == "__main__":
    if not MODEL_ID:
        raise SystemExit("Set MODEL_ID to the Hub id or folder of the model to serve.")
    build(load_pipeline(MODEL_ID)).queue(max_size=32).launch()
