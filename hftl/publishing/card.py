"""The model card: front matter that the Hub checks, and the evidence of the run in plain statements.

The template is `templates/card.md`. Every name, label and note of the data is escaped where it is shown.
"""

import base64
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from huggingface_hub import ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image as PILImage

from hftl.config import OWN_FLAGS
from hftl.data.samples import SAMPLES, Sample
from hftl.evaluation.scale import Scale
from hftl.models.packaged import PACKAGED
from hftl.models.pooled import PooledForImageClassification
from hftl.publishing.metadata import METRICS, Licence, hub_data, model_index
from hftl.publishing.public_report import hub_base, hub_commit, public_config, public_name, public_report
from hftl.report import statements, views
from hftl.report.charts import draw
from hftl.report.figures import ladder, matrix
from hftl.report.limits import LOCAL, counted_in, limits
from hftl.report.rows import confusion_of
from hftl.report.statements import Statement
from hftl.report.visible import code, md, one_line, quoted_python
from hftl.tasks import task_of
from hftl.tasks.task import Output


MAX_CLASSES, WORST_CLASSES = 30, 15  # beyond the first, the card shows as many as the second
_NAMED_CLASSES = 12  # in the line about the task
_PLACE = "path/or/id/of/this/model"  # a card that is written before there is a repository
# Flags that say where from and how judged, not how trained.
_NOT_SETTINGS = """
    task data model method seed seeds evidence retain control target_precision strict revision allow_pickle
    trust_remote_code name author text_column label_column image_column slice_column group_column
"""


@dataclass(frozen=True)
class Example:
    """A row of the data that becomes public."""

    label: str
    text: str | None  # as it is published, cut to what a card can show
    image: PILImage.Image | None  # at most 256 pixels a side; only its pixels are published
    file: str | None  # of the image, in the published folder

    @property
    def line(self) -> str:
        """What becomes public, in a line."""
        if self.text is not None:
            return f"{self.label}: {self.text}"
        assert self.image is not None
        return f"{self.label}: {self.file}, {self.image.width} x {self.image.height} pixels"


@dataclass(frozen=True)
class CardOptions:
    """What a card needs to know beside the report."""

    licence: Licence | None = None  # None: not settled yet
    repo_id: str | None = None  # ns/name, which the commands name
    examples: tuple[Example, ...] = ()  # rows that become public
    pictures: tuple[tuple[str, str], ...] = ()  # files that lie beside the card, and what each shows
    language: str | None = None  # of the texts, as the Hub calls it; None: that of a packaged sample, else not said
    adapter_only: bool = False
    has_adapter: bool = False  # in adapter/, beside the whole model
    has_config: bool = True  # config.yaml lies beside the card or above it
    config_place: str = "config.yaml"


def card_text(report: dict[str, Any], options: CardOptions | None = None, config: dict[str, Any] | None = None) -> str:
    """Return README.md of a model: of a run's report, its config.yaml as a dict, and of how it is published.

    The report may lack its evidence, or any part of it. Only what `public_report` lets through is used, so that no
    row of the data, no file name and no folder of the machine can get in; `options.examples` are the one exception.
    """
    options = options or CardOptions()
    published = public_report(report, config)
    task = task_of(published)
    labels, test = published["data"]["labels"], published["metrics"]["test"]
    more = f" and {len(labels) - _NAMED_CLASSES} more" if len(labels) > _NAMED_CLASSES else ""
    context = {
        "report": published,
        "task": task,
        "options": options,
        "title": card_title(published, options),
        "front_matter": Markup(front_matter(report, published, options)),
        "does": task.output.words["does"].format(row=task.inputs.noun, n=len(labels)),
        "words": {k: text.format(rows=f"{task.inputs.called}s", n=len(labels)) for k, text in _of_model(task.output)},
        "learned": statements.learned(published),
        "classes_line": Markup(", ".join(md(name, 40) for name in labels[:_NAMED_CLASSES]) + more),
        "base": hub_base(report["model"]),
        "base_revision": hub_commit(report["model"]),
        "base_line": base_link(report),
        "data_line": _data_line(published),
        "method_words": statements.METHODS.get(str(published["method"]), "see the stages below"),
        "metrics": [_metric(task.output, key, test[key]) for key in METRICS if test.get(key) is not None],
        "repo": options.repo_id or _PLACE,
        "own_code": _own_code(published),
        "verdict": statements.card_verdict(published),
        "limits": limits(published),
        **_evidence(published),
        **_training(published, public_config(config, report) if config else {}),
    }
    lines = [line.rstrip() for line in _environment().get_template("card.md").render(context).split("\n")]
    text = "\n".join(line for above, line in zip(["", *lines], lines, strict=False) if line or above)
    return text.strip("\n") + "\n"


def card_pictures(report: dict[str, Any], config: dict[str, Any] | None = None) -> dict[str, tuple[str, bytes]]:
    """Return the pictures of a card by file: what each shows, and its PNG; none where there is nothing to show.

    They are drawn in the light colours of report.html. Takes what `card_text` takes, and shows no more.
    """
    published = public_report(report, config)
    evidence, labels = published.get("evidence") or {}, published["data"]["labels"]
    charts = {"ladder.png": ladder(published, evidence)} if len(evidence.get("ladder") or []) > 1 else {}
    if evidence.get("confusion"):
        charts["confusion.png"] = matrix(
            confusion_of(evidence["confusion"], len(labels)), labels, *counted_in(published)
        )
    specs = json.dumps([{**chart.wide, "background": "var(--card)", "padding": 16} for chart in charts.values()])
    style = files("hftl.report").joinpath("templates/page.css").read_text(encoding="utf-8")
    for name, light in re.findall(r"(--[a-z-]+): light-dark\((#\w+),", style):
        specs = specs.replace(f"var({name})", light)
    drawn = draw(json.loads(specs), "png")
    if isinstance(drawn, str):  # the card is good without
        return {}
    return {
        name: (re.sub("[\u2068\u2069]", "", chart.summary), base64.b64decode(png))
        for (name, chart), png in zip(charts.items(), drawn, strict=True)
    }


def front_matter(report: dict[str, Any], published: dict[str, Any], options: CardOptions) -> str:
    """Return the metadata as YAML, by huggingface_hub's own class; a language that is not known is not said."""
    base, data = hub_base(report["model"]), hub_data(str(published["data"]["name"]))
    sample = _sample(str(published["data"]["name"]))
    fields: dict[str, Any] = {}
    single = len(task_of(published).inputs.columns) == 1  # the Hub's widget takes no pairs
    if options.examples and single and (options.repo_id or options.examples[0].text is not None):
        fields["widget"] = [_widget(example, options.repo_id) for example in options.examples]
    if base:
        fields["base_model_relation"] = "adapter" if options.adapter_only else "finetune"
    tags = ["hftl", str(published["method"]), *(["lora", "peft"] if options.adapter_only else [])]
    return (
        ModelCardData(
            license=options.licence.id if options.licence else None,
            language=options.language or (sample.language if sample else None),
            library_name="peft" if options.adapter_only else "transformers",
            pipeline_tag=published["task"],
            base_model=base,
            datasets=[data.id] if data else None,
            metrics=_hub_metrics(published),
            tags=tags,
            model_name=card_title(published, options),
            eval_results=model_index(published),
            **fields,
        )
        .to_yaml()
        .rstrip("\n")
    )


def _of_model(output: Output) -> list[tuple[str, str]]:
    """Return the words of an output that a card shows of a model."""
    return [(key, output.words[key]) for key in ("use", "call", "code", "name", "names", "units")]


def _hub_metrics(published: dict[str, Any]) -> list[str]:
    """Return the Hub's names of the scores that have an interval."""
    known = [METRICS[name][0] for name in statements.scores_of(published) if name in METRICS]
    return list(dict.fromkeys(name for name in known if name is not None))


def _widget(example: Example, repo_id: str | None) -> dict[str, str]:
    where = {"src": f"https://huggingface.co/{repo_id}/resolve/main/{example.file}"}
    return {**(where if example.text is None else {"text": example.text}), "example_title": one_line(example.label)}


def card_title(published: dict[str, Any], options: CardOptions) -> str:
    """Return what the model is called: like its repository, else after base model and data."""
    if options.repo_id:
        return options.repo_id.rpartition("/")[2]
    data = str(published["data"]["name"]).removeprefix("sample:")
    return one_line(f"{str(published['model']['name']).rpartition('/')[2]} adapted to {data}", 200)


def _metric(output: Output, key: str, score: Any) -> tuple[str, str, str]:
    """Return name, value and interval."""
    scale = output.written(key)
    if isinstance(score, dict):
        return scale.heading, scale.value(score["value"]), scale.bounds(score["low"], score["high"])
    return scale.heading, statements.number(score) if key == "log_loss" else scale.value(score), "\u2013"


def base_link(report: dict[str, Any]) -> Markup:
    """Return the base model, linked when it is on the Hub, with its revision."""
    base, name = hub_base(report["model"]), public_name(report["model"])
    revision = hub_commit(report["model"])
    linked = f"[{md(name)}](https://huggingface.co/{base})" if base else code(name)
    packaged = PACKAGED.get(name)
    where = ""
    if report["model"].get("source") == "folder":
        where = " (a local folder)"
    elif not base and packaged:
        where = f" (from the package {code(packaged.package)})"
    return Markup(f"{linked}{where}{f' at {code(revision[:12])}' if revision else ''}")


def _sample(name: str) -> Sample | None:
    return SAMPLES.get(name.removeprefix("sample:")) if name.startswith("sample:") else None


def _data_line(published: dict[str, Any]) -> Markup:
    name = str(published["data"]["name"])
    dataset, sample = hub_data(name), _sample(name)
    rows = published["data"]["rows"]
    count = f"{rows['train']:,} rows to train on, {rows['validation']:,} for validation, {rows['test']:,} to test"
    if dataset:
        return Markup(f"[{md(name)}](https://huggingface.co/datasets/{dataset.id}); {count}")
    if sample:
        return Markup(f"{code(name)}, {md(sample.description)} (package {code(sample.package)}); {count}")
    called = Markup("") if name == LOCAL else Markup("{}, ").format(code(name))
    return Markup(f"{called}local data that are not published; {count}")


def _own_code(published: dict[str, Any]) -> str | None:
    """Return why the repository brings a class of its own, which plain `pipeline` runs only when it is trusted."""
    if published["model"].get("architecture") == PooledForImageClassification.__name__:
        return "The head reads the pooled features of the image"
    return statements.pooled(published)


def _evidence(published: dict[str, Any]) -> dict[str, Any]:
    evidence, per_class = published.get("evidence") or {}, list(published.get("per_class") or [])
    weakest = sorted(per_class, key=lambda c: (c["support"] == 0, c["f1"], -c["support"]))[:WORST_CLASSES]
    classes = per_class if len(per_class) <= MAX_CLASSES else weakest
    spreads = (published.get("seeds") or {}).get("test") or {}
    rungs = views.ladder(published, evidence)
    scales = {name: scale for name, scale in statements.scales_of(published).items() if name in rungs[0]}
    return {
        "ladder": [{**rung, "scores": _ladder_cells(rung, scales)} for rung in rungs],
        "ladder_heads": [scale.heading for scale in scales.values()],
        "classes": classes,
        "hidden_classes": len(per_class) - len(classes),
        "certainty": statements.certainty(published),
        "trusted": "an answer" if evidence.get("conformal") else "its confidence",
        "forgetting": statements.forgetting(published),
        "parity": statements.parity(published),
        "seeds": published.get("seeds"),
        "seed_rows": [_seed_row(published, key, spreads[key]) for key in METRICS if key in spreads],
    }


def _ladder_cells(rung: dict[str, Any], scales: dict[str, Scale]) -> list[str]:
    """Return the headline score, its interval, and the other scores."""
    first, *others = scales
    bounds = scales[first].bounds(rung[first]["low"], rung[first]["high"])
    return [scales[first].value(rung[first]["value"]), bounds, *(scales[o].value(rung[o]["value"]) for o in others)]


def _seed_row(published: dict[str, Any], key: str, spread: dict[str, Any]) -> tuple[str, str, str, str]:
    """Return name, mean, standard deviation, and the score of each seed."""
    scale, values = task_of(published).output.written(key), (spread["mean"], spread["std"], *spread["values"])
    share = scale.share and key != "log_loss"
    mean, std, *each = [statements.percent(value, 2) if share else statements.number(value) for value in values]
    return scale.heading, mean, std, ", ".join(each)


def _training(published: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    name, environment = str(published["data"]["name"]), published["environment"]
    stages = [{**s, "learning_rates": s.get("learning_rates") or {}} for s in published["stages"]]
    times = (published.get("timing") or {}).items()
    counts = (("processes", "process", "processes"), ("threads", "thread", "threads"))
    known = [statements.counted(environment[key], one, many) for key, one, many in counts if environment.get(key)]
    return {
        "origins": published["data"].get("origins") or {},
        "stages": views.stages({"stages": stages}),
        "settings": _settings(config, str(published["method"])),
        "hardware": ", ".join([environment.get("device") or "not recorded", *known]),
        "times": ", ".join(f"{k.removesuffix('_seconds')} {statements.duration(v)}" for k, v in times),
        "versions": ", ".join(f"{k} {v}" for k, v in environment["versions"].items()),
        "packaged": name.startswith("sample:") or published["model"].get("source") == "packaged",
        "local_data": hub_data(name) is None and not name.startswith("sample:"),
        "local_model": published["model"].get("source") == "folder",
    }


def _settings(config: dict[str, Any], method: str) -> Markup:
    """Return the flags that were not at their defaults, and LoRA's rank in any case."""
    always = {"lora_r", "lora_dropout"} if method == "lora" else set()
    own = {
        name: value
        for name, value in config.items()
        if name in always
        or (
            name not in _NOT_SETTINGS.split()
            and (name not in OWN_FLAGS or value != OWN_FLAGS[name].default)
            and (method == "lora" or not name.startswith("lora_"))
        )
    }
    flags = [str(code(f"{name} {_plain(value)}")) for name, value in own.items()]
    return Markup(", ".join([*flags, "all else hftl's defaults"]) if config else "not recorded")


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return ",".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def shell_words(example: Any) -> str:
    """Return a row as the arguments of `hftl predict`: its first part, the others as flags."""
    first, *others = example.items() if isinstance(example, dict) else [("", example)]
    return " ".join([shlex.quote(first[1]), *(f"--{name} {shlex.quote(value)}" for name, value in others)])


def _finalize(value: Any) -> Any:
    if isinstance(value, Statement):
        return value.write(md)
    return md(value) if isinstance(value, str) else value


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("hftl.publishing"),
        autoescape=False,  # the text is Markdown: `finalize` escapes it as such
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        percent=statements.percent,
        number=statements.number,
        duration=statements.duration,
        interval=statements.interval,
        thousands=lambda value: f"{value:,}",
        long=lambda text: md(text, 600),
        plain=lambda text: Markup(text),  # names that are ours
        code=code,
        cells=lambda texts: Markup(" | ").join(md(text, 600) for text in texts),
        arguments=lambda options: Markup("".join(f", {name}={value}" for name, value in options.items())),
        python=quoted_python,
        literal=lambda example: Markup(json.dumps(example)),
        arguments_of=lambda example: Markup(shell_words(example)),
        shell=lambda text: Markup(shlex.quote(one_line(str(text)))),
    )
    return environment
