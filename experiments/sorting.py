"""The program of script.yaml: knows nothing of drillyard.

Reads its parameters from the environment, writes results and telemetry into its folder.
"""

import bisect
import os
import random
import sys
import time
from pathlib import Path

SIZE, ORDER = int(os.environ["SIZE"]), os.environ["ORDER"]


def prepare() -> None:
    """Write the numbers that are to be sorted."""
    source = random.Random(int(os.environ["DRILLYARD_SEED"]))
    numbers = [source.randrange(10 * SIZE) for _ in range(SIZE)]
    if ORDER == "sorted":
        numbers.sort()
    Path("numbers.txt").write_text("\n".join(map(str, numbers)))


def measure() -> None:
    """Sort, and say how it went."""
    numbers = [int(word) for word in Path("numbers.txt").read_text().split()]
    began, moved = time.perf_counter(), 0
    found: list[int] = []
    with open("telemetry.csv", "w", buffering=1) as telemetry:
        telemetry.write("timestamp,metric,value\n")
        for count, number in enumerate(numbers, 1):
            place = bisect.bisect(found, number)
            moved += len(found) - place
            found.insert(place, number)
            if count % (SIZE // 10) == 0:
                telemetry.write(f"{time.time()},moved,{moved}\n")
    sys.stdout.write(f"seconds={time.perf_counter() - began:.6f}\n")
    Path("sorted.txt").write_text("\n".join(map(str, found)))
    Path("results.csv").write_text(
        f"metric,value\nmoved,{moved}\nsorted,{found == sorted(numbers):d}\n"
    )


if __name__ == "__main__":
    {"prepare": prepare, "measure": measure}[sys.argv[1]]()
