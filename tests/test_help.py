"""What `--help` says, how the words of a line are read, and the verbs that list what there is."""

import re

import pytest

from hftl.cli import VERBS
from hftl.cli.command import NAMES_ONLY, flag_names, read_words
from hftl.config import OWN_FLAGS, TASK_NAMES
from hftl.errors import ConfigError
from hftl.methods import METHODS
from hftl.tasks import TASKS
from tests.command import hftl, shell


SWITCHES = {"json", "strict", "no_flip", "evidence", "overwrite", "resume"}


@pytest.mark.parametrize("flag", ["--help", "-h", "help"])
def test_help(capsys, flag):
    done = hftl(capsys, flag)
    assert done.code == 0
    assert done.err == ""
    assert all(verb in done.out for verb in VERBS)


def test_bare_command_shows_usage_on_stderr(capsys):
    done = hftl(capsys)
    assert (done.code, done.out) == (2, "")
    assert "usage: hftl VERB" in done.err


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb(capsys, verb):
    done = hftl(capsys, verb, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"usage: hftl {verb} ")
    assert "None" not in done.out.splitlines()[0]
    flags = flag_names(VERBS[verb])
    assert "json" in flags
    assert all(f"--{flag}" in done.out for flag in flags)
    assert done.out.splitlines()[-1].startswith(f"  hftl {verb} "), "an example comes last"


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_wrapped_and_aligned(capsys, verb):
    text, _, names = hftl(capsys, verb, "--help").out.partition(NAMES_ONLY)
    assert max(map(len, names.splitlines()), default=0) <= 119
    lines = text.partition("Example:")[0].splitlines()
    assert max(map(len, lines)) <= 119
    flags = [line for line in lines if line.startswith("  --")]
    columns = {len(re.match(r"  --\w+ +", line)[0]) for line in flags}
    assert len(columns) == 1
    further = [line for line in lines if line.startswith("    ")]
    assert {len(line) - len(line.lstrip()) for line in further} <= columns


def test_help_shows_values_and_defaults(capsys):
    text = hftl(capsys, "train", "--help").out
    said = {line.split()[0]: line for line in re.sub(r"\n {5,}", " ", text).splitlines() if line.startswith("  --")}
    for name, field in OWN_FLAGS.items():
        found = re.findall(r" \[(.*?)\]$", said[f"--{name}"])
        if field.metadata["kind"] is bool:
            assert found == [f"on|off; default: {'on' if field.default else 'off'}"], name
        elif name == "method":
            assert found == [", ".join(METHODS)]
        elif field.metadata["choices"]:
            choices, default = field.metadata["choices"], field.default
            joined = "|".join(choices) if len("|".join(choices)) <= 40 else ", ".join(choices)
            assert found == [joined if default is None else f"{joined}; default: {default}"], name
        else:
            assert found == ([] if field.default is None else [f"default: {field.default}"]), name
    assert said["--evidence"].endswith("[full|quick|off; default: full]")
    assert said["--seeds"].endswith("[default: 1]")
    assert "[" not in said["--json"]


def test_help_of_train_names_the_trainers_flags(capsys):
    assert "--learning_rate" in hftl(capsys, "train", "--help").out


def test_version(capsys):
    import hftl as package

    assert hftl(capsys, "--version").out.strip() == package.__version__


def test_help_imports_nothing_heavy(tmp_path):
    code = (
        "import sys; from hftl.cli import run_command\n"
        "assert run_command(['--help']) == 0 and run_command(['train', '--help']) == 0 and run_command([]) == 2\n"
        "assert run_command(['plan', '--help']) == 0\n"
        "assert run_command(['tasks', '--json']) == 0 and run_command(['methods']) == 0\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'peft', 'sklearn', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = shell(["-c", code], tmp_path)
    assert done.code == 0, done.err


def test_python_m_hftl(tmp_path):
    done = shell(["-m", "hftl", "--help"], tmp_path)
    assert done.code == 0
    assert "usage: hftl VERB" in done.out
    assert shell(["-m", "hftl"], tmp_path).code == 2


@pytest.mark.parametrize(
    ("words", "positional", "flags"),
    [
        (["a", "--x", "1"], ["a"], {"x": ["1"]}),
        (["--x=1", "a"], ["a"], {"x": ["1"]}),
        (["--x="], [], {"x": [""]}),
        (["--x", "1", "2"], [], {"x": ["1", "2"]}),
        (["--no-flip", "a"], ["a"], {"no_flip": []}),
        (["--strict", "false", "a"], ["a"], {"strict": ["false"]}),
        (["--json", "a"], ["a"], {"json": []}),
        (["--x", "-1"], [], {"x": ["-1"]}),
        (["--x", "-.5"], [], {"x": ["-.5"]}),
        (["a", "--", "--x", "-y"], ["a", "--x", "-y"], {}),
        (["--x", "1", "--", "b"], ["b"], {"x": ["1"]}),
        (["--json", "run", "off"], ["run", "off"], {"json": []}),
    ],
)
def test_words(words, positional, flags):
    assert read_words(words, SWITCHES) == (positional, flags)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["text-classification", "--evidence", "maybe"], "--evidence is full or quick or off, not 'maybe'."),
        (["--evidence", "maybe", "text-classification"], "--evidence is full or quick or off, not 'maybe'."),
        (["--no-flip", "nope", "c.yaml"], "--no_flip is on or off, not 'nope'."),
        (["--overwrite", "text-classification", "--resume", "2"], "--resume is on or off, not '2'."),
    ],
)
def test_a_wrong_word_after_a_switch(words, says):
    with pytest.raises(ConfigError, match=re.escape(says)):
        read_words(words, SWITCHES, one_target=True)
    assert len(read_words(words, SWITCHES)[0]) == 2  # of a verb that takes several words it may be one of them


@pytest.mark.parametrize(
    "words", [["--overwrite", "t.yaml"], ["--evidence", "off", "t.yaml"], ["--json", "t.yaml"], ["--resume", "t"]]
)
def test_a_target_after_a_switch(words):
    assert read_words(words, SWITCHES, one_target=True)[0] == words[-1:]


def test_a_needed_word_may_follow_a_flag(capsys):
    assert "nosuch is neither a folder" in hftl(capsys, "export", "--format", "onnx", "nosuch").err
    assert "There is no run folder nosuch" in hftl(capsys, "push", "--language", "en", "nosuch", "me/name").err
    assert (
        "--format needs one value, but got 'onnx' 'more'"
        in hftl(capsys, "export", "a", "--format", "onnx", "more").err
    )


# Listings


@pytest.mark.parametrize("verb", ["tasks", "methods", "models", "samples"])
def test_listings(capsys, verb):
    done = hftl(capsys, verb, "--json")
    assert (done.code, done.err) == (0, "")
    assert len(done.out.splitlines()) == 1
    assert isinstance(done.json, list)
    assert all(isinstance(row, dict) and row["name"] for row in done.json)
    plain = hftl(capsys, verb)
    assert plain.code == 0
    assert all(row["name"] in plain.out for row in done.json)


def test_light_names_equal_the_real_ones():
    assert list(TASK_NAMES) == list(TASKS)
    assert {name: task.summary for name, task in TASKS.items()} == TASK_NAMES


@pytest.mark.parametrize("verb", ["samples", "methods"])
def test_json_that_is_off(capsys, verb):
    assert not hftl(capsys, verb, "--json", "false").out.startswith("[")
    assert hftl(capsys, verb, "--json=1").json
    assert hftl(capsys, verb, "--json=maybe").code == 2
