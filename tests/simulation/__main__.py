"""``python -m tests.simulation``: replay a schedule, run many, or find defects put back."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys

_FRESH = secrets.randbelow(10**9)


def main() -> int:
    """The command line; the exit code."""
    words = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    words.add_argument("--seed", type=int, help="replay the schedule of this seed, and shrink it")
    words.add_argument("--trace", action="store_true", help="with --seed: print what happened")
    words.add_argument("--backend", help="where machines are rented; default: by the seed")
    words.add_argument(
        "--seconds", type=float, help="run schedules for so long; of CPU time for each defect"
    )
    words.add_argument("--schedules", type=int, help="run so many schedules")
    words.add_argument("--seed-from", type=int, help="first seed; default: a fresh one")
    words.add_argument("--cores", type=int, default=1, help="processes side by side")
    words.add_argument("--defect", help="put a defect back; `all` prints the table")
    words.add_argument("--part", default="1/1", help="with `all`: such a part, as in 2/4")
    words.add_argument("--floor", type=int, help="with `all`: must be found; default: all")
    words.add_argument("--reached", action="store_true", help="how many reach what is rare")
    words.add_argument("--lines", action="store_true", help="which lines no schedule reaches")
    words.add_argument("--regressions", action="store_true", help="replay what has failed before")
    words.add_argument("--json", action="store_true", help="print the figures as JSON")
    asked = words.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets of texts is part of a schedule.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])

    from tests.simulation.campaign import campaign, line, side_by_side

    first = _FRESH if asked.seed_from is None else asked.seed_from
    if asked.regressions:
        from tests.simulation.regressions import replay

        return replay()
    if asked.reached:
        from tests.simulation.conditions import print_reached

        return print_reached(first, asked.schedules or 100)
    if asked.lines:
        from tests.simulation.reach import print_lines

        return print_lines(first, asked.schedules or 108, asked.json)
    if asked.defect == "all":
        from tests.simulation.table import print_table

        number, _, parts = asked.part.partition("/")
        part = int(number), int(parts)
        seconds, most = asked.seconds or 60.0, asked.schedules
        return print_table(first, seconds, most, asked.backend, part, asked.floor)
    if asked.seed is not None:
        return _replay(asked.seed, asked.backend, asked.trace, asked.defect)
    if asked.cores > 1:
        print(f"first seed: {first}", flush=True)
        return side_by_side(first, asked.seconds or 60.0, asked.cores, asked.defect)
    done = campaign(
        first,
        seconds=asked.seconds or (None if asked.schedules else 60.0),
        schedules=asked.schedules,
        backend=asked.backend,
        defect=asked.defect,
        cut_down=not asked.json,
    )
    if asked.json:
        print(json.dumps(done.document()))
        return 1 if done.failed else 0
    print(f"first seed: {first}")
    print(line(done.schedules, done.steps, done.seconds, done.counts))
    if done.failed is None:
        return 0
    print(f"failed: python -m tests.simulation --seed {done.failed.plan.seed}")
    for trouble in done.failed.trouble:
        print(f"  {trouble}")
    print(f"shortest schedule that fails:\n{done.shortest}")
    return 1


def _replay(seed: int, backend: str | None, trace: bool, defect: str | None) -> int:
    from tests.simulation.campaign import BACKENDS, one
    from tests.simulation.defects import patches_of
    from tests.simulation.patches import installed
    from tests.simulation.plan import draw
    from tests.simulation.shrink import shrink

    plan = draw(seed, backend or BACKENDS[seed % len(BACKENDS)])
    with installed(patches_of(defect)) as begin:
        result = one(plan, begin, verbose=trace)
        if trace:
            print("\n".join(result.trace))
        print(f"{plan}\n{result.steps:,} steps, {result.time:,.0f} s of virtual time")
        if not result.failed:
            print("all invariants hold")
            return 0
        print("failed:")
        for trouble in result.trouble:
            print(f"  {trouble}")
        shortest = shrink(plan, result.trouble[0], lambda p: one(p, begin).trouble)
        print(f"shortest schedule that fails:\n{shortest}")
        again = one(shortest, begin, verbose=True)
        print("its last lines:", *again.trace[-40:], sep="\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
