"""What each engine is told: its own file, and the command that submits it. Every one starts the same train.py."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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


def _hf(job: Job) -> list[str]:
    """Files that follow the script are put beside it in /data, a folder of a bucket that every attempt sees again."""
    words = ["hf", "jobs", "uv", "run", "--detach", "--name", job.name, "--flavor", str(job.flavor)]
    words += ["--timeout", f"{job.limit}s", "--attempts", str(ATTEMPTS)]
    words += ["--image", job.image] if job.image else []
    words += [word for name in job.secrets for word in ("--secrets", name)]
    words += ["--volume", "./inputs:/inputs:ro"] if job.inputs else []
    words += ["--volume", f"{job.storage}:/runs:rw"] if job.storage else []
    words += ["train.py", "RUN.yaml", *([job.wheel] if job.wheel else [])]
    return [shlex.join([*words, *job.words(f"/runs/{job.name}" if job.storage else "/data/run")])]


def _sky(job: Job) -> list[str]:
    given = [word for name in job.secrets for word in ("--secret", name)]
    return [shlex.join(["sky", "jobs", "launch", *given, "sky.yaml"])]


def _kubernetes(job: Job) -> list[str]:
    files, named = f"{job.name}-files", "|".join(job.secrets)
    secret = f"env | grep -E '^({named})=' | kubectl create secret generic {job.name} --from-env-file=/dev/stdin"
    return [
        "kubectl apply -f storage.yaml",
        f"kubectl wait --for=condition=Ready pod/{files} --timeout=10m",
        f"kubectl cp . {files}:/job",
        f"kubectl delete pod {files}",
        *([secret] if named else []),  # the values go through a pipe, and into no list of processes
        "kubectl apply -f trainjob.yaml",
    ]


def _ray(job: Job) -> list[str]:
    environment = '{"working_dir": ".", "excludes": ["/run", "/run.partial"]}'
    words = ["ray", "job", "submit", "--runtime-env-json", environment, "--", "python"]
    run = job.words(job.storage or f"{job.folder}/run")
    return [shlex.join([*words, "ray_job.py", str(job.nodes), str(job.gpus), str(ATTEMPTS), *run])]


@dataclass(frozen=True)
class Engine:
    """Where a job goes."""

    says: str
    files: tuple[str, ...]  # templates of its own
    submit: Callable[[Job], list[str]]  # lines of a shell
    takes: tuple[str, ...]  # of flavor, image
    storage: str  # where the checkpoints lie when --storage names nothing, in words
    attempts: int = ATTEMPTS  # of this limit each; kubernetes has one limit for all
    several: bool = True  # machines: they need a folder that all of them see
    inputs: str = "inputs"  # where the job sees data and models that were copied


ENGINES = {
    "hf": Engine(
        *("HF Jobs", (), _hf, ("flavor", "image"), "the job's folder of your bucket jobs-artifacts"),
        several=False,
        inputs="/inputs",
    ),
    "slurm": Engine(
        "Slurm", ("job.sbatch",), lambda job: ["sbatch job.sbatch"], ("flavor",), "the folder run beside the files"
    ),
    "sky": Engine("SkyPilot", ("sky.yaml",), _sky, ("flavor", "image"), "a bucket with the job's name", several=False),
    "kubernetes": Engine(
        *("Kubeflow Trainer", ("storage.yaml", "trainjob.yaml"), _kubernetes, ("image",)),
        *("a volume claim with the job's name", 1),
    ),
    "ray": Engine(
        "Ray", ("ray_job.py",), _ray, (), "the folder run beside the files, under the same path on every machine"
    ),
}


def write_files(job: Job, engine: Engine, folder: Path) -> list[str]:
    """Fill the templates of an engine; return the lines that submit the job."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("hftl.job"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    inside = {"job.sbatch": job.storage or "run", "sky.yaml": f"/runs/{job.name}"}
    for name in engine.files:
        values = {
            "words": shlex.join(job.words(inside.get(name, ""), stops=name != "job.sbatch")),
            "args": [*job.words("/job/run"), "--nodes", str(job.nodes)],
            "image": job.image or _IMAGE,
            "claim": job.storage or job.name,
            "cpus": 4 * max(job.gpus, 1),
            "minutes": -(-job.limit // 60),
            "attempts": ATTEMPTS,
        }
        (folder / name).write_text(templates.get_template(name).render(job=job, **values), encoding="utf-8")
    submit = engine.submit(job)
    script = "\n".join(["#!/bin/sh", "set -e", 'cd "$(dirname "$0")"', *submit, ""])
    (folder / "submit.sh").write_text(script, encoding="utf-8")
    return submit
