"""Random `kill -9` of workers over short runs: nothing lost, nothing different, nothing left.

    python -m tests.benchmarks.kills [kills] [seed] [rounds]

Each round trains the same runs twice: once left alone, once while a killer hits processes of the
lease at random moments: the process that trains, the server that forks it, or the whole agent.
Then every run's fingerprint (final weights and metric streams) must be that of its calm twin, and
no process of any lease may be alive after the agents' idle time.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from drillyard.errors import ExitCode
from drillyard.mailbox import Mailbox, open_store
from drillyard.results.fingerprint import fingerprint
from drillyard.system.processes import ProcessId, marked, send, wait_gone

from . import common

SEEDS = list(range(1, 13))
EXPERIMENT = """\
schema: 1
name: {name}
simulator: {{id: cstr, wrappers: [normalize], lesson: {{noise_percentage: {{min: 0, max: 5}}}}}}
learner: {{algorithm: ppo, preset: null, args: {{n_steps: 64, batch_size: 64, learning_rate: lin_0.001}}}}
train: {{steps: 6144, n_envs: 4, checkpoint_every: 512}}
evaluate: {{episodes: 2}}
seeds: {seeds}
resources: {{workers: 2, threads: 1, device: cpu}}
tracking: {{mlflow: null, tensorboard: false}}
"""  # noqa: E501
MOST_PER_TICKET = 4
"""A ticket may lose five attempts to the machinery; the killer stays below that."""
MOST = {"agent": 3, "fork server": 3, "training": 10_000}
"""A round. What is killed while it warms up has done nothing that could be lost."""


def start(folder: Path, name: str) -> subprocess.Popen[str]:
    (folder / f"{name}.yaml").write_text(EXPERIMENT.format(name=name, seeds=SEEDS))
    return subprocess.Popen(
        [str(common.BIN / "drillyard"), "run", f"{name}.yaml"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def leases(folder: Path, name: str) -> list[str]:
    """Every lease that an experiment ever asked for."""
    listed = open_store(str(folder / "drillyard-runs")).list(f"{name}/leases/")
    return [i.key.split("/")[2] for i in listed if i.key.endswith("/intent.json")]


def victims(folder: Path, name: str) -> list[tuple[str, ProcessId]]:
    """What may be killed now: (kind, process)."""
    found = []
    for lease in leases(folder, name):
        for process in marked(lease):
            try:
                line = psutil.Process(process.pid).cmdline()
            except psutil.Error:
                continue
            if "drillyard.worker" in line:
                found.append(("agent", process))
            elif "forkserver" in " ".join(line):
                # Both the server and what it forked carry its command line.
                agents = {p.pid for kind, p in found if kind == "agent"}
                server = psutil.Process(process.pid).ppid() in agents
                found.append(("fork server" if server else "training", process))
    return found


def kill_some(
    folder: Path, name: str, run: subprocess.Popen[str], kills: int, dice: random.Random
) -> Counter[str]:
    """Kill at random moments until the number is reached or the run is over."""
    hit: Counter[str] = Counter()
    mailbox = Mailbox(open_store(str(folder / "drillyard-runs")), name)
    while run.poll() is None and sum(hit.values()) < kills:
        time.sleep(dice.uniform(0.2, 1.6))
        losses: Counter[str] = Counter(t for t, _, ended in mailbox.claims() if not ended)
        if any(
            count > MOST_PER_TICKET
            for ticket, count in losses.items()
            if mailbox.ending(ticket, count) is None
        ):
            continue
        choices = [v for v in victims(folder, name) if hit[v[0]] < MOST[v[0]]]
        training = [v for v in choices if v[0] == "training"]
        if not training and dice.random() < 0.8:
            continue
        if choices:
            kind, process = dice.choice(choices)
            hit[kind] += send(process, signal.SIGKILL)
    return hit


def main() -> None:
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    dice = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 7)
    # A round takes about twenty: more rounds would only train.
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else -(-kills // 20)
    hit: Counter[str] = Counter()
    lost, different, runs, left, again = 0, 0, 0, 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        calm = start(folder, "calm")
        output = calm.communicate()[0]
        assert calm.returncode == 0, output
        store = open_store(str(folder / "drillyard-runs"))
        expected = {s: fingerprint(Mailbox(store, "calm"), f"t0001-s{s}") for s in SEEDS}
        for n in range(rounds):
            run = start(folder, f"hit-{n}")
            hit += kill_some(folder, f"hit-{n}", run, -(-kills // rounds), dice)
            output = run.communicate()[0]
            while run.returncode == ExitCode.INFRASTRUCTURE:
                # Three agents died before they were ready: undecided, "run the command again".
                again += 1
                run = start(folder, f"hit-{n}")
                hit += kill_some(folder, f"hit-{n}", run, 0, dice)
                output = run.communicate()[0]
            if run.returncode:
                print(f"exit {run.returncode}: {output[-2000:]}")
            for seed in SEEDS:
                runs += 1
                try:
                    same = fingerprint(Mailbox(store, f"hit-{n}"), f"t0001-s{seed}")
                except Exception as error:  # a lost result is counted, whatever it looks like
                    lost += 1
                    print(f"hit-{n} seed {seed}: {error}")
                    continue
                different += same != expected[seed]
            mine = [p for lease in leases(folder, f"hit-{n}") for p in marked(lease)]
            left += len(wait_gone(mine, timeout_s=90))
            print(
                f"round {n}: {dict(hit)} killed so far, {lost} lost, {different} different, "
                f"{left} left alive",
                flush=True,
            )
    common.table(
        "kill -9 of workers",
        [
            ("killed", f"{sum(hit.values())} {dict(hit)}"),
            ("results lost", f"{lost} of {runs}"),
            ("fingerprints that differ", f"{different} of {runs}"),
            ("processes left alive", str(left)),
            ("commands given again after exit 4", str(again)),
        ],
    )
    sys.exit(bool(lost or different or left))


if __name__ == "__main__":
    main()
