"""`hftl job`: a run's config as a job of HF Jobs, Slurm, SkyPilot, Kubernetes or Ray."""

import shlex
import sys
from typing import Annotated, Any

from typer import Argument

from hftl.cli.command import JSON, TRAIN, Flag, on_stderr, print_json, verb
from hftl.config import RunConfig
from hftl.errors import ConfigError
from hftl.job.engines import ENGINES, FLAVORS
from hftl.surroundings import importing


_JOB = {
    "engine": Flag(f"where the job runs [{'|'.join(ENGINES)}]", choices=ENGINES),
    "output_dir": Flag("a new folder for the files of the job"),
    "gpus": Flag("GPUs of each machine (default: 1, or 0 where the config has use_cpu)", int),
    "nodes": Flag("machines (default: 1); slurm, kubernetes, ray", int),
    "processes": Flag("processes of each machine (default: one for each GPU)", int),
    "flavor": Flag("hf: hardware, such as l4x1; sky: kind of GPU, such as L4; slurm: partition", choices=FLAVORS),
    "image": Flag("hf, sky, kubernetes: a container image with uv"),
    "time_limit": Flag("when the engine ends the job, 90m or 2h (default: twice what hftl plan estimates, and 15m)"),
    "price_per_hour": Flag("dollars of one machine (default: for hf the list price)", float),
    "storage": Flag(
        "what outlives a machine; slurm, ray: a shared folder; hf, sky: a bucket; kubernetes: a volume claim"
    ),
    "push_to": Flag("ns/name on the Hub for the result (default: push_to_hub or hub_model_id of the config)"),
    "hftl_source": Flag("a wheel, a folder of sources or a requirement of pip (default: a wheel of this checkout)"),
    "keep_paths": Flag("copy no data or model: the machines see them under the same absolute paths", bool),
    **JSON,
}


@verb(TRAIN, _JOB)
def job(
    run: Annotated[str, Argument(metavar="RUN.yaml", help="one config.yaml of a run")], *, json: bool, **flags: Any
) -> None:
    """Write a run as a job for an engine: a script, the engine's own file, a time limit and what it may cost.

    Example: hftl job --engine slurm runs/tickets/config.yaml --output_dir jobs/tickets
    """
    for needed in ("engine", "output_dir"):
        if flags[needed] is None:
            example = "hftl job --engine slurm runs/tickets/config.yaml --output_dir jobs/tickets"
            raise ConfigError(f"hftl job needs --{needed}, such as: {example}")
    from hftl.job.job import JobOptions, write_job

    options = JobOptions(**{name: value for name, value in flags.items() if value is not None})
    document = write_job(run, options, _estimate)
    if json:
        print_json(document)
        return
    print(*_said(document), sep="\n", file=sys.stderr)
    print(f"cd {shlex.quote(document['output_dir'])}", *document["submit"], sep="\n")


def _estimate(config: RunConfig) -> float | None:
    """Return the seconds that the run takes on this machine."""
    with importing():
        from hftl.adapt import complete
        from hftl.planning.plan_report import plan_report

    print("hftl plan estimates the time on this machine (--time_limit spares it) ...", file=sys.stderr)
    with on_stderr():
        seconds: float | None = plan_report(complete(config))["time"]["total_seconds"]
    return seconds


def _said(document: dict[str, Any]) -> list[str]:
    """Return what a person should know before the job is submitted."""
    from hftl.methods.policy import duration

    limit, known, cost = document["time_limit_seconds"], document["estimate_seconds"], document["cost"]
    guess = (
        ""
        if known is None
        else f"; hftl plan estimates {duration(known)} on this machine, another may need more or less"
    )
    attempts = document["attempts"]
    again = (
        f"up to {attempts} attempts go on from there" if attempts > 1 else "a pod that starts again goes on from there"
    )
    lines = [
        f"{document['output_dir']}: {', '.join(document['files'])}",
        f"Time limit: {duration(limit)}{guess}.",
        f"Checkpoints and the run: {document['checkpoints']}; {again}.",
    ]
    if cost is None:
        lines.append("Cost: unknown. --price_per_hour says what a machine costs.")
    else:
        likely = (
            "" if cost["estimate"] is None else f"${cost['estimate']:.2f} if it is as fast as this machine (a guess), "
        )
        lines.append(
            f"Cost: {likely}${cost['limit']:.2f} for one attempt up to the limit, ${cost['all_attempts']:.2f} for all; "
            f"${cost['per_hour']:.2f} an hour ({cost['source']})."
        )
    if document["secrets"]:
        lines.append(f"Secrets, taken from where you submit or from the machines: {', '.join(document['secrets'])}.")
    return [*lines, "Submit it:"]
