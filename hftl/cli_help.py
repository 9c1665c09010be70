"""What `hftl --help` and `hftl VERB --help` say."""

from collections.abc import Callable
from dataclasses import dataclass

from hftl.flags import Flags


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
    """Return the text of `hftl VERB --help`."""
    width = max(len(name) for name in verb.flags) + 2
    lines = [f"  --{name.ljust(width)}{text}" for name, text in verb.flags.items()]
    more = []
    if verb.training:
        more = [
            "", "Every field of transformers.TrainingArguments works too, such as --learning_rate, --num_train_epochs,",
            "--per_device_train_batch_size, --gradient_accumulation_steps, --warmup_steps, --bf16, --report_to.",
        ]  # fmt: skip
    return "\n".join(
        [f"usage: {verb.usage}", "", verb.summary, "", *lines, *more, "", "Example:", f"  {verb.example}"]
    )
