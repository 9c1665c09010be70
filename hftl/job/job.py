"""Write a run as a job: the files of one engine, everything that the run reads, and what it may cost."""

import math
import re
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from hftl.atomic import check_folder, disk_errors, new_folder
from hftl.config import RunConfig, build_config, parse_budget, read_yaml
from hftl.data.files import NO_DATA, check_data, existing_path, hub_parts
from hftl.errors import ConfigError, DataError, RunError, did_you_mean
from hftl.job.engines import ENGINES, FLAVORS, PRICES_FROM, USUAL_FLAVORS, Engine, Job, write_files
from hftl.job.source import extras, find_source, head, put_wheel
from hftl.models.find import check_model
from hftl.models.packaged import packaged_as
from hftl.paths import typed_path


_MARK = ".hftl-job"  # in a folder that a killed process left half written
_OWN = ("output_dir", "overwrite", "resume")  # of a run: the job sets them
_SECRET = re.compile(r"\bhf_[A-Za-z0-9]{20,}|://[^/\s:@]+:[^/\s@]+@")
_TRACKER_SECRETS = {"wandb": ("WANDB_API_KEY",), "trackio": ("HF_TOKEN",)}
_SHORTEST, _STEP = 5 * 60, 5 * 60  # seconds: of a limit, and what an estimate is rounded up to
_AT_LEAST, _TIMES, _MORE = 30 * 60, 2, 15 * 60  # a limit: twice the estimate and 15 minutes, no less than 30
_RAY_BYTES = 500 * 2**20  # what `ray job submit` uploads at most (Ray's GCS_STORAGE_MAX_SIZE is 512 MiB)


@dataclass(frozen=True)
class JobOptions:
    """What `hftl job` was asked for, as it was typed."""

    engine: str
    output_dir: str
    gpus: int | None = None
    nodes: int = 1
    processes: int | None = None
    flavor: str | None = None
    image: str | None = None
    time_limit: str | None = None
    price_per_hour: float | None = None
    storage: str | None = None
    push_to: str | None = None
    hftl_source: str | None = None
    keep_paths: bool = False


def write_job(run: str, options: JobOptions, estimate: Callable[[RunConfig], float | None]) -> dict[str, Any]:
    """Write the files of a job that trains what the config file `run` says, and return what there is to say of it.

    `estimate` gives the seconds that training takes, None where it cannot tell; it is asked only where no time limit was
    given. Raises an `HftlError`, and then leaves nothing behind.
    """
    engine = _engine(options.engine)
    output_dir = typed_path(options.output_dir)
    check_folder(
        output_dir, "--output_dir", "jobs/mine", kind="a job of hftl", proof=_MARK, marks=(_MARK,), overwrite=None
    )
    values, push_to = _values(run, options.push_to)
    config = build_config(values["task"], {name: value for name, value in values.items() if name != "task"})
    local = _local(config)
    source = find_source(options.hftl_source)
    job = _job(engine, options, config, output_dir, push_to, local)
    known = None if options.time_limit else estimate(config)
    job = replace(job, limit=_limit(options.time_limit, known))
    with disk_errors(output_dir, "Choose another --output_dir."), new_folder(output_dir, _MARK) as folder:
        for name, path in local.items():
            values[name] = str(path.resolve()) if options.keep_paths else _copied(path, folder, name, engine.inputs)
        _check_size(options.engine, folder)
        wheel = put_wheel(source, folder) if isinstance(source, Path) else None
        job = replace(job, wheel=wheel, inputs=(folder / "inputs").is_dir())
        script = files("hftl.job").joinpath("templates", "train.py").read_text(encoding="utf-8")
        (folder / "train.py").write_text(head(source, wheel, extras(config)) + script, encoding="utf-8")
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        (folder / "RUN.yaml").write_text(text, encoding="utf-8")
        submit = write_files(job, engine, folder)
    return {
        "engine": options.engine,
        "output_dir": str(output_dir),
        "files": sorted(path.name for path in output_dir.iterdir()),
        "estimate_seconds": known,
        "time_limit_seconds": job.limit,
        "attempts": engine.attempts,
        "flavor": job.flavor,
        "cost": _cost(options, job, known),
        "checkpoints": job.storage or engine.storage,
        "secrets": list(job.secrets),
        "submit": submit,
    }


def _engine(name: str) -> Engine:
    if name not in ENGINES:
        raise ConfigError(f"There is no engine {name!r}; there are {', '.join(ENGINES)}.{did_you_mean(name, ENGINES)}")
    return ENGINES[name]


def _values(run: str, push_to: str | None) -> tuple[dict[str, Any], str | None]:
    """Return the flags that a config file holds, and where the result is pushed to: neither `hftl train` takes."""
    path = typed_path(run)
    if path.is_dir() and (path / "config.yaml").is_file():
        raise ConfigError(f"{run} is a folder: hftl job takes its config file, {path / 'config.yaml'}.")
    values = read_yaml(path)
    if any(_SECRET.search(str(value)) for value in values.values()):
        raise ConfigError(
            f"{run} holds what looks like a password or a token: take it out, the job gets it by its name."
        )
    pushes, named = values.pop("push_to_hub", None), values.pop("hub_model_id", None)
    wanted = push_to or named or (pushes if isinstance(pushes, str) else None)
    if pushes is True and wanted is None:
        raise ConfigError(f"{run} has push_to_hub, and no name of a repository: add --push_to my-name/my-model.")
    if wanted is not None:
        from hftl.publishing.hub_repository import check_repo_id

        check_repo_id(str(wanted), "--push_to")
    return {name: value for name, value in values.items() if name not in _OWN}, wanted


def _local(config: RunConfig) -> dict[str, Path]:
    """Return the files and folders of this machine that the run reads, by flag. Raises for a path to nothing."""
    if not isinstance(config.data.data, str):
        raise DataError(NO_DATA)
    local: dict[str, Path] = {}
    for flag, name in (("data", config.data.data), ("retain", config.retain)):
        if name is None:
            continue
        path = None if name.startswith("sample:") else existing_path(name)
        if path is None and not name.startswith("sample:"):
            hub_parts(name)  # for the job to find: the Hub may be out of reach from here
        else:
            check_data(name, None)
        local |= {flag: path} if path is not None else {}
    model = config.model.model
    if model is not None and packaged_as(model) is None:
        folder = typed_path(model)
        if (
            folder.exists() or model.startswith((".", "/", "~")) or model.count("/") > 1
        ):  # else of the Hub, for the job to find
            check_model(model)
            local["model"] = folder
    return local


def _check(engine: Engine, options: JobOptions) -> None:
    """Raise `ConfigError` for what the engine does not take."""
    for flag in ("flavor", "image"):
        if getattr(options, flag) is not None and flag not in engine.takes:
            taken = ", ".join(name for name, one in ENGINES.items() if flag in one.takes)
            raise ConfigError(f"--{flag} means nothing to {engine.says}: it is for {taken}.")
    if options.nodes > 1 and not engine.several:
        raise ConfigError(
            f"--nodes {options.nodes} needs a folder that all machines share, which {engine.says} does not give: use one "
            "machine with more --gpus, or --engine slurm, kubernetes or ray."
        )
    for flag, number, low in (
        ("gpus", options.gpus, 0),
        ("nodes", options.nodes, 1),
        ("processes", options.processes, 1),
    ):
        if number is not None and number < low:
            raise ConfigError(f"--{flag} is a number from {low} on, not {number}.")
    if options.price_per_hour is not None and options.price_per_hour < 0:
        raise ConfigError(f"--price_per_hour is a number from 0 on, not {options.price_per_hour:g}.")


def _job(
    engine: Engine,
    options: JobOptions,
    config: RunConfig,
    output_dir: Path,
    push_to: str | None,
    local: Collection[str],
) -> Job:
    """Return the job without its time limit; `local` are the flags that name what lies on this machine."""
    _check(engine, options)
    gpus = 0 if config.training.get("use_cpu") else 1
    gpus, flavor = gpus if options.gpus is None else options.gpus, options.flavor
    if options.engine == "hf":
        gpus, flavor = _flavor(options, gpus)
    name = re.sub(r"[^a-z0-9]+", "-", output_dir.absolute().name.lower()).strip("-")[:40].strip("-")
    reports = config.training.get("report_to") or []
    trackers = [reports] if isinstance(reports, str) else reports
    secrets = {one for tracker in trackers for one in _TRACKER_SECRETS.get(tracker, ())}
    model, data = str(config.model.model or ""), str(config.data.data)
    asks_hub = ("model" not in local and not packaged_as(model)) or ("data" not in local and data[:7] != "sample:")
    if push_to or (asks_hub and options.engine == "hf"):  # who can submit there has a token, and it may be needed
        secrets.add("HF_TOKEN")
    return Job(
        name=f"hftl-{name or 'job'}",
        config=config,
        gpus=gpus,
        processes=options.processes or max(gpus, 1),
        nodes=options.nodes,
        limit=0,
        folder=str(output_dir.absolute()),
        secrets=tuple(sorted(secrets)),
        push_to=push_to,
        flavor=flavor,
        image=options.image,
        storage=options.storage,
    )


def _flavor(options: JobOptions, gpus: int) -> tuple[int, str]:
    """Return the GPUs and the flavour of an HF job."""
    flavor = options.flavor or USUAL_FLAVORS.get(gpus)
    if flavor is None:
        raise ConfigError(
            f"No flavour of HF Jobs has {gpus} GPUs: --gpus is one of {', '.join(map(str, USUAL_FLAVORS))}."
        )
    if flavor not in FLAVORS:
        raise ConfigError(
            f"HF Jobs have no flavour {flavor!r}; there are {', '.join(FLAVORS)}.{did_you_mean(flavor, FLAVORS)}"
        )
    has = FLAVORS[flavor][1]
    if options.gpus is not None and options.gpus != has:
        raise ConfigError(f"--flavor {flavor} has {has} GPUs, not {options.gpus}: leave out --gpus, or --flavor.")
    return has, flavor


def _limit(typed: str | None, known: float | None) -> int:
    """Return the seconds after which the engine ends the job."""
    if typed is not None:
        limit = int(parse_budget(typed, "time_limit"))
        if limit < _SHORTEST:
            raise ConfigError(f"--time_limit {typed} is too short to start and to save in: give 5m or more.")
        return limit
    if known is None:
        raise ConfigError("hftl plan cannot tell how long this run takes here: give --time_limit, such as 2h.")
    return max(_AT_LEAST, -(-int(known * _TIMES + _MORE) // _STEP) * _STEP)


def _copied(path: Path, folder: Path, flag: str, inputs: str) -> str:
    """Copy a file or folder to where the job finds it, and return its name there."""
    target = folder / "inputs" / flag / path.resolve().name
    if folder.resolve().is_relative_to(path.resolve()):
        raise RunError(f"--output_dir lies in {path}, which the job copies: choose a folder outside of it.")
    target.parent.mkdir(parents=True)
    if path.is_dir():
        shutil.copytree(path, target)
    else:
        shutil.copy(path, target)
    return f"{inputs}/{flag}/{target.name}"


def _check_size(engine: str, folder: Path) -> None:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if engine == "ray" and size > _RAY_BYTES:
        raise RunError(
            f"The data and models are {size / 2**20:,.0f} MiB, and Ray uploads 500 at most: put them where all machines "
            "see them under the same path, and add --keep_paths."
        )


def _cost(options: JobOptions, job: Job, known: float | None) -> dict[str, Any] | None:
    """Return dollars: of the limit, of all attempts, and of the estimate; None without a price."""
    price, source = options.price_per_hour, "--price_per_hour"
    if price is None and options.engine == "hf":
        price, source = FLAVORS[str(job.flavor)][0], PRICES_FROM
    if price is None:
        return None
    price *= job.nodes
    return {
        "per_hour": price,
        "source": source,
        "estimate": None if known is None else _cents(price * known / 3600),
        "limit": _cents(price * job.limit / 3600),
        "all_attempts": _cents(price * job.limit / 3600 * ENGINES[options.engine].attempts),
    }


def _cents(dollars: float) -> float:
    return math.ceil(100 * dollars - 1e-9) / 100
