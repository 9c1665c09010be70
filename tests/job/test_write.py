"""What `hftl job` writes and says."""

import json
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
import yaml

from hftl.job.engines import ENGINES, FLAVORS
from tests.command import environment
from tests.job.conftest import CONFIG


OWN = {
    "hf": set(),
    "slurm": {"job.sbatch"},
    "sky": {"sky.yaml"},
    "kubernetes": {"storage.yaml", "trainjob.yaml"},
    "ray": {"ray_job.py"},
}


def metadata(script):
    lines = script.read_text().partition("# /// script\n")[2].partition("# ///\n")[0].splitlines()
    return tomllib.loads("\n".join(line.removeprefix("#").removeprefix(" ") for line in lines))


@pytest.mark.parametrize("engine", ENGINES)
def test_files(write, tmp_path, engine):
    folder = tmp_path / "job"
    done = write(engine, folder)
    assert done.code == 0, done.err
    assert {path.name for path in folder.iterdir()} == {"train.py", "RUN.yaml", "submit.sh", "inputs"} | OWN[engine]
    where = "/inputs" if engine == "hf" else "inputs"
    written = yaml.safe_load((folder / "RUN.yaml").read_text())
    assert written == CONFIG | {"data": f"{where}/data/t.csv", "model": f"{where}/model/bert"}
    assert (folder / "inputs/data/t.csv").is_file()
    assert (folder / "inputs/model/bert/model.safetensors").is_file()
    assert metadata(folder / "train.py") == {"requires-python": ">=3.11", "dependencies": ["hftl==0.1.0"]}
    for path in folder.glob("*.py"):
        compile(path.read_text(), path.name, "exec")
    submit = done.out.splitlines()
    assert submit[0] == f"cd {folder}"
    assert (folder / "submit.sh").read_text().splitlines()[3:] == submit[1:]
    for script in [*folder.glob("*.sh"), *folder.glob("*.sbatch")]:
        assert shutil.which("bash") is None or subprocess.run(["bash", "-n", script]).returncode == 0


def test_a_wheel_of_the_checkout_lies_beside_the_script(write, tmp_path):
    folder = tmp_path / "job"
    assert write("hf", folder, "--time_limit", "2h", config={"report_to": "tensorboard"}, quick=False).code == 0
    (wheel,) = folder.glob("*.whl")
    assert metadata(folder / "train.py") == {
        "requires-python": ">=3.11",
        "dependencies": ["hftl[tensorboard]"],
        "tool": {"uv": {"sources": {"hftl": {"path": wheel.name}}}},
    }
    names = zipfile.ZipFile(wheel).namelist()
    assert {"hftl/job/templates/train.py", "hftl/job/templates/job.sbatch"} <= set(names)
    assert wheel.name in shlex.split((folder / "submit.sh").read_text())


@pytest.mark.parametrize(
    ("source", "config", "wanted"),
    [
        ("hftl>=0.1", {"data": "sample:wikipedia-topics"}, "hftl[offline]>=0.1"),
        (
            "hftl @ git+https://example.org/hftl",
            {"report_to": ["wandb"]},
            "hftl[wandb] @ git+https://example.org/hftl",
        ),
    ],
)
def test_requirements(write, tmp_path, source, config, wanted):
    write("slurm", tmp_path / "job", "--time_limit", "1h", "--hftl_source", source, config=config, quick=False)
    (found,) = metadata(tmp_path / "job" / "train.py")["dependencies"]
    assert found.replace("@ ", " @ ").replace("  ", " ") == wanted


def test_paths_that_the_machines_share(write, inputs, tmp_path):
    assert write("slurm", tmp_path / "job", "--keep_paths").code == 0
    written = yaml.safe_load((tmp_path / "job" / "RUN.yaml").read_text())
    assert (written["data"], written["model"]) == (str(inputs / "t.csv"), str(inputs / "bert"))
    assert not (tmp_path / "job" / "inputs").exists()


def test_names_of_the_hub_stay(write, tmp_path):
    assert write("sky", tmp_path / "job", config={"data": "me/tickets@main", "model": "me/bert"}).code == 0
    written = yaml.safe_load((tmp_path / "job" / "RUN.yaml").read_text())
    assert (written["data"], written["model"]) == ("me/tickets@main", "me/bert")
    assert "HF_TOKEN" in write("hf", tmp_path / "hub", config={"model": "me/bert"}).out  # a private one needs it
    assert "HF_TOKEN" not in write("hf", tmp_path / "here").out


@pytest.mark.parametrize("engine", ENGINES)
def test_the_result_is_pushed_and_no_secret_is_written(write, tmp_path, monkeypatch, engine):
    token = "hf_" + "x" * 34
    monkeypatch.setenv("HF_TOKEN", token)
    folder = tmp_path / "job"
    done = write(engine, folder, config={"push_to_hub": True, "hub_model_id": "me/tickets"})
    assert done.code == 0, done.err
    text = "".join(path.read_text() for path in folder.iterdir() if path.is_file())
    assert token not in text + done.out + done.err
    assert "push_to me/tickets" in text.replace('", "', " ")
    assert "HF_TOKEN" in done.err
    assert ("HF_TOKEN" in text) == (engine in ("hf", "sky", "kubernetes"))  # the machines of the others have it
    assert not {"push_to_hub", "hub_model_id"} & set(yaml.safe_load((folder / "RUN.yaml").read_text()))


def test_the_limit_follows_from_the_plan(write, tmp_path, monkeypatch):
    monkeypatch.setattr("hftl.cli.job._estimate", lambda config: 3600.0)
    done = write("hf", tmp_path / "job", "--json", "--flavor", "a10g-small", "--hftl_source", "hftl", quick=False)
    assert done.json["time_limit_seconds"] == 2 * 3600 + 15 * 60
    assert done.json["cost"]["estimate"] == FLAVORS["a10g-small"][0] == 1.0
    assert done.json["cost"]["all_attempts"] == pytest.approx(3 * 2.25)
    assert "--timeout 8100s" in done.json["submit"][0]
    assert "--stop_after 7200" in done.json["submit"][0]
    monkeypatch.setattr("hftl.cli.job._estimate", lambda config: 1.0)
    said = write(
        "slurm", tmp_path / "short", "--price_per_hour", "3", "--nodes", "2", "--hftl_source", "hftl", quick=False
    )
    assert "#SBATCH --time=30\n" in (tmp_path / "short" / "job.sbatch").read_text()
    assert "$3.00 for one attempt up to the limit, $9.00 for all; $6.00 an hour" in said.err
    monkeypatch.setattr("hftl.cli.job._estimate", lambda config: None)
    assert "give --time_limit" in write("ray", tmp_path / "none", "--hftl_source", "hftl", quick=False).err


def test_hf_reads_the_command(write, tmp_path):
    """The command line of huggingface_hub takes every flag, and finds the files that go along."""
    folder = tmp_path / "job"
    write(
        "hf",
        folder,
        "--push_to",
        "me/x",
        "--flavor",
        "l4x4",
        "--image",
        "me/image",
        "--storage",
        "hf://buckets/me/runs",
    )
    (line,) = (folder / "submit.sh").read_text().splitlines()[3:]
    words = shlex.split(line.replace("jobs uv run", "jobs uv run --dry-run --namespace me"))
    asked = [sys.executable, "-m", "huggingface_hub.cli.hf", *words[1:]]
    done = subprocess.run(asked, cwd=folder, env=environment(HF_TOKEN="x"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for said in ("l4x4", "7200s", "HF_TOKEN=***", "./inputs:/inputs:ro", "hf://buckets/me/runs:/runs:rw", "me/image"):
        assert said in done.stdout
    assert "attempts   3" in done.stdout


def test_prices_are_of_flavours_that_hf_has():
    asked = [sys.executable, "-m", "huggingface_hub.cli.hf", "jobs", "uv", "run", "--help"]
    words = subprocess.run(asked, env=environment(COLUMNS="2000"), capture_output=True, text=True).stdout
    known = words.partition("--flavor")[2].partition("[")[2].partition("]")[0]
    assert set(FLAVORS) == set("".join(known.split()).split("|"))


def test_several_processes_and_machines(write, tmp_path):
    assert write("slurm", tmp_path / "job", "--gpus", "4", "--nodes", "2", "--flavor", "a100").code == 0
    text = (tmp_path / "job" / "job.sbatch").read_text()
    for line in ("--nodes=2", "--gpus-per-node=4", "--partition=a100", "--cpus-per-task=16"):
        assert f"#SBATCH {line}\n" in text
    assert "--nodes 2 --master" in text
    assert "--processes 4" in text
    assert write("kubernetes", tmp_path / "k8s", "--gpus", "4", "--nodes", "2").code == 0
    spec = yaml.safe_load((tmp_path / "k8s" / "trainjob.yaml").read_text())["spec"]["trainer"]
    assert (spec["numNodes"], spec["numProcPerNode"]) == (2, 4)
    assert spec["resourcesPerNode"]["limits"] == {"nvidia.com/gpu": "4"}
    assert "ReadWriteMany" in (tmp_path / "k8s" / "storage.yaml").read_text()


@pytest.mark.parametrize("storage", [None, "shared", "123"])
def test_the_files_for_kubernetes_name_the_same_things(write, tmp_path, storage):
    more = ["--storage", storage] if storage else []
    folder = tmp_path / "job"
    assert write("kubernetes", folder, "--push_to", "me/x", *more).code == 0
    parts = list(yaml.safe_load_all((folder / "storage.yaml").read_text()))
    job = yaml.safe_load((folder / "trainjob.yaml").read_text())
    claim, pod = storage or parts[0]["metadata"]["name"], parts[-1]
    assert len(parts) == (1 if storage else 2)
    (replicated,) = job["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    node = replicated["template"]["spec"]["template"]["spec"]
    for spec in (pod["spec"], node):
        (volume,), (container,) = spec["volumes"], spec["containers"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim
        assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/job"}]
    submit = [shlex.split(line) for line in (folder / "submit.sh").read_text().splitlines()[3:]]
    assert [words[2] for words in submit if "apply" in words] == ["-f", "-f"]
    assert f"pod/{pod['metadata']['name']}" in submit[1]
    assert submit[2][-1] == f"{pod['metadata']['name']}:/job"
    assert submit[3] == ["kubectl", "delete", "pod", pod["metadata"]["name"]]
    (secret,) = {
        one["valueFrom"]["secretKeyRef"]["name"] for one in job["spec"]["trainer"]["env"] if "valueFrom" in one
    }
    assert secret in submit[4]
    assert job["spec"]["trainer"]["command"][-1] == "/job/train.py"


@pytest.mark.parametrize(
    ("engine", "flags", "config", "says"),
    [
        ("ray", ["--flavor", "l4x1"], {}, "--flavor means nothing to Ray: it is for hf, slurm, sky."),
        ("slurm", ["--image", "x"], {}, "--image means nothing to Slurm"),
        ("hf", ["--flavor", "l4x1", "--gpus", "2"], {}, "--flavor l4x1 has 1 GPUs, not 2"),
        ("hf", ["--gpus", "3"], {}, "No flavour of HF Jobs has 3 GPUs"),
        ("sky", ["--nodes", "2"], {}, "--nodes 2 needs a folder that all machines share"),
        ("slurm", [], {"push_to_hub": True}, "no name of a repository: add --push_to"),
        ("slurm", ["--push_to", "tickets"], {}, "it needs your user name or an organisation before the /"),
        ("slurm", [], {"data": "https://me:secret@example.org/t.csv"}, "looks like a password or a token"),
        ("slurm", ["--hftl_source", "torch"], {}, "--hftl_source 'torch' is no wheel of hftl"),
        ("slurm", ["--time_limit", "1m"], {}, "too short to start and to save in: give 5m or more"),
    ],
)  # fmt: skip
def test_refused(write, tmp_path, engine, flags, config, says):
    done = write(engine, tmp_path / "job", *flags, config=config, quick="--hftl_source" not in flags or None)
    assert done.code == 2
    assert says in done.err
    assert "secret@" not in done.err
    assert len(done.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_stays(write, tmp_path):
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "mine.txt").write_text("mine")
    done = write("slurm", tmp_path / "job")
    assert (done.code, done.out) == (2, "")
    assert "exists already" in done.err
    assert [path.name for path in (tmp_path / "job").iterdir()] == ["mine.txt"]


def test_a_job_inside_of_its_data(write, inputs):
    done = write("slurm", "bert/job")
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert "--output_dir lies in bert, which the job copies" in done.err
    assert not list((inputs / "bert").glob("job*"))


def test_a_wheel_that_cannot_be_built_leaves_nothing(write, tmp_path):
    (tmp_path / "src" / "hftl").mkdir(parents=True)
    (tmp_path / "src" / "hftl" / "__init__.py").touch()
    (tmp_path / "src" / "pyproject.toml").write_text("nonsense")
    done = write("ray", tmp_path / "job", "--time_limit", "1h", "--hftl_source", tmp_path / "src", quick=False)
    assert done.code == 2
    assert "The wheel of hftl cannot be built" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["src"]


def test_one_document(write, tmp_path):
    done = write("kubernetes", tmp_path / "job", "--json")
    assert set(json.loads(done.out)) >= {"engine", "output_dir", "files", "time_limit_seconds", "cost", "submit"}
