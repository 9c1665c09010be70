"""What each engine is told: its own file, and the command that submits it. Every one starts the same train.py."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hftl.config import RunConfig


ATTEMPTS = 3  # the first one included
SAVE = 15 * 60  # seconds between the end of training and that of the job, at most: install, checkpoint, push
PRICES_FROM = "https://huggingface.co/docs/hub/jobs-pricing, read on 2026-11-27"
FLAVORS = {  # of HF Jobs: dollars an hour, GPUs
    "cpu-basic": (0.01, 0),
    "cpu-upgrade": (0.03, 0),
    "cpu-xl": (1.00, 0),
    "cpu-performance": (1.90, 0),
    "t4-small": (0.40, 1),
    "t4-medium": (0.60, 1),
    "l4x1": (0.80, 1),
    "l4x4": (3.80, 4),
    "l40sx1": (1.80, 1),
    "l40sx4": (8.30, 4),
    "l40sx8": (23.50, 8),
    "a10g-small": (1.00, 1),
    "a10g-large": (1.50, 1),
    "a10g-largex2": (3.00, 2),
    "a10g-largex4": (5.00, 4),
    "a100-large": (2.50, 1),
    "a100x4": (10.00, 4),
    "a100x8": (20.00, 8),
    "h200": (5.00, 1),
    "h200x2": (10.00, 2),
    "h200x4": (20.00, 4),
    "h200x8": (40.00, 8),
    "rtx-pro-6000": (2.75, 1),
    "rtx-pro-6000x2": (5.50, 2),
    "rtx-pro-6000x4": (11.00, 4),
    "rtx-pro-6000x8": (22.00, 8),
}
USUAL_FLAVORS = {0: "cpu-upgrade", 1: "l4x1", 2: "a10g-largex2", 4: "l4x4", 8: "a100x8"}  # by the number of GPUs
_IMAGE = "ghcr.io/astral-sh/uv:python3.12-bookworm"  # that HF Jobs start too; torch brings its own CUDA


@dataclass(frozen=True)
class Job:
    """A run, and what it asks of an engine. Times are in seconds."""

    name: str  # lower case, with hyphens
    config: RunConfig
    gpus: int  # of each machine
    processes: int  # likewise
    nodes: int
    limit: int
    folder: str  # absolute, where the files lie
    wheel: str | None = None
    inputs: bool = False  # is there a folder of that name beside the files?
    secrets: tuple[str, ...] = ()  # names of variables
    push_to: str | None = None
    flavor: str | None = None
    image: str | None = None
    storage: str | None = None

    def words(self, output_dir: str, *, stops: bool = True) -> list[str]:
        """Return what follows train.py, for a run in `output_dir`; with `stops` it ends itself before the limit."""
        words = ["--output_dir", output_dir]
        words += ["--processes", str(self.processes)] if self.processes > 1 else []
        words += ["--stop_after", str(self.limit - self.spare)] if stops else []
        return words + (["--push_to", self.push_to] if self.push_to else [])

    @property
    def spare(self) -> int:
        """Seconds before the limit at which the training is told to save what it has."""
        return min(SAVE, self.limit // 4)


Written = tuple[dict[str, str], list[str]]  # files by name, and the lines that submit them


def _hf(job: Job) -> Written:
    """A command line: files after the script are put beside it in /data, a bucket that every attempt sees again."""
    words = ["hf", "jobs", "uv", "run", "--detach", "--name", job.name, "--flavor", str(job.flavor)]
    words += ["--timeout", f"{job.limit}s", "--attempts", str(ATTEMPTS)]
    words += ["--image", job.image] if job.image else []
    words += [word for name in job.secrets for word in ("--secrets", name)]
    words += ["--volume", "./inputs:/inputs:ro"] if job.inputs else []
    words += ["--volume", f"{job.storage}:/runs:rw"] if job.storage else []
    words += ["train.py", "RUN.yaml", *([job.wheel] if job.wheel else [])]
    run = f"/runs/{job.name}" if job.storage else "/data/run"
    return {}, [shlex.join([*words, *job.words(run)])]


_SBATCH = """#!/bin/bash
# Submit it from its own folder, which the machines must see under the same path: sbatch job.sbatch
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task={cpus}{more}
#SBATCH --time={minutes}
#SBATCH --signal=B:USR1@{spare}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=job-%j.log

cd "$SLURM_SUBMIT_DIR" || exit 1
# PYTHON names a Python that has hftl, else uv makes an environment from the head of train.py.
run=${{PYTHON:-python3}}
if [ -z "$PYTHON" ] && command -v uv > /dev/null; then run="uv run --no-project"; fi
master=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK

# {spare} seconds before the end the training is told to save a checkpoint, and the job queues again to go on from it.
# When Slurm preempts the job or loses a machine, it requeues it by itself.
late=
trap 'late=1; kill -TERM "$step"' USR1
srun --kill-on-bad-exit=1 $run train.py --nodes {nodes} --master "$master:29500" \\
  {words} &
step=$!
wait "$step"
code=$?
while kill -0 "$step" 2> /dev/null; do
  wait "$step"
  code=$?
done
if [ -n "$late" ] && [ "$code" -ne 0 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {retries} ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


def _slurm(job: Job) -> Written:
    more = "".join(
        f"\n#SBATCH {line}"
        for line, wanted in (
            (f"--gpus-per-node={job.gpus}", job.gpus),
            (f"--partition={job.flavor}", job.flavor),
        )
        if wanted
    )
    text = _SBATCH.format(
        name=job.name,
        nodes=job.nodes,
        cpus=4 * max(job.gpus, 1),
        more=more,
        minutes=-(-job.limit // 60),
        spare=job.spare,
        words=shlex.join(job.words(job.storage or "run", stops=False)),
        retries=ATTEMPTS - 1,
    )
    return {"job.sbatch": text}, ["sbatch job.sbatch"]


def _sky(job: Job) -> Written:
    """A managed job on spot machines: SkyPilot starts it again, and the bucket has its checkpoints."""
    resources: dict[str, Any] = {"use_spot": True, "job_recovery": {"max_restarts_on_errors": ATTEMPTS - 1}}
    resources |= {"accelerators": f"{job.flavor or 'L4'}:{job.gpus}"} if job.gpus else {"cpus": "8+"}
    resources |= {"image_id": f"docker:{job.image}"} if job.image else {}
    store = {"source": job.storage} if job.storage and "://" in job.storage else {"name": job.storage or job.name}
    run = shlex.join(job.words(f"/runs/{job.name}"))
    task: dict[str, Any] = {
        "name": job.name,
        "workdir": ".",
        "resources": resources,
        "file_mounts": {"/runs": {**store, "mode": "MOUNT_CACHED"}},  # which takes renames, as of a disk
        "setup": "command -v uv > /dev/null || pip install uv\n",
        "run": f"uv run --no-project train.py {run}\n",
    }
    if job.secrets:
        task["secrets"] = dict.fromkeys(job.secrets)
    given = [word for name in job.secrets for word in ("--secret", name)]
    return {"sky.yaml": _yaml(task)}, [shlex.join(["sky", "jobs", "launch", *given, "sky.yaml"])]


def _kubernetes(job: Job) -> Written:
    """A TrainJob of Kubeflow Trainer 2.2 or newer, and a volume that holds the files and the run."""
    claim = job.storage or job.name
    volume = {"name": "job", "persistentVolumeClaim": {"claimName": claim}}
    mount = {"name": "job", "mountPath": "/job"}
    secrets = [{"name": name, "valueFrom": {"secretKeyRef": {"name": job.name, "key": name}}} for name in job.secrets]
    kept = [
        {"name": name, "value": f"/job/cache/{name.lower()}"} for name in ("HF_HOME", "HFTL_CACHE", "UV_CACHE_DIR")
    ]
    cpus, memory = 4 * max(job.gpus, 1), 16 * max(job.gpus, 1)
    resources: dict[str, Any] = {"requests": {"cpu": str(cpus), "memory": f"{memory}Gi"}}
    resources |= {"limits": {"nvidia.com/gpu": str(job.gpus)}} if job.gpus else {}
    pod = {
        "terminationGracePeriodSeconds": 300,  # for a checkpoint, when the pod is evicted
        "volumes": [volume],
        "containers": [{"name": "node", "volumeMounts": [mount]}],
    }
    train_job = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": job.name},
        "spec": {
            "activeDeadlineSeconds": job.limit,
            "runtimeRef": {
                "name": "torch-distributed",
                "kind": "ClusterTrainingRuntime",
                "apiGroup": "trainer.kubeflow.org",
            },
            "trainer": {
                "image": job.image or _IMAGE,
                "numNodes": job.nodes,
                "numProcPerNode": job.processes,
                "command": ["uv", "run", "--no-project", "/job/train.py"],
                "args": [*job.words("/job/run"), "--nodes", str(job.nodes)],
                "env": [*kept, *secrets],
                "resourcesPerNode": resources,
            },
            "runtimePatches": [
                {
                    "manager": "hftl",
                    "trainingRuntimeSpec": {
                        "template": {
                            "spec": {
                                "replicatedJobs": [{"name": "node", "template": {"spec": {"template": {"spec": pod}}}}]
                            }
                        }
                    },
                }
            ],
        },
    }
    several = "ReadWriteMany" if job.nodes > 1 else "ReadWriteOnce"
    files = f"{job.name}-files"
    made = [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim},
            "spec": {"accessModes": [several], "resources": {"requests": {"storage": "50Gi"}}},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": files},
            "spec": {
                "restartPolicy": "Never",
                "volumes": [volume],
                "containers": [
                    {"name": "files", "image": "busybox:1.37", "command": ["sleep", "3600"], "volumeMounts": [mount]}
                ],
            },
        },
    ]
    submit = [
        "kubectl apply -f storage.yaml",
        f"kubectl wait --for=condition=Ready pod/{files} --timeout=10m",
        f"kubectl cp . {files}:/job",
        f"kubectl delete pod {files}",
    ]
    if job.secrets:  # their values go through a pipe, and into no list of processes
        named = "|".join(job.secrets)
        submit.append(
            f"env | grep -E '^({named})=' | kubectl create secret generic {job.name} --from-env-file=/dev/stdin"
        )
    submit.append("kubectl apply -f trainjob.yaml")
    wanted = made[1:] if job.storage else made  # a claim that is named is there already
    return {"trainjob.yaml": _yaml(train_job), "storage.yaml": _yaml(*wanted)}, submit


def _ray(job: Job) -> Written:
    """A job whose driver starts train.py on every machine; the folder of the run must be the same on all of them."""
    run = job.storage or f"{job.folder}/run"
    own = ["ray_job.py", str(job.nodes), str(job.gpus), str(ATTEMPTS), *job.words(run)]
    given = '{"working_dir": ".", "excludes": ["/run", "/run.partial"]}'
    words = ["ray", "job", "submit", "--submission-id", job.name, "--runtime-env-json", given, "--", "python", *own]
    return {}, [shlex.join(words)]


def _yaml(*documents: dict[str, Any]) -> str:
    import yaml

    return "---\n".join(yaml.safe_dump(one, sort_keys=False) for one in documents)


@dataclass(frozen=True)
class Engine:
    """Where a job goes."""

    says: str
    write: Callable[[Job], Written]
    takes: tuple[str, ...]  # of flavor, image
    storage: str  # where the checkpoints lie when --storage names nothing, in words
    attempts: int = ATTEMPTS  # of this limit each; kubernetes has one limit for all
    several: bool = True  # machines: they need a folder that all of them see
    inputs: str = "inputs"  # where the job sees data and models that were copied


ENGINES = {
    "hf": Engine(
        "HF Jobs",
        _hf,
        ("flavor", "image"),
        "the job's folder of your bucket jobs-artifacts",
        several=False,
        inputs="/inputs",
    ),
    "slurm": Engine("Slurm", _slurm, ("flavor",), "the folder run beside the files"),
    "sky": Engine("SkyPilot", _sky, ("flavor", "image"), "a bucket with the job's name", several=False),
    "kubernetes": Engine(
        "Kubeflow Trainer", _kubernetes, ("image",), "a volume claim with the job's name", attempts=1
    ),
    "ray": Engine("Ray", _ray, (), "the folder run beside the files, on every machine the same"),
}
