"""A process that has imported everything and forks itself for each command, so that no case pays for the imports.

`python -m tests.faults.server` reads one request per line and answers with one line. A request may ask for a signal at
the n-th call of a function: the command then kills (or stops, or interrupts) itself at a moment that is always the same.
"""

import importlib
import json
import os
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


def signal_at(path: str, when: str, count: int, number: int) -> None:
    """Send this process the signal `number` before or after the `count`-th call of the function at `path`."""
    holder, name = resolve(path)
    original = getattr(holder, name)
    calls = 0

    def watched(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        mine = calls == count
        if mine and when == "before":
            os.kill(os.getpid(), number)
        result = original(*args, **kwargs)
        if mine and when == "after":
            os.kill(os.getpid(), number)
        return result

    setattr(holder, name, watched)


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
    from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification
    from transformers import BertForSequenceClassification, BertTokenizer, ResNetForImageClassification

    import hftl.adapt

    assert hftl.adapt
    assert AutoModelForImageClassification
    assert AutoModelForSequenceClassification
    assert BertForSequenceClassification
    assert BertTokenizer
    assert ResNetForImageClassification
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(fork(lambda request=request: run_here(request)), flush=True)


if __name__ == "__main__":
    serve()
