"""What each preset reaches: the experiment that its name runs, as it is.

    python -m tests.benchmarks.presets [--folder F] [NAME ...]

Names as `drillyard list presets` gives them; default: all that have been measured. Prints the line
``"measured"`` of ``presets.json``, and what was stated before. Some minutes a preset on one core.
``--folder`` keeps the store there, so that the command continues after it was stopped.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import drillyard
from drillyard.spec.presets import Preset, statement, table


def measure(entry: Preset, folder: Path) -> dict[str, list[float]]:
    """Run the experiment of a preset.

    Args:
        entry: Entry of the table.
        folder: For its store.

    Returns:
        Policy -> mean returns; of ``agent``, one a seed.
    """
    loaded = drillyard.load(  # what is watched changes no number
        entry["name"], tracking__mlflow=None, tracking__tensorboard=False
    )
    found = drillyard.run(loaded, store=folder / "store", report=False, flow=False).to_dict()
    means = {"agent": [run["mean_return"] for run in found["runs"]]}
    beside = {p["policy"]: [p["mean_return"]] for p in found["policies"]}
    return {**means, **{policy: mean for policy, mean in beside.items() if policy != "agent"}}


def line(found: dict[str, list[float]]) -> str:
    """The answer as ``presets.json`` has it."""
    own = ", ".join(f"{mean:.4g}" for mean in found["agent"])
    beside = ", ".join(f'"{p}": {m[0]:.4g}' for p, m in found.items() if p != "agent")
    return f'"measured": {{"means": [{own}], "beside": {{{beside}}}}}'


def main() -> None:
    """Measure the presets named on the command line, and print them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for entry in table():
            if entry["name"] in given.names or (entry["measured"] and not given.names):
                began = time.monotonic()
                found = measure(entry, given.folder or Path(name))
                minutes = (time.monotonic() - began) / 60
                print(f"{entry['name']}: {statement(entry)}")
                print(f"    {line(found)}  [{minutes:.1f} min]", flush=True)


if __name__ == "__main__":
    main()
