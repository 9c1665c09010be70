"""Write the artifacts: `final/` for plain transformers, `adapter/` for peft, the card."""

import shutil
from pathlib import Path
from typing import Any

from peft import PeftModel

from hftl.config import read_yaml
from hftl.errors import ConfigError
from hftl.models import pooled
from hftl.models.load import Loaded
from hftl.paths import usual_modes
from hftl.publishing.card import CardOptions, card_text
from hftl.publishing.metadata import choose_license, known_license
from hftl.training.world import is_main_process


def merge_adapter(model: Any, adapter: Path, loaded: Loaded) -> Any:
    """Save a peft model's adapter, on rank 0, and return the merged plain model; any other one is returned as it is.

    The adapter names the base as the user did, and of a local folder only the last part: no path of the machine.
    """
    if not isinstance(model, PeftModel):
        return model
    base = Path(loaded.name).name if loaded.source == "folder" else loaded.name
    for config in model.peft_config.values():
        config.base_model_name_or_path = base
    if is_main_process():
        model.save_pretrained(str(adapter), save_embedding_layers=False)
        (adapter / "README.md").unlink(missing_ok=True)  # peft's template has nothing filled in
        usual_modes(adapter)
    return model.merge_and_unload()


def save_final(model: Any, loaded: Loaded, folder: Path) -> None:
    """Write weights (safetensors), config with labels, and processor; a pooled model brings its modelling file."""
    own = pooled.OWN_CLASSES.get(model.config.model_type)
    if own is not None:
        name = Path(pooled.__file__).name
        module = "modeling_" + name.removesuffix(".py")
        model.config.auto_map = {
            "AutoConfig": f"{module}.{own.config_class.__name__}",
            pooled.own_auto_model(own): f"{module}.{own.__name__}",
        }
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(pooled.__file__, folder / f"{module}.py")
    model.save_pretrained(folder)
    loaded.processor.save_pretrained(folder)
    usual_modes(folder)


def write_card(folder: Path, report: dict[str, Any]) -> None:
    """Write README.md of a finished run, before there is a repository: no Hub is asked, no row is in it.

    `folder` is final/; the licence is named when it can be carried over from the base model and the data.
    """
    try:
        licence = choose_license(*known_license(report, online=False))
    except ConfigError:  # `hftl push` asks for it
        licence = None
    path = folder.parent / "config.yaml"
    config = read_yaml(path) if path.is_file() else None
    options = CardOptions(
        licence=licence, has_adapter=False, has_config=config is not None, config_place="../config.yaml"
    )
    (folder / "README.md").write_text(card_text(report, options, config), encoding="utf-8", newline="\n")
