"""What `hftl --help` and `hftl VERB --help` say."""

import textwrap
from collections.abc import Callable
from dataclasses import dataclass

from hftl.config import OWN_FLAGS
from hftl.flags import Flags


WIDTH = 119  # columns


@dataclass(frozen=True)
class Verb:
    """A word after `hftl`."""

    run: Callable[[list[str], Flags], None]
    usage: str
    summary: str
    example: str
    flags: dict[str, str]
    training: bool = False  # takes every field of TrainingArguments as well


def usage(verbs: dict[str, Verb]) -> str:
    """Return the text of `hftl --help`."""
    width = max(len(v) for v in verbs)
    lines = [f"  {name.ljust(width)}  {verb.summary}" for name, verb in verbs.items()]
    return "\n".join(
        [
            "hftl: adapt any Hugging Face model to your data, and know that it worked.", "",
            "usage: hftl VERB ... [--json]", "", *lines, "",
            "hftl VERB --help explains a verb. Example:", f"  {verbs['train'].example}",
        ]
    )  # fmt: skip


def verb_help(verb: Verb) -> str:
    """Return the text of `hftl VERB --help`: every flag with its values and its default, in lines of 119 columns."""
    column = max(len(name) for name in verb.flags) + 6
    lines = [_wrapped(f"  --{name}".ljust(column), f"{text}{_values(name)}") for name, text in verb.flags.items()]
    more = []
    if verb.training:
        more = [
            "", "Every field of transformers.TrainingArguments works too, such as --learning_rate, --num_train_epochs,",
            "--per_device_train_batch_size, --gradient_accumulation_steps, --warmup_steps, --bf16, --report_to.",
        ]  # fmt: skip
    return "\n".join(
        [f"usage: {verb.usage}", "", verb.summary, "", *lines, *more, "", "Example:", f"  {verb.example}"]
    )


def _wrapped(begin: str, text: str) -> str:
    """Return `text` after `begin`, its further lines as far to the right; no break at a no-break space."""
    lines = textwrap.wrap(text, WIDTH - len(begin), break_on_hyphens=False, break_long_words=False)
    return begin + ("\n" + " " * len(begin)).join(lines).replace("\u00a0", " ")


def _values(name: str) -> str:
    """What the flag takes and what it is when not given, as its field says; "" where the help text says it all."""
    if name not in OWN_FLAGS:
        return ""
    field = OWN_FLAGS[name]
    default, choices = field.default, field.metadata["choices"]
    if field.metadata["kind"] is bool:
        default, choices = "on" if default else "off", ("on", "off")
    found = "|".join(choices)
    if default is not None:
        found += f"{'; ' if found else ''}default: {default}"
    return f" [{found}]".replace("; ", ";\u00a0").replace(": ", ":\u00a0") if found else ""
