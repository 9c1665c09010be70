"""hftl: adapt any Hugging Face model to your data, and know that it worked."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


__version__ = "0.1.0"

# Public names are imported when first used: `import hftl` and `hftl --help` stay fast. `python -m tests.write_stubs` tells
# type checkers of them.
_PUBLIC = {
    "adapt": "hftl.adapt",
    "plan": "hftl.adapt",
    "Result": "hftl.adapt",
    "load": "hftl.predict",
    "doctor": "hftl.doctor",
    "export": "hftl.export",
    "pick": "hftl.selection.pick",
    "push_to_hub": "hftl.publishing.hub",
    "launch_demo": "hftl.demo.app",
    "compare": "hftl.selection.compare",
    "curve": "hftl.selection.curve",
    "Predictor": "hftl.predict",
    "Prediction": "hftl.predict",
    "TASKS": "hftl.tasks",
    "METHODS": "hftl.methods",
    "DataConfig": "hftl.config",
    "ModelConfig": "hftl.config",
    "MethodConfig": "hftl.config",
    "RunConfig": "hftl.config",
    "HftlError": "hftl.errors",
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'hftl' has no attribute {name!r}")
    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value  # `hftl.adapt` is the function, though a module of that name exists
    return value


def __dir__() -> list[str]:
    return [*globals(), *_PUBLIC]


class _Package(ModuleType):
    """Keeps `hftl.adapt`, `hftl.doctor` and `hftl.export` the functions: importing the modules would otherwise replace them."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("adapt", "doctor", "export") and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
