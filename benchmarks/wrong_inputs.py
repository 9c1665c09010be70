"""Wrong inputs by the hundred: verbs x kinds of damage x flags, seeded; counts how each was answered.

    python -m benchmarks.wrong_inputs                        # all of them; about half an hour on two cores
    python -m benchmarks.wrong_inputs --only deep_json,--warmup_steps --seed 7

Every case runs in a forked process of its own (the libraries are imported once), for at most 60 s of processor time.
An input is *answered* when the command ends with exit code 2, one `error:` line and nothing left behind; it *worked*
when the exit code is 0. Everything else is a fault: a stack trace, a hang, an untidy refusal.
"""

import argparse
import dataclasses
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import wrong_checkpoints, wrong_data
from benchmarks.wrong_runner import Case, run_all
from hftl.methods import METHODS


TASKS = {"text": "text-classification", "image": "image-classification"}


# ------------------------------------------------------------------------------------------------ what is damaged


def make_good(folder: Path) -> None:
    """Write the good data, checkpoints and runs that the cases spoil copies of."""
    from hftl.adapt import adapt
    from tests.command import text_csv
    from tests.tiny import build, tiny_images

    common = {"method": "probe", "evidence": False, "use_cpu": True, "seed": 0, "pooling": "native"}
    text_csv(folder / "t.csv")
    tiny_images(folder / "images", per_class=10)
    build("bert", folder / "model-text")
    build("vit", folder / "model-image")
    for kind, data in (("text", "t.csv"), ("image", "images")):
        where = {"data": str(folder / data), "model": str(folder / f"model-{kind}")}
        adapt(TASKS[kind], **where, output_dir=folder / f"run-{kind}", **common)
    Path(folder / "whole.yaml").write_text((folder / "run-text" / "config.yaml").read_text())


def verbs_on_data(kind: str, good: Path) -> dict[str, tuple[str, ...]]:
    """Command lines that read `{data}`, by verb."""
    run = str(good / f"run-{kind}")
    train = (TASKS[kind], "--data", "{data}", "--model", str(good / f"model-{kind}"))
    quick = ("--max_steps", "2", "--evidence", "off", "--output_dir", "out", "--use_cpu")
    return {
        "train": ("train", *train, "--method", "{method}", *quick),
        "plan": ("plan", *train, "--method", "{method}", "--use_cpu"),
        "doctor": ("doctor", "{data}"),
        "fix": ("doctor", "{data}", "--fix", "out"),
        "predict": ("predict", run, "--data", "{data}", "--output", "out.csv"),
        "eval": ("eval", run, "--data", "{data}"),
    }


def verbs_on_model(kind: str, good: Path) -> dict[str, tuple[str, ...]]:
    """Command lines that read `{model}` or `{run}`, by verb."""
    data = str(good / ("t.csv" if kind == "text" else "images"))
    one = "some day" if kind == "text" else str(next((good / "images").rglob("*.png")))
    train = (TASKS[kind], "--data", data, "--model", "{model}", "--method", "{method}")
    quick = ("--max_steps", "2", "--evidence", "off", "--output_dir", "out", "--use_cpu")
    return {
        "train": ("train", *train, *quick),
        "plan": ("plan", *train, "--use_cpu"),
        "predict": ("predict", "{run}", one),
        "eval": ("eval", "{run}", "--data", data),
        "export": ("export", "{run}", "--output_dir", "out"),
        "push": ("push", "{run}", "me/x", "--dry_run", "--license", "mit"),
    }


def data_cases() -> Iterator[Case]:
    """Every kind of damage to data, under every verb that reads data."""
    for kind, damages in (("text", wrong_data.TEXT), ("image", wrong_data.IMAGE)):
        for name, damage in damages.items():
            for verb in verbs_on_data(kind, Path()):
                for _ in range(2):
                    yield Case(name, verb, (kind, "data"), _damaged_data(kind, damage))


def _damaged_data(kind: str, damage: wrong_data.Damage) -> Callable[[Path, random.Random], dict[str, str]]:
    def prepare(good: Path, rng: random.Random) -> dict[str, str]:
        folder = Path("data").absolute()
        folder.mkdir()
        return {"data": damage(good / ("t.csv" if kind == "text" else "images"), folder, rng)}

    return prepare


def model_cases() -> Iterator[Case]:
    """Every kind of damage to a checkpoint, or to the model of a run, under every verb that reads one."""
    for kind, damages in (("text", wrong_checkpoints.TEXT), ("image", wrong_checkpoints.IMAGE)):
        for name, damage in {**wrong_checkpoints.ANY, **damages}.items():
            for verb in verbs_on_model(kind, Path()) if kind == "text" else ("train", "plan", "predict", "export"):
                for _ in range(1 if kind == "image" and name in wrong_checkpoints.ANY else 2):
                    yield Case(name, verb, (kind, "model"), _damaged_model(kind, damage))


def _damaged_model(kind: str, damage: wrong_checkpoints.Damage) -> Callable[[Path, random.Random], dict[str, str]]:
    def prepare(good: Path, rng: random.Random) -> dict[str, str]:
        shutil.copytree(good / f"model-{kind}", "model")
        shutil.copytree(good / f"run-{kind}", "run")
        state = rng.getstate()
        for folder in (Path("model"), Path("run/final")):  # spoilt alike
            rng.setstate(state)
            damage(folder, rng)
        pickle = ("--allow_pickle",) if Path("model/pytorch_model.bin").exists() and rng.random() < 0.7 else ()
        return {"model": str(Path("model").absolute()), "run": str(Path("run").absolute()), "more": " ".join(pickle)}

    return prepare


ODD_VALUES = ("", "-1", "0", "2", "1e309", "nan", "none", "null", "true", "maybe", "{", "[]", "[1, 2]", "{}", '{"a": 1}',
              "nope", "nope.json", "1e18", "-0.5", "a,b", "ä", "steps", "epoch", "no", "1.5", "tensorboard", "/")  # fmt: skip


def flag_cases(rng: random.Random) -> Iterator[Case]:
    """Every flag of training, and of hftl, with values that few of them take."""
    from transformers import TrainingArguments

    from hftl.cli import VERBS
    from hftl.cli.command import flag_names
    from hftl.config import OWN_FLAGS

    skipped = {"output_dir", "data", "model", "method", "torch_compile"}  # cases of their own; compiling takes minutes
    training = [f.name for f in dataclasses.fields(TrainingArguments) if f.init and not f.name.startswith("hub_")]
    for name in sorted({*training, *OWN_FLAGS} - skipped):
        for value in rng.sample(ODD_VALUES, 3):
            words = (f"--{name}={value}",) if rng.random() < 0.6 else (f"--{name}", value)
            yield Case(f"--{name}", "train", ("text", "data", *words), _whole_data)
    for verb, parts in VERBS.items():
        for name in () if verb in ("train", "plan", "demo") else flag_names(parts):
            value = rng.choice(ODD_VALUES)
            target = {"doctor": "{data}", "push": "{run}", "export": "{run}"}.get(verb, "{run}")
            first = () if verb in ("tasks", "methods", "models", "samples") else (target,)
            yield Case(f"--{name}", verb, ("line", verb, *first, f"--{name}={value}"), _whole_data)


def _whole_data(good: Path, rng: random.Random) -> dict[str, str]:
    return {"data": str(good / "t.csv"), "run": str(good / "run-text"), "model": str(good / "model-text")}


NAMES = ("x" * 300, "~nouser/x", "a\0b", "/" + "deep/" * 900 + "x", "", " ", "../" * 40, "/dev/null", "/proc/self/mem", "\udc80",
         "con:colon?*", "-x", "--", "sample:", "sample:nothing", "a@b@c", "name:config:more", "~", "/", ".", "x\ny", "'; rm -rf x")  # fmt: skip


def name_cases() -> Iterator[Case]:
    """Names that no file, folder, model or run can have, wherever one is asked for."""
    lines = {
        "--data": ("train", TASKS["text"], "--data", "{name}", "--model", "{model}"),
        "--model": ("train", TASKS["text"], "--data", "{data}", "--model", "{name}"),
        "--output_dir": ("train", TASKS["text"], "--data", "{data}", "--model", "{model}", "--method", "probe",
                         "--evidence", "off", "--output_dir", "{name}"),
        "yaml": ("train", "{name}.yaml"),
        "TASK": ("train", "{name}", "--data", "{data}"),
        "doctor": ("doctor", "{name}"),
        "--fix": ("doctor", "{data}", "--fix", "{name}"),
        "RUN": ("predict", "{name}", "a text"),
        "eval": ("eval", "{name}", "--data", "{data}"),
        "--output": ("predict", "{run}", "--data", "{data}", "--output", "{name}"),
        "export": ("export", "{name}"),
        "push": ("push", "{run}", "{name}", "--dry_run", "--license", "mit"),
    }  # fmt: skip
    for where, line in lines.items():
        for name in NAMES:
            yield Case(f"name at {where}", line[0], ("line", *(w.replace("{name}", name) for w in line)), _whole_data)


def yaml_cases() -> Iterator[Case]:
    """Config files that cannot be read, or say what cannot be."""
    for n in range(24):
        yield Case(
            "yaml",
            "plan" if n % 4 == 0 else "train",
            ("line", "plan" if n % 4 == 0 else "train", "c.yaml", "--output_dir", "out"),
            _bad_yaml,
        )


def _bad_yaml(good: Path, rng: random.Random) -> dict[str, str]:
    text = (good / "whole.yaml").read_text()
    body = rng.choice([
        (text + "# \u00e9t\u00e9\n").encode("latin-1"), text.encode("utf-16"), text.encode("utf-32"), b"a: " + b"[" * 3_000,
        b"{" * 3_000, b"\0" * 40, b"", b"- a\n- b\n", b"5", b"task: [a]\n", b"task: null\n", b"task: 5\ndata: x\n", text.encode() + b"seed: [1\n",
        text.encode() + b"nosuch: 1\n", text.encode() + b"learning_rate: {a: b}\n", b"task: text-classification\ndata: {a: b}\n",
        b"&a [*a, *a]\n", b"!!python/object/apply:os.system [touch ran]\n", text.encode() + b"model: [a, b]\n", b"task: text-classification\ndata: 5\n",
    ])  # fmt: skip
    Path("c.yaml").write_bytes(body)
    if rng.random() < 0.1:
        Path("c.yaml").chmod(0)
    return _whole_data(good, rng)


def run_cases() -> Iterator[Case]:
    """Run folders that were damaged after they were written."""
    for verb in ("predict", "eval", "export", "push"):
        for _ in range(6):
            yield Case("run folder", verb, ("text", "model"), _bad_run)


def _bad_run(good: Path, rng: random.Random) -> dict[str, str]:
    shutil.copytree(good / "run-text", "run")
    file = Path("run", rng.choice(["report.json", "config.yaml", "final/README.md", "final/config.json"]))
    body = rng.choice([b"", b"{}", b"[]", b"null", b"\0\0", b"{", b"a: [", None])
    if body is None:
        file.unlink()
    else:
        file.write_bytes(body)
    return {**_whole_data(good, rng), "run": str(Path("run").absolute())}


def python_cases(good: Path) -> Iterator[Case]:
    """Calls from Python that no type checker would let pass. They should raise an `HftlError`."""
    import pandas as pd
    from PIL import Image

    from hftl import adapt, load

    data, model, run = str(good / "t.csv"), str(good / "model-text"), good / "run-text"
    base = {"data": data, "model": model, "method": "probe", "evidence": False, "output_dir": "out"}
    odd: list[Any] = [None, 5, 1.5, object(), b"x", [], {}, "", True, Path("nothing"), [1, 2], {"a": 1}]
    for value in odd:
        for name in (
            "data",
            "model",
            "method",
            "seed",
            "learning_rate",
            "seeds",
            "nosuch",
            "output_dir",
            "evidence",
            "shots",
        ):
            yield Case(
                f"adapt({name}=)", "python", (), call=lambda n=name, v=value: adapt(TASKS["text"], **{**base, n: v})
            )
        yield Case("adapt(task)", "python", (), call=lambda v=value: adapt(v, **base))
        yield Case("load()", "python", (), call=lambda v=value: load(v))
        yield Case("predict()", "python", (), call=lambda v=value: load(run).predict(v))
        yield Case("predict([])", "python", (), call=lambda v=value: load(run).predict([v]))
        yield Case("predict([]) images", "python", (), call=lambda v=value: load(good / "run-image").predict([v]))
    frames = [pd.DataFrame(), pd.DataFrame({"text": []}), pd.DataFrame({"text": ["a"] * 9, "label": [[1]] * 9}),
              pd.DataFrame({"text": [1] * 9, "label": [2] * 9}), pd.DataFrame({"text": ["a", None] * 9, "label": [object()] * 18}),
              pd.DataFrame([["a", "b"]] * 9, columns=["label", "label"])]  # fmt: skip
    for frame in frames:
        yield Case("adapt(DataFrame)", "python", (), call=lambda v=frame: adapt(TASKS["text"], **{**base, "data": v}))
    texts = ["\ud800", "x" * 5_000_000, "\0", "", "a" * 5000 + ".png"]
    for text in texts:
        yield Case("predict([text])", "python", (), call=lambda v=text: load(run).predict([v]))
        yield Case("predict([path])", "python", (), call=lambda v=text: load(good / "run-image").predict([v]))
    for size in ((0, 0), (0, 5), (1, 1)):
        yield Case(
            "predict([image])",
            "python",
            (),
            call=lambda v=size: load(good / "run-image").predict([Image.new("RGB", v)]),
        )


# ------------------------------------------------------------------------------------------------ running them


def command_of(case: Case, good: Path, names: dict[str, str], rng: random.Random) -> list[str]:
    """Return the words of the case with its names filled in."""
    kind, *rest = case.words
    if kind == "line":
        words = rest
    elif rest[0] == "data":
        words = [*verbs_on_data(kind, good)[case.verb], *rest[1:]]
    else:
        words = list(verbs_on_model(kind, good)[case.verb])
    filled = []
    for word in words:
        for name, value in {**names, "method": rng.choice(list(METHODS))}.items():
            word = word.replace("{" + name + "}", value)
        filled.append(word)
    return filled + (names.get("more", "").split() if case.verb in ("train", "plan") else [])


def all_cases(seed: int, good: Path) -> list[tuple[int, Case]]:
    """Every case with its number, which is its seed."""
    rng = random.Random(seed)
    groups = (
        data_cases(),
        model_cases(),
        flag_cases(rng),
        name_cases(),
        yaml_cases(),
        run_cases(),
        python_cases(good),
    )
    cases = [case for group in groups for case in group]
    return [(seed * 100_000 + n, case) for n, case in enumerate(cases)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="kinds, verbs or #numbers, separated by commas")
    parser.add_argument("--sample", type=int, help="so many cases, drawn at random")
    parser.add_argument("--out", type=Path, default=Path("wrong_inputs.jsonl"))
    args = parser.parse_args()
    os.environ.update(
        HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1", TRANSFORMERS_VERBOSITY="error"
    )
    good = Path(tempfile.mkdtemp(prefix="wrong-good-"))
    os.environ["HFTL_CACHE"] = str(good / "cache")
    import torch

    import hftl.adapt
    import hftl.cli
    import hftl.doctor.fix
    import hftl.export.export
    import hftl.planning.plan_report
    import hftl.predict_file  # noqa: F401

    torch.set_num_threads(1)  # before any fork: threads do not survive it
    pid = os.fork()
    if pid == 0:
        try:
            make_good(good)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1] != 0:
        sys.exit("the good data could not be made")
    cases = all_cases(args.seed, good)
    if args.only:
        wanted = set(args.only.split(","))
        cases = [(n, c) for n, c in cases if {c.kind, c.verb, f"#{n}"} & wanted]
    if args.sample:
        cases = random.Random(args.seed).sample(cases, min(args.sample, len(cases)))
    start = time.monotonic()
    counts = run_all(cases, good, args.workers, args.out, command_of)
    shutil.rmtree(good, ignore_errors=True)
    total = sum(counts.values())
    print(
        f"{total} wrong inputs in {time.monotonic() - start:.0f} s: "
        + ", ".join(f"{k} {v}" for k, v in counts.most_common())
    )
    sys.exit(1 if set(counts) - {"answered", "worked"} else 0)


if __name__ == "__main__":
    main()
