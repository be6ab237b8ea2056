"""Latency of a served policy: ``python -m tests.benchmarks.serving``.

One observation a request, one client on loopback, a kept connection; the server is a process of
its own. Beside it, in the same run, ``/health``: what HTTP costs without the network.
"""

import tempfile
import time
from pathlib import Path

import numpy as np

from tests.unit.policies.test_serving import GOOD, bundle_of, start

REQUESTS = 2000


def latencies(ask):
    for _ in range(100):
        ask()
    found = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        assert ask().status_code == 200
        found.append(1000 * (time.perf_counter() - began))
    return np.array(found)


def main():
    with tempfile.TemporaryDirectory() as folder:
        process, client = start(bundle_of(Path(folder), "ppo"))
        try:
            act = latencies(lambda: client.post("/act", json={"states": GOOD}))
            health = latencies(lambda: client.get("/health"))
        finally:
            client.close()
            process.terminate()
            process.wait()
    for name, found in (("POST /act", act), ("GET /health", health)):
        p50, p99 = np.percentile(found, [50, 99])
        rate = 1000 / found.mean()
        print(f"{name:12} p50 {p50:.2f} ms  p99 {p99:.2f} ms  {rate:.0f} per s")
    ratio = np.percentile(act, 99) / np.percentile(health, 99)
    print(f"p99 of /act over p99 of /health: {ratio:.2f}")


if __name__ == "__main__":
    main()
