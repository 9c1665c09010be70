"""What the shell is offered, how help is grouped, and which values reach a verb."""

import dataclasses

import pytest
from transformers import TrainingArguments

from hftl.cli import VERBS, main
from hftl.cli.command import PANELS, flag_names
from hftl.config import ALIASES, OWN_FLAGS, TASK_NAMES
from hftl.errors import ConfigError
from hftl.methods import METHODS
from hftl.values import trainer_fields
from tests.command import hftl, shell


FIELDS = {field.name for field in dataclasses.fields(TrainingArguments) if field.init}


def completed(line: str, capsys, monkeypatch) -> list[str]:
    """What bash offers for the last word of a line."""
    monkeypatch.setenv("_HFTL_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    with pytest.raises(SystemExit) as done:
        main([])
    assert not done.value.code
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("hftl pr", ["predict"]),
        ("hftl train ", list(TASK_NAMES)),
        ("hftl train --learning", ["--learning_rate"]),
        ("hftl train --meth", ["--method"]),
        ("hftl train text-classification --method ", list(METHODS)),
        ("hftl train text-classification --pooling n", ["native"]),
        ("hftl plan --evidence q", ["quick"]),
        ("hftl train --bf16 ", ["true", "false"]),
        ("hftl train --push_to", []),  # refused, hence not offered
        ("hftl push --dry", ["--dry_run"]),
        ("hftl nothing --dry", []),
    ],
)
def test_words_that_are_offered(line, offered, capsys, monkeypatch):
    assert completed(line, capsys, monkeypatch) == offered


def test_the_script_for_a_shell(tmp_path):
    code = "import os; os.environ['_HFTL_COMPLETE'] = 'source_zsh'; from hftl.cli import main; main([])"
    done = shell(["-c", code], tmp_path)
    assert done.code == 0, done.err
    assert "#compdef hftl" in done.out


def test_completion_imports_nothing_heavy(tmp_path):
    code = (
        "import os, sys; from hftl.cli import main\n"
        "os.environ.update(_HFTL_COMPLETE='complete_bash', COMP_WORDS='hftl train --lea', COMP_CWORD='2')\n"
        "try: main([])\n"
        "finally: print(*{'torch', 'transformers', 'datasets', 'pandas'} & set(sys.modules))"
    )
    done = shell(["-c", code], tmp_path)
    assert done.out.split() == ["--learning_rate"], done.err


def test_the_names_of_the_trainers_flags_are_those_of_the_class(capsys):
    assert set(trainer_fields()) == FIELDS
    text = hftl(capsys, "train", "--help").out.split()
    assert {f"--{name}" for name in FIELDS} <= set(text)


def test_verbs_and_flags_are_grouped(capsys):
    lines = hftl(capsys, "--help").out.splitlines()
    assert [line[:-1] for line in lines if line.endswith(":") and not line.startswith(" ")] == [*PANELS, "Flags"]
    assert {verb.rich_help_panel for verb in VERBS.values()} == set(PANELS)
    lines = hftl(capsys, "train", "--help").out.splitlines()
    assert lines.index("Data:") < lines.index("Method:") < lines.index("Run:")
    assert any(line.startswith("  --pooling ") for line in lines[lines.index("Method:") : lines.index("Run:")])


@pytest.mark.parametrize("verb", ["train", "push"])
def test_names_stay_complete_on_a_narrow_terminal(verb, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    text = hftl(capsys, verb, "--help").out
    assert {f"--{name}" for name in flag_names(VERBS[verb]) if name not in ALIASES} <= set(text.split())
    assert "…" not in text
    assert max(map(len, text.partition("Example:")[0].splitlines())) <= 60


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["--evidence", "off", "t.yaml"], {"evidence": "off"}),
        (["--evidence=maybe", "t.yaml"], {"evidence": "maybe"}),  # refused where the types are checked
        (["--no-flip", "t.yaml"], {"no_flip": "true"}),
        (["--bf16", "false", "t.yaml"], {"bf16": "false"}),
        (["--bf16", "t.yaml"], {"bf16": "true"}),
        (["--learning-rate=1e-4", "t.yaml"], {"learning_rate": "1e-4"}),
        (["t.yaml", "--lora_target_modules", "q", "v"], {"lora_target_modules": ["q", "v"]}),
        (["t.yaml", "--include_for_metrics", "loss", "inputs", "--tf32"], {
            "include_for_metrics": ["loss", "inputs"], "tf32": "true"}),
        (["t.yaml", "--model_name_or_path", "a", "--model", "b"], {"model": "b"}),
        (["t.yaml", "--max_steps", "-1"], {"max_steps": "-1"}),
        (["t.yaml", "--run_name="], {"run_name": ""}),
        (["--json", "t.yaml"], {"json": True}),
        (["--json=off", "t.yaml"], {}),
    ],
)  # fmt: skip
def test_values_that_reach_train(words, values):
    given = VERBS["train"].make_context("train", list(words)).params
    assert given.pop("target") == "t.yaml"
    assert {
        k: list(v) if isinstance(v, tuple) else v for k, v in given.items() if v not in (None, False, ())
    } == values


@pytest.mark.parametrize(
    ("words", "texts", "strict"),
    [
        (["run", "--strict", "off"], (), False),
        (["--strict", "run", "no"], ("no",), True),  # a text
        (["run", "--strict=yes", "a"], ("a",), True),
        (["run", "-5 degrees", "--", "--really"], ("-5 degrees", "--really"), False),
        (["run", "--help-me-not", "--", "--help"], None, None),
    ],
)
def test_words_that_reach_predict(words, texts, strict):
    if texts is None:
        with pytest.raises(ConfigError, match="no flag --help_me_not"):
            VERBS["predict"].make_context("predict", words)
        return
    given = VERBS["predict"].make_context("predict", words).params
    assert (given["model"], tuple(given["inputs"] or ()), given["strict"]) == ("run", texts, strict)


def test_every_flag_of_a_config_is_a_flag_of_train():
    assert set(OWN_FLAGS) | set(ALIASES) | FIELDS <= set(flag_names(VERBS["train"]))
    assert set(flag_names(VERBS["plan"])) == set(flag_names(VERBS["train"]))
