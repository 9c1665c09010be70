"""The folder that one commit publishes: weights, labels, processor, card, report and config, and nothing else."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import yaml
from huggingface_hub import try_to_load_from_cache
from PIL import Image as PILImage

from hftl.config import read_yaml
from hftl.errors import ConfigError, RunError
from hftl.hub_errors import hub_errors
from hftl.models.classes import WRAPPED
from hftl.models.decoders import UPERNET
from hftl.models.pooled import OWN_CLASSES
from hftl.publishing.card import CardOptions, Example, card_text
from hftl.publishing.hub_repository import PushOptions
from hftl.publishing.metadata import Licence, choose_license, eval_entries, known_license, write_eval_results
from hftl.publishing.public_report import (
    check_clean,
    hub_base,
    hub_commit,
    machine_places,
    public_config,
    public_name,
    public_report,
)
from hftl.publishing.save import copy_file, model_files, write_pictures
from hftl.report.views import statements_of
from hftl.report.visible import shorten
from hftl.run_data import Artifact, run_splits, spread
from hftl.tasks import task_of


_TEXT_CHARACTERS, _PIXELS = 400, 256  # what a card can show
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True)
class Bundle:
    """A folder ready to be published."""

    folder: Path
    files: tuple[str, ...]  # below the folder, with "/", sorted
    card: str  # text of README.md
    license: Licence
    public_rows: tuple[str, ...]  # the rows of the data that become public, a line for each; empty by default
    base: tuple[str, str | None] | None  # Hub id and commit of the base model, when it is on the Hub


def build_bundle(artifact: Artifact, folder: Path, options: PushOptions) -> Bundle:
    """Write into `folder`, which must be empty or absent, exactly what one commit publishes.

    Weights are hard links where the file system allows it: do not change them in place. Raises `RunError` for what
    is no run of hftl or must not be published, `ConfigError` for a licence that is not known and for an adapter that
    cannot stand alone, and `DataError` when examples are asked for and the data are not there.
    """
    report = artifact.report
    if report is None:
        raise RunError(f"{artifact.name} has no report.json of hftl: publish a run folder.")
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"{folder} is not empty: the folder to publish is built anew.")
    root = artifact.run or artifact.folder
    licence = choose_license(*known_license(report, online=options.online), options.license)
    config = read_yaml(root / "config.yaml") if (root / "config.yaml").is_file() else None
    examples = choose_examples(artifact, options.include_examples)

    folder.mkdir(parents=True, exist_ok=True)
    with hub_errors(artifact.name, "publishing it", trusting=False):  # its files may be damaged
        if options.adapter_only:
            _write_adapter_alone(artifact, root / "adapter", folder)
        else:
            for path in _whole(artifact.folder):  # cards, reports, hidden files and strays stay behind
                copy_file(path, folder / path.name)
            for name in ADAPTER_FILES if (root / "adapter").is_dir() else ():
                (folder / "adapter").mkdir(exist_ok=True)
                copy_file(root / "adapter" / name, folder / "adapter" / name)
    if config is not None:
        public = yaml.safe_dump(public_config(config, report), sort_keys=False, allow_unicode=True)
        (folder / "config.yaml").write_text(public, encoding="utf-8")
    published = public_report(report, config)
    published["statements"] = statements_of(published)
    (folder / "report.json").write_text(json.dumps(published, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    write_eval_results(folder, eval_entries(report, options.repo_id, online=options.online))
    for example in examples:
        if example.image is not None:
            (folder / "examples").mkdir(exist_ok=True)
            example.image.save(folder / str(example.file))
    about = CardOptions(
        licence=licence,
        repo_id=options.repo_id,
        examples=examples,
        adapter_only=options.adapter_only,
        has_adapter=(folder / "adapter").is_dir(),
        has_config=config is not None,
        language=options.language,
        pictures=write_pictures(folder, report, config),
    )
    card = card_text(report, about, config)
    (folder / "README.md").write_text(card, encoding="utf-8", newline="\n")
    # The names of images that could not be read are private too: "a/b.png: what is wrong".
    skipped = [Path(str(line).partition(": ")[0]) for line in report["data"].get("skipped") or []]
    names = [name for path in skipped if path.suffix for name in (str(path), path.name)]
    check_clean(folder, names, machine_places(artifact.run, artifact.folder, folder))
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    base = hub_base(report["model"])
    source = (base, hub_commit(report["model"])) if base else None
    return Bundle(folder, tuple(files), card, licence, tuple(example.line for example in examples), source)


def _whole(folder: Path) -> list[Path]:
    """Return the files of a model. Raises `RunError` where its weights are not among them."""
    files = model_files(folder)
    if not any(path.suffix == ".safetensors" for path in files):
        raise RunError(f"{folder} has no weights (model.safetensors): a copy that is not whole?")
    return files


def _write_adapter_alone(artifact: Artifact, adapter: Path, folder: Path) -> None:
    """Write adapter, labels (config.json) and processor into `folder`; the adapter names its base model on the Hub.

    Raises `ConfigError` when the run has no adapter, or nobody else could load its base model.
    """
    assert artifact.report is not None
    model = artifact.report["model"]
    base = hub_base(model)
    if not (adapter / "adapter_model.safetensors").is_file():
        raise ConfigError(
            f"{artifact.name} has no adapter: --adapter_only is for runs of --method lora, this one was trained with "
            f"{artifact.report['method']}."
        )
    if base is None:
        raise ConfigError(
            f"The base model {public_name(model)} is not on the Hub, so nobody could load the adapter: leave out "
            "--adapter_only to publish the whole model."
        )
    _check_buildable(artifact, base, hub_commit(model))
    for path in model_files(artifact.folder, weights=False):  # labels and sizes in config.json; the processor
        copy_file(path, folder / path.name)
    fields = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    fields["base_model_name_or_path"] = base
    fields["revision"] = hub_commit(model)
    (folder / "adapter_config.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
    copy_file(adapter / "adapter_model.safetensors", folder / "adapter_model.safetensors")


def _check_buildable(artifact: Artifact, base: str, revision: str | None) -> None:
    """Raise `ConfigError` where plain transformers cannot build the classifier from the base model's own repository."""
    final = json.loads((artifact.folder / "config.json").read_text(encoding="utf-8"))
    cached = try_to_load_from_cache(base, "config.json", revision=revision)  # of the training, as a rule
    body = json.loads(Path(cached).read_text(encoding="utf-8")) if isinstance(cached, str) else {}
    around = final.get("model_type") == UPERNET and body.get("model_type") != UPERNET
    if around or final.get("model_type") in OWN_CLASSES or body.get("model_type") in WRAPPED:
        raise ConfigError(
            f"Plain transformers has no class that puts this adapter's classifier on {base} by itself: leave out "
            "--adapter_only to publish the whole model."
        )


def choose_examples(artifact: Artifact, count: int) -> tuple[Example, ...]:
    """Return `count` test rows of the run, spread evenly over the split; none for 0.

    Raises `ConfigError` for a negative count or a model without a run, and `DataError` when the data are not there.
    """
    if count < 0:
        raise ConfigError(f"--include_examples needs a number of rows, 0 or more, but got {count}.")
    if count == 0:
        return ()
    if artifact.run is None or artifact.report is None:
        raise ConfigError("--include_examples needs the run folder, whose config.yaml names the data.")
    fields = json.loads((artifact.folder / "config.json").read_text(encoding="utf-8"))
    said = SimpleNamespace(**{"num_labels": len(fields.get("id2label") or "01"), **fields})
    task, splits = task_of(artifact.report).answering_by(said), run_splits(artifact.run)
    rows, _ = spread(splits.test, task.inputs, count)
    shown = splits.test.select(rows)
    contents = [task.inputs.show(value) for value in task.inputs.values(shown)]
    names = [task.output.say(target, splits.labels) for target in task.output.gather(shown["label"][:])]
    return tuple(_example(content, name, i) for i, (content, name) in enumerate(zip(contents, names, strict=True), 1))


def _example(content: str | PILImage.Image, label: str, number: int) -> Example:
    if isinstance(content, str):
        return Example(label, shorten(content, _TEXT_CHARACTERS, 6)[0], None, None)
    image = content.convert("RGB")
    image.thumbnail((_PIXELS, _PIXELS))
    bare = PILImage.frombytes("RGB", image.size, image.tobytes())  # pixels alone: no EXIF, no comments
    return Example(label, None, bare, f"examples/{number}.png")
