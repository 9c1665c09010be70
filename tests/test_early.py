"""What is wrong with a command line's paths, names and files is said before torch and its kin are imported."""

import json
import re
import shutil

import pytest

from hftl.config import TASK_KINDS, TASK_SCORES
from hftl.tasks import TASKS, combinations
from hftl.values import trainer_fields, training_values
from tests.command import environment, shell, text_csv, write_csv
from tests.small_data import image_folder
from tests.tiny import build


HEAVY = ("torch", "transformers", "datasets", "pandas", "scipy", "sklearn", "peft", "accelerate", "numpy")
# Each line runs in one process whose imports of these fail.
RUNNER = f"""
import importlib.machinery, io, json, sys
from contextlib import redirect_stderr

class Refuse:
    def find_spec(self, name, path=None, target=None):
        spec = importlib.machinery.PathFinder.find_spec(name, path) if name in {HEAVY} else None
        if spec is not None:
            spec.loader = self
        return spec

    def create_module(self, spec):
        raise SystemExit(f"imports {{spec.name}}")

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Refuse())
from hftl.cli import run_command

answers = []
for words in json.loads(sys.argv[1]):
    said = io.StringIO()
    with redirect_stderr(said):
        try:
            code = run_command(words)
        except SystemExit as heavy:
            code = str(heavy)
    answers.append((code, said.getvalue()))
print(json.dumps(answers))
"""
TRAIN = "train text-classification --data t.csv --model bert"
CASES = {
    f"{TRAIN} --data nosuch.csv": "no such file or folder: 'nosuch.csv'",
    f"{TRAIN} --data t.cvs": "Did you mean 't.csv'?",
    f"{TRAIN} --data no/such/folder": "no folder 'no/such' either",
    "train --data sample:digit": "There is no sample 'digit'; there are wikipedia-topics",
    "doctor sample:digit": "Did you mean 'digits'?",
    "train text-classification": "No data was given",
    f"{TRAIN} --metric_for_best_model acuracy": "no such score here. There are loss, accuracy, macro_f1",
    f"{TRAIN} --data x.docx": "cannot read files of the kind .docx",
    f"{TRAIN} --data x.conll": "(.conll and .txt hold words: token-classification)",
    f"{TRAIN} --data nothing": "the folder 'nothing' holds no files of data",
    f"{TRAIN} --data comma.csv": "row 3 of the file has 3 cells, and the header has 2",
    f"{TRAIN} --data t.csv --label_column topic": "label_column: there is no column 'topic'; the columns are: text, label.",
    "plan --data t.csv --label_columns a,lable": "label_columns: there is no column 'a'",
    "eval run --data t.csv --text_column txt": "text_column: there is no column 'txt'; the columns are: text, label. Did you mean",
    f"{TRAIN} --data me/data": "no such file 'me/data', and the Hub cannot be reached",
    "compare --data t.csv --methods prob,full": "Did you mean 'probe'?",
    f"{TRAIN} --data pictures": "use the task image-classification",
    f"{TRAIN} --data splits": "empty.csv is empty",
    f"{TRAIN} --data empty.csv": "empty.csv is empty",
    "doctor zeros.csv": "zeros.csv holds zero bytes",
    "predict run --data latin.csv": "latin.csv is not in UTF-8",
    "eval run --data twice.csv": "twice.csv has two columns called 'text'",
    "plan text-classification --data cut.json": "cut.json cannot be parsed",
    "compare text-classification --data cut.jsonl": "cut.jsonl cannot be parsed: line 2",
    "curve text-classification --data deep.json": "nested too deeply",
    f"{TRAIN} --data {'x' * 300}.csv": "cannot be the name of a file or folder",
    f"{TRAIN} --data ~nobody-of-that-name/x.csv": "cannot be the name of a file or folder",
    f"{TRAIN} --model nothing": "nothing is not a model folder: it has no config.json",
    f"{TRAIN} --model broken": "config.json is no valid JSON",
    f"{TRAIN} --model ./bertt": "There is no folder ./bertt",
    f"{TRAIN} --model efficientnet-lit0": "Did you mean 'efficientnet-lite0'?",
    f"{TRAIN} --model a!b": "neither a folder nor a valid Hub id",
    "pick text-classification --data nosuch.csv": "no such file",
    f"{TRAIN} --retain nosuch.csv": "no such file or folder: 'nosuch.csv'",
    f"{TRAIN} --group_column person": "group_column: there is no column 'person'",
    f"{TRAIN} --report_to tensorbord": "--report_to is one of azure_ml, comet_ml",
    f"{TRAIN} --method full --budget 10m": "--budget is for --method auto, not for full.",
    f"{TRAIN} --method probe --image_size 64": "--image_size is for images, and text-classification reads texts.",
    f"{TRAIN} --evidence maybe": "--evidence is full or quick or off, not 'maybe'",
    "train --data t.csv --evidence maybe": "--evidence is full or quick or off, not 'maybe'",
    "train image-classification --data pictures --model bert": "bert is a bert checkpoint, which cannot do image-classification",
    f"{TRAIN} --model vit": "vit is a vit checkpoint, which cannot do text-classification",
    f"{TRAIN} --model pointer": "model.safetensors is a pointer of Git LFS",
    f"{TRAIN} --model half": "half has a broken .safetensors file (model.safetensors is cut off, or is none).",
    f"{TRAIN} --model cut": "tokenizer.json is no valid JSON: its end is missing",
    f"{TRAIN} --model wide": "wide/config.json has hidden_size 'big', which cannot be.",
    "train image-classification --data pictures --model flat": "preprocessor_config.json has image_std [0, 0, 0], which cannot be.",
    "train image-segmentation --data halves --model bert": "1 mask has no image, such as b.png",
    "train image-segmentation --data alone --model bert": "there are masks, and no folder of images",
    "train image-classification --data pictures --model bare": "bare has no preprocessor_config.json",
    "train image-classification --data pictures --model grey": "grey reads images with num_channels 1",
    f"{TRAIN} --model efficientnet-lite0": "which cannot do text-classification: it reads images",
    "pick text-classification --data t.csv --shortlist huge": "--shortlist is one of small, base",
    "pick text-classification --data t.csv --licence weird": "--licence is permissive, or an identifier of the Hub",
    "pick text-classification --data t.csv --language zz": "No model of the table reads the language 'zz'",
    "pick text-classification --data t.csv --models ./a,./b": "No model could be used. There is no folder ./a.",
    "curve --data t.csv --sizes 2": "--sizes is a number from 3 to 20, not 2.",
    "curve --data t.csv --draws 0": "--draws is a number from 1 to 20, not 0.",
    "curve --data t.csv --method probe,ful": "Did you mean 'full'?",
    "export run --format onxx": "hftl exports to onnx, not to 'onxx'",
    "export run --int8 --max_drop 5": "--max_drop 5.0 is not a share",
    f"{TRAIN} --output_dir taken": "taken exists already",
    f"{TRAIN} --method prob": "Did you mean 'probe'?",
    f"{TRAIN} --learning_rte 1": "Did you mean 'learning_rate'?",
    f"{TRAIN} --learning_rate fast": "--learning_rate needs a number, but got 'fast'",
    f"{TRAIN} --num_train_epochs 0": "--num_train_epochs is a number from 0 (not itself)",
    f"{TRAIN} --bf16 perhaps": "--bf16 is on or off",
    f"{TRAIN} --eval_strategy epochs": "--eval_strategy is one of no, steps, epoch, not 'epochs'. Did you mean 'epoch'?",
    f"{TRAIN} --lr_scheduler_type cosinus": "Did you mean 'cosine'?",
    f"{TRAIN} --train_sampling_strategy any": "group_by_length",
    f"{TRAIN} --seed 1.5": "--seed needs a whole number",
    "predict nosuch x": "nosuch is neither a folder",
    "predict nothing x": "it has no config.json",
    "predict run --data t.csv --output no/out.csv": "there is no folder no",
    "predict run x --top_k 0": "--top_k is a number from 1 on",
    "eval nosuch --data t.csv": "nosuch is neither a folder",
    "export nosuch": "nosuch is neither a folder",
    "push nosuch me/name": "There is no run folder nosuch",
    "train nosuch.yaml": "There is no config file nosuch.yaml",
    "job --engine slrum r.yaml --output_dir j": "There is no engine 'slrum'; there are hf, slurm, sky, kubernetes, ray. Did",
    "job --engine hf nosuch.yaml --output_dir j": "There is no config file nosuch.yaml",
    "job --engine hf run --output_dir j": "There is no config file run",
    "job --engine hf list.yaml --output_dir j": "must be a mapping of flags to values with a `task:`",
    "job --engine hf wrong.yaml --output_dir j": "There is no flag --learning_rte. Did you mean 'learning_rate'?",
    "job --engine hf gone.yaml --output_dir j": "no such file or folder: 'gone.csv'",
    "job --engine hf r.yaml --output_dir taken": "taken exists already",
    "job --engine hf r.yaml --output_dir j --flavor l4": "HF Jobs have no flavour 'l4'; there are cpu-basic",
    "job --engine ray r.yaml --output_dir j --time_limit soon": "--time_limit soon is no length of time",
    "job --engine ray r.yaml --output_dir j --nodes 0": "--nodes is a number from 1 on, not 0",
    "job r.yaml --output_dir j": "hftl job needs --engine",
    "job --engine ray --output_dir j": "hftl job needs one config.yaml of a run",
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    place = tmp_path_factory.mktemp("early")
    build("bert", place / "bert")
    build("vit", place / "vit")
    build("bert", place / "run" / "final", num_labels=3)
    changed = {"bert": ("pointer", "half", "cut", "wide"), "vit": ("bare", "grey", "flat")}
    for kind, name in ((kind, name) for kind, names in changed.items() for name in names):
        shutil.copytree(place / kind, place / name)
    (place / "pointer" / "model.safetensors").write_bytes(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n"
    )
    weights = place / "half" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    (place / "cut" / "tokenizer.json").write_bytes((place / "cut" / "tokenizer.json").read_bytes()[:-9])
    (place / "bare" / "preprocessor_config.json").unlink()
    fields = {
        "grey/config.json": {"num_channels": 1},
        "wide/config.json": {"hidden_size": "big"},
        "flat/preprocessor_config.json": {"image_std": [0, 0, 0]},
    }
    for name, changes in fields.items():
        (place / name).write_text(json.dumps(json.loads((place / name).read_bytes()) | changes))
    text_csv(place / "t.csv")
    for name in ("nothing", "broken", "taken", "splits"):
        (place / name).mkdir()
    (place / "broken" / "config.json").write_text("{")
    (place / "taken" / "mine.txt").write_text("mine")
    text_csv(place / "splits" / "train.csv")
    (place / "splits" / "test_empty.csv").touch()
    (place / "splits" / "test_empty.csv").rename(place / "splits" / "dev_empty.csv")
    image_folder(place / "pictures", count=1)
    for path in ("halves/images/a.png", "halves/masks/a.png", "halves/masks/b.png", "alone/masks/a.png"):
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).touch()
    contents = {
        "x.docx": b"x", "x.conll": b"a\tO\n", "empty.csv": b"", "zeros.csv": b"\0" * 300, "latin.csv": b"text,label\n\xff,a\n",
        "twice.csv": b"text,text\na,b\n", "cut.json": b'{"text": [', "cut.jsonl": b'{"text": "a"}\n{"text\n',
        "deep.json": b"[" * 100_000, "comma.csv": b'text,label\n"a, b",c\nwell, good,c\n',
        "r.yaml": b"task: text-classification\ndata: t.csv\nmodel: ./bert\n", "list.yaml": b"- a\n",
        "wrong.yaml": b"task: text-classification\ndata: t.csv\nlearning_rte: 1\n",
        "gone.yaml": b"task: text-classification\ndata: gone.csv\n",
    }  # fmt: skip
    for name, content in contents.items():
        (place / name).write_bytes(content)
    lines = [command.split() for command in CASES]
    done = shell(["-c", RUNNER, json.dumps(lines)], place, environment(HFTL_CACHE=str(place / "cache")))
    assert done.code == 0, done.err
    return dict(zip(CASES, json.loads(done.out), strict=True)), sorted(path.name for path in place.iterdir())


@pytest.mark.parametrize("command", CASES)
def test_it_is_said_before_anything_heavy_is_imported(answers, command):
    code, said = answers[0][command]
    assert code == 2, (code, said)
    assert CASES[command] in said
    assert len(said.splitlines()) == 1
    assert said.startswith("error: ")


def test_nothing_is_left_behind(answers):
    assert not {name for name in answers[1] if name.startswith(("runs", "out", ".")) or "partial" in name}


def test_what_is_right_goes_on(answers, tmp_path):
    """The refusals above are not of everything."""
    write_csv(tmp_path / "t.csv", [("a", "b")])
    lines = [["train", "text-classification", "--data", "t.csv"], ["eval", str(tmp_path), "--data", "me/data@main"]]
    (tmp_path / "cache" / "hub" / "datasets--me--data").mkdir(parents=True)
    build("bert", tmp_path / "final", num_labels=2)
    done = shell(["-c", RUNNER, json.dumps(lines)], tmp_path, environment(HF_HOME=str(tmp_path / "cache")))
    for code, _ in json.loads(done.out):
        assert re.match("imports (torch|transformers|datasets|pandas|numpy|scipy)", str(code))


def test_predicting_imports_no_more_than_it_needs(tmp_path):
    build("bert", tmp_path / "final", num_labels=2)
    code = (
        "import sys; from hftl.cli import run_command\n"
        f"assert run_command(['predict', {str(tmp_path)!r}, 'a text']) == 0\n"
        "heavy = {'sklearn', 'scipy.stats', 'transformers.trainer', 'gradio'} & set(sys.modules)\n"
        "heavy |= {m for m in sys.modules if m.startswith(('hftl.adapt', 'hftl.report.', 'hftl.evidence', 'hftl.export'))}\n"
        "assert not heavy, heavy"
    )
    done = shell(["-c", code], tmp_path)
    assert done.code == 0, done.err


def test_light_kinds_and_scores_equal_the_real_ones():
    assert {name: task.inputs.kind for name, task in TASKS.items()} == TASK_KINDS
    scores = {name: list(dict.fromkeys(s for t in combinations(name) for s in t.output.scores)) for name in TASKS}
    assert {name: sorted(names) for name, names in TASK_SCORES.items()} == {n: sorted(s) for n, s in scores.items()}


def test_values_of_training_flags():
    """They reach TrainingArguments as its own parser would read them."""
    typed = {
        "learning_rate": "1e-4", "per_device_train_batch_size": "8", "bf16": "off", "tf32": "false", "optim": "sgd",
        "lr_scheduler_kwargs": {"num_cycles": 2}, "include_for_metrics": ["inputs"], "eval_steps": 5,
        "report_to": ["none"], "run_name": "7", "optim_target_modules": "all-linear", "warmup_steps": 0.1,
        "debug": "underflow_overflow",
    }  # fmt: skip
    read = training_values(typed)
    assert read == {
        "learning_rate": 1e-4, "per_device_train_batch_size": 8, "bf16": False, "tf32": False, "optim": "sgd",
        "lr_scheduler_kwargs": '{"num_cycles": 2}', "include_for_metrics": ["inputs"], "eval_steps": 5.0,
        "report_to": ["none"], "run_name": "7", "optim_target_modules": "all-linear", "warmup_steps": 0.1,
        "debug": "underflow_overflow",
    }  # fmt: skip
    assert list(read) == list(typed)
    assert all(type(read[name]) is type(value) for name, value in {"eval_steps": 1.0, "bf16": True}.items())


def test_every_field_takes_its_own_default(tmp_path):
    from transformers import TrainingArguments

    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    for name in trainer_fields():
        value = getattr(arguments, name)
        plain = getattr(value, "value", value)
        if isinstance(plain, str | int | float | bool) and name != "include_num_input_tokens_seen":
            assert training_values({name: plain})[name] == plain, name
