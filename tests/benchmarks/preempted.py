"""SAC on Pendulum, killed four times with SIGKILL and resumed, beside trainings left alone.

    python -m tests.benchmarks.preempted FOLDER [SEED ...]

Default: seeds 1 to 6. Results are kept in FOLDER, so that seeds may be measured one by one; the
table is over all that are there. Each policy is evaluated over the same 20 episodes. About two
minutes a seed on one core.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import shutil
import statistics
import sys
from pathlib import Path

from tests.helpers import resume_runner

from . import common

SEEDS = (1, 2, 3, 4, 5, 6)
KILLS = 4
STEPS = 6_000
EPISODES = 20


def case(seed: int) -> dict[str, object]:
    """The experiment of both sides."""
    from drillyard.spec.presets import table

    preset = next(e for e in table() if e["name"] == "pendulum/sac")["values"]
    return {
        "simulator": {"id": "Pendulum-v1"},
        "seeds": [seed],
        "learner": {"algorithm": "sac", "preset": None, **preset["learner"]},
        "train": {"steps": STEPS, "checkpoint_every": 500},
        "evaluate": {"episodes": EPISODES},
        "tracking": {"tensorboard": False},
    }


def trained(store: Path, seed: int, kills: int) -> tuple[float, int]:
    """Train a seed to its end; its mean return, and how often it was resumed."""
    processes = multiprocessing.get_context("forkserver")
    shutil.rmtree(store, ignore_errors=True)  # of a measurement that was ended
    dice = random.Random(seed)
    for attempt in range(1, kills + 2):
        # Each attempt but the last lives for some steps, whether or not a checkpoint was written.
        die_at = dice.randint(300, 1800) if attempt <= kills else None
        process = processes.Process(
            target=resume_runner.train, args=(str(store), case(seed), attempt, die_at)
        )
        process.start()
        process.join()
        wanted = 0 if die_at is None else -9
        assert process.exitcode == wanted, f"exit {process.exitcode}, not {wanted}"
    return evaluated(store, seed)


def evaluated(store: Path, seed: int) -> tuple[float, int]:
    """The mean return of a trained seed, and how often it was resumed."""
    from drillyard.agents.load import load_agent
    from drillyard.evaluation.episodes import plan, run_episodes
    from drillyard.mailbox import Mailbox, open_store
    from drillyard.mailbox.records import Phase

    spec = resume_runner.experiment(case(seed))
    mailbox = Mailbox(open_store(str(store)), spec.name)
    policy, _ = load_agent(mailbox, resume_runner.RUN, "final")
    played = run_episodes(spec.simulator, policy.playing(True), plan(spec))
    accepted = mailbox.accepted(resume_runner.RUN, Phase.TRAIN)
    assert accepted is not None
    returns = [e.episode_return for e in played.episodes]
    return statistics.mean(returns), int(accepted.summary["resumes"])


def main() -> None:
    """Measure the seeds named on the command line, and print all that were measured."""
    from drillyard.statistics.intervals import mean_interval

    folder, seeds = Path(sys.argv[1]), [int(a) for a in sys.argv[2:]] or list(SEEDS)
    for seed in seeds:
        for side, kills in (("left alone", 0), ("preempted", KILLS)):
            found = folder / f"{seed}-{kills}.json"
            if not found.exists():
                score = trained(folder / f"store-{seed}-{kills}", seed, kills)
                found.write_text(json.dumps({"side": side, "score": score}))
    both: dict[str, list[float]] = {"left alone": [], "preempted": []}
    resumes = 0
    for path in sorted(folder.glob("*.json")):
        one = json.loads(path.read_text())
        both[one["side"]].append(one["score"][0])
        resumes += one["score"][1]
    rows = [
        (side, f"median {statistics.median(each):.1f} ({', '.join(f'{v:.1f}' for v in each)})")
        for side, each in both.items()
    ]
    ends = mean_interval(both["left alone"]) or (float("nan"), float("nan"))
    rows.append(
        (
            "interval of their mean, left alone",
            f"{ends[0]:.1f} to {ends[1]:.1f}; {resumes} resumes",
        )
    )
    common.table(f"SAC on Pendulum-v1, {STEPS:,} steps, {KILLS} kills a seed", rows)


if __name__ == "__main__":
    main()
