"""The engines themselves read what is written for them, and two of them run it, cut it off and go on.

Each needs what is not among hftl's packages; docs/scale.md says how each was installed. HFTL_TEST_SKY, HFTL_TEST_KUBEFLOW,
HFTL_TEST_KUBERNETES and HFTL_TEST_RAY name a Python that has the package.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.command import environment


LONG = {"num_train_epochs": 60}  # enough to be cut off in
pytestmark = pytest.mark.slow


def python_of(package, variable):
    """A Python that has the package; else the test is skipped."""
    if variable in os.environ:
        return os.environ[variable]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed; {variable} may name a Python that has it")
    return sys.executable


def asked(python, code, folder):
    done = subprocess.run([python, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("flags", [["--gpus", "0"], ["--gpus", "4", "--flavor", "A10G", "--push_to", "me/x"]])
def test_skypilot_reads_the_task(write, tmp_path, flags):
    python = python_of("sky", "HFTL_TEST_SKY")
    write("sky", tmp_path / "job", *flags)
    code = """
import json, sky, yaml
sky.Task.from_yaml("sky.yaml")  # which checks it against the schema
values = yaml.safe_load(open("sky.yaml"))
task = sky.Task.from_yaml_config(values, secrets_overrides=[(name, "x") for name in values.get("secrets", {})])
(one,) = task.resources
print(json.dumps([one.use_spot, one.accelerators, one.job_recovery, list(task.storage_mounts), list(task.secrets)]))
"""
    spot, gpus, recovery, mounts, secrets = asked(python, code, tmp_path / "job")
    assert spot
    assert gpus == ({"A10G": 4} if "4" in flags else None)
    assert recovery["max_restarts_on_errors"] == 2
    assert mounts == ["/runs"]
    assert secrets == (["HF_TOKEN"] if "--push_to" in flags else [])


@pytest.mark.parametrize("flags", [["--gpus", "0"], ["--gpus", "4", "--nodes", "2", "--push_to", "me/x"]])
def test_kubeflow_reads_the_train_job(write, tmp_path, flags):
    python = python_of("kubeflow_trainer_api", "HFTL_TEST_KUBEFLOW")
    write("kubernetes", tmp_path / "job", *flags)
    code = """
import json, yaml
from kubeflow_trainer_api import models
written = yaml.safe_load(open("trainjob.yaml"))
job = models.TrainerV1alpha1TrainJob.from_dict(written)
print(json.dumps([written, json.loads(job.to_json())]))
"""
    written, read = asked(python, code, tmp_path / "job")
    assert read == written  # nothing is unknown to the models, which drop such fields
    assert read["spec"]["activeDeadlineSeconds"] == 7200


@pytest.mark.parametrize("flags", [["--gpus", "0"], ["--gpus", "4", "--nodes", "2"], ["--storage", "shared"]])
def test_kubernetes_reads_the_storage(write, tmp_path, flags):
    python = python_of("kubernetes", "HFTL_TEST_KUBERNETES")
    write("kubernetes", tmp_path / "job", *flags)
    code = """
import json, yaml
from kubernetes.client import ApiClient
client = ApiClient()
def read(one):
    found = client.deserialize(json.dumps(one), "V1" + one["kind"], "application/json")
    return client.sanitize_for_serialization(found)
written = list(yaml.safe_load_all(open("storage.yaml")))
wrong = json.loads(json.dumps(written[-1]).replace("claimName", "claim_name").replace("mountPath", "mount"))
try:
    refused = read(wrong) != wrong
except ValueError:  # a field is lacking
    refused = True
print(json.dumps([written, [read(one) for one in written], refused]))
"""
    written, read, refused = asked(python, code, tmp_path / "job")
    assert read == written  # the models drop what they do not know, and refuse what lacks a field
    assert refused
    kinds = [one["kind"] for one in written]
    assert kinds == (["Pod"] if "--storage" in flags else ["PersistentVolumeClaim", "Pod"])


def until(happens, seconds, log):
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, log.read_text()[-3000:] if log.exists() else "no log"
        time.sleep(0.5)


def report(folder):
    return json.loads((folder / "run" / "report.json").read_text())


def epochs(log):
    """The epochs that the log says are over, in order."""
    return [
        int(line.split("epoch ")[1].split("/")[0])
        for line in log.read_text().splitlines()
        if " epoch " in line and "... " not in line
    ]


def went_on(log):
    """Was the last epoch reached, and the first one done only once?"""
    seen = epochs(log)
    return seen.count(1) == 1 and max(seen) == LONG["num_train_epochs"]


def slurm():
    if shutil.which("sbatch") is None or subprocess.run(["sinfo"], capture_output=True).returncode != 0:
        pytest.skip("no Slurm answers here; tests/job/slurm.sh starts one")


def shown(words, **options):
    return subprocess.run(words, capture_output=True, text=True, check=True, **options).stdout.strip()


def submit(folder):
    """Submit the job; return its number and its log."""
    env = environment(PYTHON=sys.executable, HFTL_CACHE=str(folder / "cache"))
    job = shown(["sbatch", "--parsable", "--cpus-per-task=4", "job.sbatch"], cwd=folder, env=env)
    return job, folder / f"job-{job}.log"


def test_slurm_runs_the_job_and_goes_on_after_it_is_preempted(write, tmp_path):
    slurm()
    folder = tmp_path / "job"
    assert write("slurm", folder, "--processes", "2", config=LONG).code == 0
    _, log = submit(folder)
    until(lambda: log.exists() and len(epochs(log)) > 5, 120, log)
    urgent = ["sbatch", "--partition=high", "--cpus-per-task=4", "--output=/dev/null", "--wrap=sleep 1"]
    subprocess.run(urgent, check=True, capture_output=True)
    until(
        lambda: (folder / "run" / "report.json").exists(), 420, log
    )  # Slurm waits two minutes before it starts it again
    assert went_on(log)
    assert report(folder)["metrics"]["test"]["accuracy"]["value"] > 0.3


def test_slurm_leaves_a_cancelled_job_alone(write, tmp_path):
    slurm()
    folder = tmp_path / "job"
    assert write("slurm", folder, config=LONG).code == 0
    job, log = submit(folder)
    until(lambda: log.exists() and len(epochs(log)) > 2, 120, log)
    subprocess.run(["scancel", job], check=True)
    state = ["squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T"]
    until(lambda: "COMPLETING" not in (said := shown(state)) and "CANCELLED" in said, 120, log)
    assert "Interrupted" in log.read_text()


def test_ray_runs_the_job_and_goes_on_after_a_kill(write, tmp_path):
    python = Path(python_of("ray", "HFTL_TEST_RAY"))
    folder = tmp_path / "job"
    assert write("ray", folder, "--processes", "2", config=LONG).code == 0
    env = environment(HFTL_CACHE=str(tmp_path / "cache"), RAY_ADDRESS="http://127.0.0.1:8365")
    env["PATH"] = f"{python.parent}:{env['PATH']}"
    ports = [
        "--port=6390",
        "--dashboard-port=8365",
        "--ray-client-server-port=9391",
        "--num-cpus=2",
        "--num-gpus=0",
        "--disable-usage-stats",
    ]
    place = tmp_path.parents[2] / "ray"  # a socket's name must be short
    head = [python.parent / "ray", "start", "--head", "--block", *ports, f"--temp-dir={place}"]
    with (tmp_path / "ray.log").open("w") as out, (tmp_path / "log").open("w") as submitted:
        ray = subprocess.Popen(head, env={k: v for k, v in env.items() if k != "RAY_ADDRESS"}, stdout=out, stderr=out)
        try:
            log = tmp_path / "log"
            until(lambda: "Ray runtime started" in (tmp_path / "ray.log").read_text(), 60, tmp_path / "ray.log")
            time.sleep(5)
            job = subprocess.Popen(["sh", "submit.sh"], cwd=folder, env=env, stdout=submitted, stderr=submitted)
            until(lambda: len(epochs(log)) > 5 or job.poll() is not None, 180, log)
            found = next(line for line in log.read_text().splitlines() if "(train pid=" in line)
            os.kill(int(found.partition("(train pid=")[2].partition(")")[0]), 9)
            assert job.wait(400) == 0, log.read_text()[-3000:]
        finally:
            ray.terminate()
            ray.wait(60)
    assert went_on(log)
    assert report(folder)["metrics"]["test"]["accuracy"]["value"] > 0.3
