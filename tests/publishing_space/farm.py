"""Serves Spaces in one process that has no hftl: `python farm.py` with a JSON list of environments on stdin.

It runs apart from the tests. Importing anything that the Space may not need fails here, and so does every connection
that would leave this machine. Prints one JSON list: for each environment its port, or the line that the app ended with.
"""

import importlib.util
import io
import json
import os
import sys
import types
from pathlib import Path


BLOCKED = (
    "hftl",
    "peft",
    "captum",
    "torchvision",
    "datasets",
    "accelerate",
    "evaluate",
    "sklearn",
    "sentencepiece",
    "onnx",
)
APP = Path(__file__).resolve().parents[2] / "spaces_demo" / "app.py"
LOCAL = ("127.0.0.1", "localhost", "::1", "0.0.0.0", None, "")


class Without:
    """A finder that knows nothing of what is blocked."""

    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in BLOCKED else self.finder.find_spec(name, path, target)


def stay_here(event, arguments):
    """Refuse connections and name look-ups of anything but this machine, and say so."""
    address = arguments[1] if event == "socket.connect" else arguments[0] if event == "socket.getaddrinfo" else None
    host = address[0] if isinstance(address, tuple) else address
    host = host.decode() if isinstance(host, bytes) else host
    if event.startswith("socket.") and isinstance(host, str) and not host.startswith("/") and host not in LOCAL:
        print(f"LEFT THE MACHINE: {event} {host}", file=sys.stderr, flush=True)
        raise OSError(f"{host} is not this machine")


def serve(number, environment):
    """Import the app anew under these variables, and serve it."""
    for name in ("MODEL_ID", "REVISION", "TRUST_REMOTE_CODE", "SPACES_ZERO_GPU"):
        os.environ.pop(name, None)
    os.environ.update(environment)
    asked = []
    if "SPACES_ZERO_GPU" in environment:
        fake = types.ModuleType("spaces")
        fake.GPU = lambda task, duration: lambda *values: asked.append(duration) or task(*values)
        sys.modules["spaces"] = fake
    spec = importlib.util.spec_from_file_location(f"app_{number}", APP)
    app = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(app)
    sys.modules.pop("spaces", None)
    try:
        served = app.load()
    except SystemExit as error:
        return {"stopped": str(error.code)}
    page = app.build(served)
    app.launch(page, prevent_thread_lock=True, quiet=True)
    GPU_CALLS[str(number)] = asked
    return {"port": page.server_port, "number": number}


if __name__ == "__main__":
    GPU_CALLS = {}
    sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
    for name in list(sys.modules):
        assert name.partition(".")[0] not in BLOCKED, name
    sys.path.insert(0, str(APP.parent))
    sys.addaudithook(stay_here)
    environments = json.loads(sys.stdin.readline())
    sys.stdout, out = io.StringIO(), sys.stdout
    found = [serve(number, environment) for number, environment in enumerate(environments)]
    print(json.dumps(found), file=out, flush=True)
    for _ in sys.stdin:  # until the tests let go
        print(
            json.dumps({"gpu": GPU_CALLS, "loaded": sorted({n.partition(".")[0] for n in sys.modules})}),
            file=out,
            flush=True,
        )
