"""An adapter that is published alone: the Hub has its base model, the labels come along."""

import json
from pathlib import Path

from hftl.errors import ConfigError
from hftl.publishing.copying import copy_file, model_files
from hftl.publishing.public_report import hub_base, hub_commit, public_name
from hftl.run_data import Artifact


def write_adapter_alone(artifact: Artifact, adapter: Path, folder: Path) -> None:
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
    for path in model_files(artifact.folder, weights=False):  # labels and sizes in config.json; the processor
        copy_file(path, folder / path.name)
    fields = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    fields["base_model_name_or_path"] = base
    fields["revision"] = hub_commit(model)
    (folder / "adapter_config.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
    copy_file(adapter / "adapter_model.safetensors", folder / "adapter_model.safetensors")
