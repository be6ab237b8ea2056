"""``python -m tests.mutants``: draw mutants, run the tests over them, print what was killed."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from tests.mutants import report
from tests.mutants.drawing import ROOT, again, draw, find, order
from tests.mutants.reach import LAYERS, reach, simulated
from tests.mutants.running import Results, Runner


def main() -> int:
    """The command line; the exit code."""
    words = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    words.add_argument("--sample", type=int, default=300, help="how many are drawn")
    words.add_argument("--seed", help="hexadecimal digits; default: the first 8 of the commit")
    words.add_argument("--baseline", action="store_true", help="draw those of baseline.json again")
    words.add_argument(
        "--resume", action="store_true", help="with --baseline: keep its results, run what lacks"
    )
    words.add_argument("--layers", default=",".join(report.LAYERS), help="default: %(default)s")
    words.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="sessions at a time")
    words.add_argument("--save", type=Path, help="also write the draw and its results there")
    words.add_argument("--folder", type=Path, default=ROOT / "build" / "mutants")
    asked = words.parse_args()
    changed = _git("status", "--porcelain", "--", ".", f":!{report.BASELINE.relative_to(ROOT)}")
    if changed:
        print("The checkout has changes. Commit them first: the results are those of a commit.")
        print(changed)
        return 2
    commit = _git("rev-parse", "HEAD")
    before = {}
    if asked.baseline:
        kept, before = report.load()
        asked.seed, asked.sample = kept["seed"], len(before)
    seed = (asked.seed or commit[:8]).lower()
    folder = asked.folder / commit[:12]
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{'baseline-' if before else ''}{seed}-{asked.sample}"
    results = Results(folder / f"{name}.jsonl")
    print(f"commit {commit[:12]}, seed {seed}, results: {results.path}", flush=True)

    if asked.resume and not results.known:
        results.take(before)
    found = find()
    runner = Runner(found, results, asked.cores)
    if before:
        drawn = again(list(before), found, seed, runner.importable)
        print(f"{len(set(drawn) - set(before))} of {len(before)} are gone and were replaced")
    else:
        drawn = draw(asked.sample, order(found, seed), runner.importable)
    unusable = sum(not good for good in results.importable.values())
    print(f"{len(found)} mutants, {len(drawn)} drawn, {unusable} that cannot be imported")
    first = int(seed, 16) % 10**9
    for layer in filter(None, asked.layers.split(",")):
        tests = layer in LAYERS
        reached = reach(folder, layer, asked.cores) if tests else simulated(folder, first)
        runner.layer(layer, drawn, reached, first)
        if _git("rev-parse", "HEAD") != commit or _git("diff", "--name-only", "--", "src"):
            print("The checkout was changed meanwhile. Remove the results, and begin again.")
            return 2
    said = {m: report.verdicts(m, results) for m in drawn}
    print(report.table(said))
    for mutant, past in before.items():
        now = said.get(mutant, {})
        was = any(v in report.DEAD for v in past.values())
        if was and now and not results.dead(mutant):
            print(f"was killed and lives: {found[mutant].file} {mutant}")
    if asked.save:
        head = {"seed": seed, "sample": asked.sample, "commit": commit}
        report.save(asked.save, head, drawn, results)
    return 0


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
