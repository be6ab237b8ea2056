"""What the samples of the machine's use cost, in percent of a core.

    python -m tests.benchmarks.utilisation [SAMPLES]

Processor time of the whole process over many samples and their judgement, divided by the ten
seconds between two. A machine without NVIDIA's driver shows the cost without GPUs.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from drillyard.system.utilisation import EVERY_S, Monitor, Sampler

TARGET = 0.2
"""Percent of a core."""


def main() -> None:
    """Measure and print."""
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        monitor = Monitor(Sampler(Path(folder)).sample, time.time, gpus=None)
        monitor.step(1.0)
        opened = time.process_time() - began
        began = time.process_time()
        for number in range(1, samples + 1):
            monitor.step(1.0 + number * EVERY_S)
        each = (time.process_time() - began) / samples
    gpus = sum(name.endswith("utilization_percentage") for name in monitor.latest) - 1
    print(f"the first look, once a process: {opened * 1e3:.1f} ms of processor time")
    print(f"a sample ({gpus} GPUs): {each * 1e3:.2f} ms every {EVERY_S:g} s")
    share = each / EVERY_S * 100
    print(f"that is {share:.4f} % of a core (target: under {TARGET} %)")


if __name__ == "__main__":
    main()
