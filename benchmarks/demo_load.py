"""`hftl demo` under load: seconds to the first page, latency, errors and memory with 20 clients at once.

    OMP_NUM_THREADS=2 HF_HUB_OFFLINE=1 python -m benchmarks.demo_load runs/tickets --clients 20 --seconds 30

The server runs in a process of its own, as a user starts it. Each client is a gradio_client with a session of its own
that calls /predict again as soon as it has its answer. Alone on the machine: the clients share its cores.
"""

import argparse
import json
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from gradio_client import Client, handle_file


TEXT = "The French Revolution began in 1789 and changed the politics of Europe."
WARM_CALLS, ALONE_CALLS = 10, 50


def start(run: str, log: Path) -> tuple[subprocess.Popen, str, float]:
    """Start the demo; return its process, its address, and the seconds until the page was answered."""
    clock = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "hftl", "demo", run, "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        stderr=log.open("w", encoding="utf-8"),
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"the demo did not start: {log.read_text(encoding='utf-8')}")
    url = json.loads(line)["url"]
    httpx.get(url, timeout=60).raise_for_status()
    return process, url, time.perf_counter() - clock


def memory(process: psutil.Process) -> float:
    """Megabytes that the server holds, with its children."""
    return sum(p.memory_info().rss for p in [process, *process.children(recursive=True)]) / 2**20


def call(client: Client, item: Any) -> float:
    clock = time.perf_counter()
    found = client.predict(item, api_name="/predict")
    assert found["confidences"], found
    return time.perf_counter() - clock


def many(url: str, item: Any, clients: int, seconds: float) -> tuple[list[float], list[str]]:
    """Call from `clients` threads for `seconds`; return every latency in seconds, and every error."""
    ready = [Client(url, verbose=False) for _ in range(clients)]
    end = time.perf_counter() + seconds
    latencies: list[float] = []
    errors: list[str] = []

    def work(client: Client) -> None:
        while time.perf_counter() < end:
            try:
                latencies.append(call(client, item))
            except Exception as error:
                errors.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=work, args=(client,)) for client in ready]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in ready:
        client.close()
    return latencies, errors


def summary(latencies: list[float]) -> dict[str, float]:
    p50, p95 = np.percentile(latencies, (50, 95))
    return {"calls": len(latencies), "p50_ms": round(1000 * p50, 1), "p95_ms": round(1000 * p95, 1)}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rounds", type=int, default=2, help="rounds of load: memory is flat when the last adds none")
    parser.add_argument("--image", help="an image file, for an image model")
    parser.add_argument("--starts", type=int, default=3)
    chosen = parser.parse_args(argv)
    item = handle_file(chosen.image) if chosen.image else TEXT
    log = Path("demo_load.log")
    firsts = []
    for _ in range(chosen.starts - 1):
        process, _, first = start(chosen.run, log)
        firsts.append(first)
        process.send_signal(signal.SIGTERM)
        process.wait()
    process, url, first = start(chosen.run, log)
    firsts.append(first)
    try:
        print(f"first page: {', '.join(f'{one:.1f}' for one in firsts)} s, median {statistics.median(firsts):.1f} s")
        server = psutil.Process(process.pid)
        alone = Client(url, verbose=False)
        for _ in range(WARM_CALLS):
            call(alone, item)
        print("one client:", json.dumps(summary([call(alone, item) for _ in range(ALONE_CALLS)])))
        print(f"memory before: {memory(server):.0f} MB")
        for number in range(1, chosen.rounds + 1):
            latencies, errors = many(url, item, chosen.clients, chosen.seconds)
            rate = len(latencies) / chosen.seconds
            print(f"round {number}, {chosen.clients} clients:", json.dumps(summary(latencies)), f"{rate:.1f} calls/s,",
                  f"{len(errors)} errors, memory after: {memory(server):.0f} MB")  # fmt: skip
            for line in sorted(set(errors))[:5]:
                print("  ", line)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


if __name__ == "__main__":
    main()
