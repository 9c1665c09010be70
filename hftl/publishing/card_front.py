"""The front matter of a card: metadata that the Hub reads, by huggingface_hub's own classes."""

from dataclasses import dataclass
from typing import Any

from huggingface_hub import ModelCardData

from hftl.publishing.examples import Example
from hftl.publishing.licences import Licence
from hftl.publishing.public_report import hub_base
from hftl.publishing.results import hub_data, model_index
from hftl.report.visible import one_line


@dataclass(frozen=True)
class CardOptions:
    """What a card needs to know beside the report."""

    licence: Licence | None = None  # None: not settled yet
    repo_id: str | None = None  # ns/name, which the commands name
    examples: tuple[Example, ...] = ()  # rows that become public
    adapter_only: bool = False
    has_adapter: bool = False  # in adapter/, beside the whole model
    has_config: bool = True  # config.yaml lies beside the card or above it
    config_place: str = "config.yaml"


def front_matter(report: dict[str, Any], shown: dict[str, Any], options: CardOptions) -> str:
    """Return the metadata as YAML, by huggingface_hub's own class; the language is not known, hence not said."""
    base, data = hub_base(report["model"]), hub_data(str(shown["data"]["name"]))
    fields: dict[str, Any] = {}
    if options.examples and (options.repo_id or options.examples[0].text is not None):
        fields["widget"] = [_widget(example, options.repo_id) for example in options.examples]
    if base and options.adapter_only:
        fields["base_model_relation"] = "adapter"
    elif base:
        fields["base_model_relation"] = "finetune"
    tags = ["hftl", str(shown["method"]), *(["lora", "peft"] if options.adapter_only else [])]
    return ModelCardData(
        license=options.licence.id if options.licence else None,
        library_name="peft" if options.adapter_only else "transformers",
        pipeline_tag=shown["task"],
        base_model=base,
        datasets=[data.id] if data else None,
        metrics=["accuracy", "f1"],
        tags=tags,
        model_name=card_title(shown, options),
        eval_results=model_index(shown),
        **fields,
    ).to_yaml().rstrip("\n")  # fmt: skip


def _widget(example: Example, repo_id: str | None) -> dict[str, str]:
    if example.text is not None:
        return {"text": example.text, "example_title": one_line(example.label)}
    return {
        "src": f"https://huggingface.co/{repo_id}/resolve/main/{example.file}",
        "example_title": one_line(example.label),
    }


def card_title(shown: dict[str, Any], options: CardOptions) -> str:
    """Return what the model is called: like its repository, else after base model and data."""
    if options.repo_id:
        return options.repo_id.rpartition("/")[2]
    data = str(shown["data"]["name"]).removeprefix("sample:")
    return one_line(f"{str(shown['model']['name']).rpartition('/')[2]} adapted to {data}", 200)
