"""A process that has imported everything and forks itself for each command, so that no case pays for the imports.

`python -m tests.faults.server` reads one request per line and answers with one line. A request may ask for a signal at
the n-th call of a function: the command then kills (or stops, or interrupts) itself at a moment that is always the same.
"""

import gc
import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any


def resolve(path: str) -> tuple[Any, str]:
    """ "package.module:Class.method" → (the class or module, the name)."""
    module, _, names = path.partition(":")
    *outer, name = names.split(".")
    holder: Any = importlib.import_module(module)
    for part in outer:
        holder = getattr(holder, part)
    return holder, name


def signal_at(path: str, when: str, count: int, within: str, number: int) -> None:
    """Send this process the signal `number` before or after the `count`-th call of the function at `path`.

    With `within`, only calls from inside of that function count.
    """
    holder, name = resolve(path)
    original = getattr(holder, name)
    calls = 0
    if path.startswith("transformers.trainer:"):  # not the steps of the rehearsal
        within = within or "hftl.adapt:fit_plan"
    depth = watch_depth(within) if within else [1]

    def watched(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += depth[0] > 0
        mine = depth[0] > 0 and calls == count
        if mine and when == "before":
            os.kill(os.getpid(), number)
        result = original(*args, **kwargs)
        if mine and when == "after":
            os.kill(os.getpid(), number)
        return result

    setattr(holder, name, watched)


def watch_depth(path: str) -> list[int]:
    """Return a list whose one entry says how many calls of the function at `path` are going on."""
    holder, name = resolve(path)
    original = getattr(holder, name)
    depth = [0]

    def watched(*args: Any, **kwargs: Any) -> Any:
        depth[0] += 1
        try:
            return original(*args, **kwargs)
        finally:
            depth[0] -= 1

    setattr(holder, name, watched)
    return depth


def run_here(request: dict[str, Any]) -> int:
    """Do the request in this process, which ends after it."""
    for descriptor, file in ((1, request["out"]), (2, request["err"])):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.chdir(request["cwd"])
    os.environ.update(request["env"])
    for moment in request["moments"]:
        signal_at(*moment)
    if request["setup"]:
        holder, name = resolve(request["setup"])
        getattr(holder, name)()
    from hftl.cli import main

    try:
        main(request["words"])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def fork(work: Callable[[], int]) -> int:
    """Do `work` in a copy of this process; return its exit code, or the negative number of the signal that ended it."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    """Answer requests until there are no more."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell makes jobs in the background ignore it
    for module in ("bert.modeling_bert", "bert.tokenization_bert", "resnet.modeling_resnet", "align"):
        importlib.import_module(f"transformers.models.{module}")
    for module in ("transformers.pipelines", "transformers.hf_argparser", "evaluate", "kornia", "hftl.adapt"):
        importlib.import_module(module)
    gc.freeze()  # what is imported is not looked through again in every fork
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(fork(lambda request=request: run_here(request)), flush=True)


if __name__ == "__main__":
    serve()
