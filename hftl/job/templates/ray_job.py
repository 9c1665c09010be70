"""Run train.py on the machines of a Ray cluster, once on each, and again when a machine is lost. Written by `hftl job`."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy


WAIT = 30  # seconds before another attempt: what was cut off writes its checkpoint meanwhile


def train(words: list[str]) -> int:
    """Run train.py here; it ends with this worker. Return its exit code."""
    uv = ["uv", "run", "--no-project"] if shutil.which("uv") else [sys.executable]
    python = [os.environ["PYTHON"]] if "PYTHON" in os.environ else uv
    end = lambda: ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # noqa: E731  PR_SET_PDEATHSIG
    return subprocess.run([*python, "train.py", *words], preexec_fn=end).returncode


def attempt(nodes: int, gpus: int, words: list[str]) -> list[int]:
    """Run train.py once on each of so many machines; return the exit codes."""
    group = placement_group([{"CPU": 1, "GPU": gpus} if gpus else {"CPU": 1}] * nodes, strategy="STRICT_SPREAD")
    try:
        ray.get(group.ready())

        def on(rank: int, function, **options):  # a task on one machine of the group
            place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank)
            return ray.remote(function).options(
                num_cpus=1, num_gpus=gpus, scheduling_strategy=place, max_retries=0, **options
            )

        master = f"{ray.get(on(0, ray.util.get_node_ip_address).remote())}:29500"
        more = ["--nodes", str(nodes), "--master", master] if nodes > 1 else []
        return ray.get([on(rank, train).remote([*words, *more, "--rank", str(rank)]) for rank in range(nodes)])
    finally:
        remove_placement_group(group)  # ends what is left of the others


def main(nodes: str, gpus: str, attempts: str, *words: str) -> int:
    """Try until it is done, a wrong flag is found (2), or the attempts are used up."""
    ray.init()
    codes = [1]
    for number in range(1, int(attempts) + 1):
        try:
            codes = attempt(int(nodes), int(gpus), list(words))
        except ray.exceptions.RayError as error:
            codes = [1]
            print(f"attempt {number}: {type(error).__name__}: {str(error).splitlines()[0]}", file=sys.stderr)
        if not any(codes) or 2 in codes or number == int(attempts):
            break
        print(f"attempt {number} ended with {codes}; the next one goes on in {WAIT} seconds", file=sys.stderr)
        time.sleep(WAIT)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
