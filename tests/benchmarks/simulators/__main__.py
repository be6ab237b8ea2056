"""Whether ``drillyard check`` predicts the run: a table of worlds and algorithms.

    python -m tests.benchmarks.simulators [--algorithms ppo,dqn,...] [--only WORLD,...] [--here]
                                      [--steps 2000] [--seconds S] [--results FILE] [--slow]

Each pair is checked, then trained and evaluated whatever the check said. A pair agrees if the
check approves what trains and refuses, with a fix, what fails. Both are done by the code of the
commands, in processes of their own, forked from one that has imported PyTorch (``--slow``: in new
ones, as the commands do). Prints a row a pair, and the disagreements.

All pairs take about half an hour on an idle core. ``--results FILE`` keeps each pair as a line of
JSON and goes on with what is missing in it; ``--seconds`` ends a slice. A training that takes
longer than three minutes is ended and counted as unfinished.

The worlds are Gymnasium's own, those of packages from PyPI, and ours with every kind of space. The
packages are installed into an environment of their own, below the temporary folder; ``--here``
takes the current environment as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.simulators import processes, worlds
from tests.benchmarks.simulators.worlds import World, file_of, shown

Call = Callable[[str, Path, float], dict[str, Any]]


def pair(world: World, algorithm: str, steps: int, call: Call) -> dict[str, Any]:
    """Check and train one pair."""
    with tempfile.TemporaryDirectory(prefix="drillyard-world-") as folder:
        file = Path(folder) / "world.json"
        file.write_text(json.dumps(file_of(world, algorithm, steps)))
        checked = call("check", file, processes.CHECK_S)
        approved = checked.get("refused") == []
        limit_s = processes.LIMIT_S if approved else processes.REFUSED_S
        trained = call("train", file, limit_s)
    good = "failed" not in checked and (approved or checked.get("fixed"))
    # An episode without an end is warned of; the training itself is not at fault.
    went = "steps" in trained and bool(trained.get("evaluated") or checked.get("endless"))
    return {
        "world": shown(world),
        "algorithm": algorithm,
        "check": checked,
        "run": trained,
        "approved": approved,
        "trained": "steps" in trained,
        "agrees": bool(good and (approved == went or trained.get("unfinished"))),
    }


def row(result: dict[str, Any]) -> str:
    """A line of the table."""
    said = (
        "approved"
        if result["approved"]
        else (
            "refused: " + "; ".join(result["check"].get("refused", []))[:90]
            if "failed" not in result["check"]
            else f"BROKE: {result['check']['failed']}"
        )
    )
    run = result["run"]
    if result["trained"]:
        went = f"{run['steps']} steps" + (
            "" if run.get("evaluated") else ", evaluation unfinished"
        )
    else:
        went = f"failed: {run['failed'][:60]}"
    mark = "!" if not result["agrees"] else "?" if run.get("unfinished") else " "
    took = f"{result['check']['s']:.0f} s, {run['s']:.0f} s"
    return f"{mark} {result['algorithm']:<16}{result['world']:<46.46} {said} | {went} | {took}"


def environment() -> Path:
    """An environment with the packages, over the current one; its interpreter."""
    folder = Path(tempfile.gettempdir()) / f"drillyard-worlds-{os.getuid()}"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        site = next(folder.glob("lib/python3*/site-packages"))
        above = [p for p in sys.path if "site-packages" in p]
        lines = [f"import site; site.addsitedir({path!r})" for path in above]
        (site / "above.pth").write_text("\n".join(lines))
    import numpy

    for package in worlds.PACKAGES:
        command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        done = subprocess.run(
            [*command, package, f"numpy=={numpy.__version__}"], check=False, capture_output=True
        )
        if done.returncode:
            print(f"{package} cannot be installed here: its worlds are left out")
    return python


def kept(file: Path | None) -> list[dict[str, Any]]:
    """The pairs of an earlier slice."""
    if file is None or not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines()]


def tried(given: argparse.Namespace, call: Call) -> list[dict[str, Any]]:
    """Every pair that was asked for, those of earlier slices included."""
    only = [name for name in given.only.split(",") if name]
    asked = [
        (world, algorithm)
        for world, algorithm in worlds.pairs(given.algorithms.split(","))
        if not only or shown(world) in only
    ]
    before = {(r["world"], r["algorithm"]): r for r in kept(given.results)}
    results, began = [], time.monotonic()
    for world, algorithm in asked:
        found = before.get((shown(world), algorithm))
        if found is None:
            if given.seconds and time.monotonic() - began > given.seconds:
                continue
            found = pair(world, algorithm, given.steps, call)
            print(row(found), flush=True)
            if given.results:
                with given.results.open("a") as file:
                    file.write(json.dumps(found) + "\n")
        results.append(found)
    if len(results) < len(asked):
        print(f"{len(asked) - len(results)} pairs are left for another slice")
    return results


def summary(results: list[dict[str, Any]]) -> tuple[str, bool]:
    """The last line, and whether every pair agrees."""
    counts = Counter((r["approved"], r["trained"]) for r in results)
    broke = [r for r in results if "failed" in r["check"]]
    bugs = [r for r in results if r["check"].get("bug") or r["run"].get("bug")]
    wrong = [r for r in results if not r["agrees"]]
    unfinished = [r for r in results if r["run"].get("unfinished")]
    return (
        f"\n{len(results)} pairs of {len({r['world'] for r in results})} worlds and "
        f"{len({r['algorithm'] for r in results})} algorithms: {counts[True, True]} approved and "
        f"trained, {counts[False, False]} refused and failed, {len(wrong)} disagreements, "
        f"{len(broke)} checks that broke, {len(bugs)} bugs in drillyard, "
        f"{len(unfinished)} unfinished",
        not (wrong or bugs),
    )


def main() -> int:
    """Print the table; 1 if a pair disagrees."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--algorithms", default=",".join(worlds.ALGORITHMS))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--only", default="")
    parser.add_argument("--here", action="store_true")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--one", nargs=2)
    given = parser.parse_args()
    if given.one:
        return processes.try_one(given.one[0], Path(given.one[1]))
    if not given.here:
        command = [str(environment()), "-m", "tests.benchmarks.simulators", "--here"]
        return subprocess.run([*command, *sys.argv[1:]], check=False).returncode
    os.environ.update(OMP_NUM_THREADS="1", SDL_VIDEODRIVER="dummy")
    with tempfile.TemporaryDirectory(prefix="drillyard-worlds-") as home:
        if not given.slow:
            processes.prepare(Path(home))
        said, good = summary(tried(given, processes.called if given.slow else processes.forked))
    wrong = "\n".join(row(r) for r in kept(given.results) if not r["agrees"])
    print(f"{wrong}{said}")
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
