"""The methods: which weights learn, when, at which rate. To add one, write its file and add its line to `METHODS`."""

from hftl.config import TASK_KINDS, MethodConfig, RunConfig
from hftl.errors import ConfigError, did_you_mean
from hftl.methods.auto import AUTO
from hftl.methods.contrastive import CONTRASTIVE
from hftl.methods.full import FULL
from hftl.methods.gradual import GRADUAL
from hftl.methods.head import HEAD
from hftl.methods.lora import LORA
from hftl.methods.plan import Loaded, Method
from hftl.methods.probe import PROBE
from hftl.methods.wise import WISE


METHODS: dict[str, Method] = {
    method.name: method for method in (AUTO, PROBE, HEAD, CONTRASTIVE, LORA, FULL, GRADUAL, WISE)
}
FROZEN_BODY = tuple(name for name, method in METHODS.items() if method.frozen_body)
MAY_POOL = tuple(name for name, method in METHODS.items() if method.may_pool)
OF_METHODS = frozenset(flag for method in METHODS.values() for flag in method.flags)  # flags that not every one reads
_OF_INPUTS = {  # flags that only rows of one kind have
    "image": ("image_column", "image_size", "no_flip"),
    "text": ("text_column", "text_pair_column", "max_seq_length"),
}
_OF_LORA = ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules")
_OF_STEPS = (  # training flags that a method without steps by gradient leaves unread
    "learning_rate num_train_epochs max_steps warmup_steps warmup_ratio weight_decay lr_scheduler_type optim "
    "per_device_train_batch_size gradient_accumulation_steps max_grad_norm label_smoothing_factor"
)


def get_method(name: str) -> Method:
    """Return the method called `name`. Raises `ConfigError` naming the ones there are."""
    if name not in METHODS:
        raise ConfigError(f"There is no method {name!r}; there are {', '.join(METHODS)}.{did_you_mean(name, METHODS)}")
    return METHODS[name]


def check_name(name: object) -> None:
    """Raise `ConfigError` for a method that there is not. None is the task's own default."""
    if name is not None:
        get_method(str(name))


def check_method(config: MethodConfig, loaded: Loaded) -> None:
    """Raise `ConfigError` when the method cannot be used on the model. It costs no forward pass."""
    get_method(str(config.method)).refuse(loaded, config)


def _check_readers(config: RunConfig) -> None:
    method, name, usual = config.method, config.method.method, MethodConfig()
    for flag in sorted(OF_METHODS):
        readers = [one.name for one in METHODS.values() if flag in one.flags]
        if getattr(method, flag) != getattr(usual, flag) and name not in readers:
            raise ConfigError(f"--{flag} is for --method {' and '.join(readers)}, not for {name}.")
    kind = "image" if TASK_KINDS[config.task] == "image" else "text"
    given = vars(config.data) | vars(config.model) | vars(config.method)
    other = "text" if kind == "image" else "image"
    for flag in _OF_INPUTS[other]:
        if given[flag] not in (None, False):
            raise ConfigError(f"--{flag} is for {other}s, and {config.task} reads {kind}s. Leave it out.")


def check_combination(config: RunConfig) -> None:
    """Raise `ConfigError` for a flag that task and method do not read, or that contradicts another."""
    _check_readers(config)
    method, name = config.method, config.method.method
    if method.thaw_every is not None and "num_train_epochs" in config.training:
        raise ConfigError("--thaw_every sets the epochs of each stage, --num_train_epochs shares them out: give one.")
    if method.init_head == "random" and get_method(str(name)).needs_probe:
        raise ConfigError(f"--init_head random makes no sense with --method {name}, which is made of the probe.")
    group, size = get_method(str(name)).group, config.training.get("per_device_train_batch_size", 0)
    if size % group:
        raise ConfigError(f"--per_device_train_batch_size is a multiple of {group}, the rows that {name} compares.")
    if config.data.draw_seed is not None and config.data.max_train_samples is None:
        raise ConfigError("--draw_seed is for the rows that --max_train_samples draws: give that one too, or neither.")
    parts = {"control": config.control != "none", "retain": config.retain is not None, "keep": method.keep is not None}
    for flag, given in parts.items():
        if given and not config.proves:
            raise ConfigError(
                f"--{flag} is a part of the evidence, which --evidence off skips: leave one of them out."
            )


def unread_flags(config: RunConfig) -> list[str]:
    """Say which flags the method leaves unread: those of LoRA, and of training where it takes no steps by gradient."""
    method, usual = get_method(str(config.method.method)), MethodConfig()
    unread = [f"--{flag}" for flag in _OF_STEPS.split() if flag in config.training]
    notes = []
    if unread and not (method.by_gradient or method is AUTO):
        notes.append(f"Nothing reads {' and '.join(unread)}: {method.name} takes no steps by gradient.")
    given = [f"--{flag}" for flag in _OF_LORA if getattr(config.method, flag) != getattr(usual, flag)]
    if given and method not in (LORA, AUTO):
        notes.append(f"Nothing reads {' and '.join(given)}: {method.name} uses no LoRA.")
    return notes
