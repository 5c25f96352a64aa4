"""Load and fuzz a policy server on loopback and write what it did as JSON.

    python benchmarks/serve_load.py pusht-keypoints-onedp-s --seconds 60 --clients 1 4 16 --fuzz 10000 --out load.json

The server is a process of its own (``onedp serve``), the clients are threads of this one, each with a connection that
sends its next request when it has its answer. Latency is what the client sees. A request is lost when no answer, or an
error, comes back. Exits with 1 when one was lost or the server did not survive the fuzzed messages.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
import websockets.sync.client

from onedp.files import write_json
from onedp.machine import command_line, cpu_name, usable_cores
from onedp.serve.client import PolicyClient
from onedp.serve.fuzz import fuzzed_messages
from onedp.types import episode_noise


class Server:
    """``onedp serve`` on a port of the system's choice."""

    def __init__(self, policy: str, rows: int):
        command = [sys.executable, "-m", "onedp.cli.main", "serve", policy, "--port", "0"]
        command += ["--limits.rows", str(rows), "--limits.requests-per-s", "1000000"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        line = self.process.stdout.readline()
        if "ws://" not in line:
            raise SystemExit("The server did not start.")
        self.port = int(line.rpartition(":")[2])

    def memory_mb(self) -> float:
        """Resident memory [MB]."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def metric(self, name: str, label: str = "") -> float:
        """The sum of a metric over its labels, or over those with ``label`` in them."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}\b", line) and label in line)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.terminate()
        return self.process.wait(60)


def one_client(port: int, number: int, seconds: float, barrier: threading.Barrier) -> tuple[list[float], int]:
    """Ask until the time is over; latencies [s] and how many requests were lost."""
    latencies, lost = [], 0
    with PolicyClient(port=port, timeout_s=60) as client:
        obs = client.spec.fake_observation(1, np.random.default_rng(number))
        barrier.wait()
        end = time.perf_counter() + seconds
        while (started := time.perf_counter()) < end:
            try:
                client.infer(obs, episode_noise(number, len(latencies), client.noise_shape)[None])
                latencies.append(time.perf_counter() - started)
            except Exception as error:
                print(f"lost: {error}", file=sys.stderr)
                lost += 1
                break
    return latencies, lost


def load(server: Server, clients: int, seconds: float) -> dict:
    """``clients`` at a time for ``seconds``."""
    answers_before, memory = server.metric("onedp_answers_total"), []
    barrier = threading.Barrier(clients)
    with ThreadPoolExecutor(clients) as pool:
        work = [pool.submit(one_client, server.port, number, seconds, barrier) for number in range(clients)]
        while not all(future.done() for future in work):
            memory.append(server.memory_mb())
            time.sleep(min(1.0, seconds / 10))
        results = [future.result() for future in work]
    latencies = np.array([value for values, _ in results for value in values]) * 1e3
    return {
        "clients": clients,
        "seconds": seconds,
        "requests": len(latencies),
        "lost": sum(lost for _, lost in results),
        "answers_counted_by_server": server.metric("onedp_answers_total") - answers_before,
        "requests_per_s": len(latencies) / seconds,
        "latency_ms_p50": float(np.percentile(latencies, 50)),
        "latency_ms_p99": float(np.percentile(latencies, 99)),
        "latency_ms_max": float(latencies.max()),
        "server_memory_mb_first": memory[len(memory) // 10],
        "server_memory_mb_last": memory[-1],
        "load_average_1_min": os.getloadavg()[0],
    }


def fuzz(server: Server, count: int) -> dict:
    """``count`` fuzzed messages, over a new connection whenever one is closed, then a good request."""
    with PolicyClient(port=server.port) as client:
        spec = client.spec
    messages = list(fuzzed_messages(spec, count, seed=0))
    memory, errors, answered, closed, sent = server.memory_mb(), 0, 0, 0, 0
    started = time.perf_counter()
    while sent < count:
        with websockets.sync.client.connect(f"ws://127.0.0.1:{server.port}", compression=None) as connection:
            connection.recv(timeout=60)
            try:
                while sent < count:
                    connection.send(messages[sent])
                    sent += 1
                    if isinstance(connection.recv(timeout=60), str):
                        errors += 1
                    else:
                        answered += 1
            except websockets.exceptions.ConnectionClosed:
                closed += 1
    seconds = time.perf_counter() - started
    with PolicyClient(port=server.port) as client:
        obs = spec.fake_observation(1, np.random.default_rng(0))
        client.infer(obs, episode_noise(0, 0, client.noise_shape)[None])
    return {
        "messages": sent,
        "error_answers": errors,
        "still_valid_and_answered": answered,
        "connections_closed": closed,
        "bugs_counted_by_server": server.metric("onedp_errors_total", 'reason="bug"'),
        "alive_after": server.process.poll() is None,
        "server_memory_mb_before": memory,
        "server_memory_mb_after": server.memory_mb(),
        "messages_per_s": count / seconds,
    }


@dataclass(frozen=True)
class Options:
    """What to measure."""

    policy: tyro.conf.Positional[str]
    """POLICY or POLICY@SAMPLER."""
    out: Path
    clients: tuple[int, ...] = (1, 4, 16)
    """Clients at a time, one measurement each."""
    seconds: float = 60.0
    """Length of a measurement."""
    rows: int = 16
    """Largest batch of the server; 1 turns batching off."""
    fuzz: int = 10_000
    """Fuzzed messages; 0 for none."""
    note: str = ""
    """Kept in the result: what else the machine did meanwhile."""


def main(options: Options) -> None:
    """Measure, write, print."""
    server = Server(options.policy, options.rows)
    try:
        result = {
            "policy": options.policy,
            "rows": options.rows,
            "command": command_line(),
            "hardware": f"{cpu_name()}, {usable_cores()} cores",
            "note": options.note,
            "load": [load(server, clients, options.seconds) for clients in options.clients],
            "fuzz": fuzz(server, options.fuzz) if options.fuzz else None,
        }
    finally:
        code = server.stop()
    result["exit_code_after_sigterm"] = code
    write_json(options.out, result)
    for row in result["load"]:
        print(
            f"{row['clients']:>3} clients: {row['requests_per_s']:.0f} requests/s, p50 {row['latency_ms_p50']:.1f} ms, "
            f"p99 {row['latency_ms_p99']:.1f} ms, lost {row['lost']}"
        )
    fuzzed = result["fuzz"]
    bad = code or any(row["lost"] for row in result["load"])
    if fuzzed:
        print(fuzzed)
        bad = bad or not fuzzed["alive_after"] or fuzzed["bugs_counted_by_server"]
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main(tyro.cli(Options))
