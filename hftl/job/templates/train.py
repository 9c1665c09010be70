"""Train RUN.yaml on one machine of a job, go on where an earlier attempt was cut off, and publish the result.

Written by `hftl job`. `uv run train.py` makes the environment that the header names; a Python that has hftl does as well.
Exit codes are those of `hftl train`; 143 says that the time was up or SIGTERM came, and that the same command goes on.
"""

import argparse
import ctypes
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path


HERE = Path(__file__).resolve().parent
STOPPED = 128 + signal.SIGTERM


def main() -> int:
    """Train, then push from the first machine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", help="files that the engine brings along")
    parser.add_argument("--output_dir", required=True, help="the run, in a folder that outlives the machine")
    parser.add_argument("--processes", type=int, default=1, help="on this machine")
    parser.add_argument("--nodes", type=int, default=1, help="machines")
    parser.add_argument("--rank", type=int, default=int(first("PET_NODE_RANK", "SLURM_NODEID") or 0))
    parser.add_argument("--master", default=f"{first('PET_MASTER_ADDR')}:{first('PET_MASTER_PORT')}", help="host:port")
    parser.add_argument("--stop_after", type=int, default=0, help="seconds after which a checkpoint ends the attempt")
    parser.add_argument("--push_to", help="ns/name on the Hub")
    args = parser.parse_args()
    for name in ("hftl", "torch"):
        if importlib.util.find_spec(name) is None:
            print(
                f"error: {name} is not installed here: use `uv run train.py`, or a Python that has it.",
                file=sys.stderr,
            )
            return 2
    output_dir = str(Path(args.output_dir).absolute())
    os.chdir(HERE)  # relative paths in RUN.yaml begin here
    words = ["-m", "hftl", "train", "RUN.yaml", "--output_dir", output_dir, "--resume"]
    if args.processes * args.nodes > 1:
        host, _, port = args.master.partition(":")
        where = ["--node_rank", str(args.rank), "--master_addr", host, "--master_port", port]
        spread = ["--nnodes", str(args.nodes), *where] if args.nodes > 1 else ["--standalone"]
        words = ["-m", "torch.distributed.run", *spread, "--nproc_per_node", str(args.processes), *words]
    code = run(words, args.stop_after)
    if code == 0 and args.push_to and args.rank == 0:
        code = run(["-m", "hftl", "push", output_dir, args.push_to], 0)
    return code


def first(*names: str) -> str:
    """Return the first of these variables that is set, else ""."""
    return next((os.environ[name] for name in names if name in os.environ), "")


def run(words: list[str], stop_after: int) -> int:
    """Run Python with these words. SIGTERM, Ctrl-C and the end of the time become one SIGTERM to it, at which hftl saves.

    In a session of its own it gets none from others: at a second one torchrun leaves its processes behind.
    """
    asked = []

    def ask(number: int, _: object) -> None:
        if not asked:
            child.terminate()
        asked.append(number)

    child = subprocess.Popen([sys.executable, *words], preexec_fn=end_with_parent, start_new_session=True)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, ask)
    signal.alarm(stop_after)
    code = child.wait()
    signal.alarm(0)
    if asked and code != 0:  # torchrun ends with 1 then
        return STOPPED
    return code if code >= 0 else 128 - code


def end_with_parent() -> None:
    """Ask Linux for a SIGTERM when the parent is killed: nobody else would end the training then."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


if __name__ == "__main__":
    sys.exit(main())
