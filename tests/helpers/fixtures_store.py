"""Writes experiments into a store as the real workers would, without training anything.

Everything goes through Mailbox, StreamWriter and save_file, so that readers are tested on the
agreed records. The numbers are made up but shaped like the reactor's.
"""

from __future__ import annotations

import csv
import io
import json
import math
import random
from pathlib import Path
from typing import Any

from drillyard.backend import Lease, Order
from drillyard.backend.prices import FREE
from drillyard.leases.ledger import Gone, Intent, Rented
from drillyard.mailbox import Mailbox
from drillyard.mailbox.file import FileStore
from drillyard.mailbox.mailbox import new_token, run_id, ticket_id
from drillyard.mailbox.records import (
    PHASES,
    AttemptStart,
    Claim,
    Ending,
    ExperimentRecord,
    Phase,
    RunRecord,
)
from drillyard.mailbox.status import Cause, Status
from drillyard.metrics.streams import StreamWriter
from drillyard.spec import ExperimentSpec
from drillyard.testing.clock import FakeClock
from tests.helpers.records import board_of, driver_of_process, failed, result_of, ticket_of

T0 = 1_772_370_000.0
STEPS = 60_000
MOLES = "kmol/m³"
UNITS = {
    "state_Tr": "K",
    "state_Cr": MOLES,
    "state_Cref": MOLES,
    "state_Tc": "K",
    "state_Tc_adjust": "K",
}
LEVELS = {"agent": 71.0, "p-controller": 61.5, "hold": 24.0, "random": 11.0}


def spec_of(name: str, seeds: list[int], **changes: Any) -> ExperimentSpec:
    """The reactor's experiment file, resolved."""
    values: dict[str, Any] = {
        "schema": 1,
        "name": name,
        "simulator": {"id": "cstr", "lesson": {"Cref_signal": {"values": [1, 2, 3, 4]}}},
        "learner": {"algorithm": "ppo", "args": {"learning_rate": 3e-4, "n_steps": 512}},
        "train": {"steps": STEPS, "n_envs": 8, "checkpoint_every": 20_000},
        "evaluate": {"episodes": 40, "every": {"steps": 5_000, "episodes": 10}},
        "seeds": seeds,
        "baselines": ["hold", "random", "p-controller"],
    }
    return ExperimentSpec.model_validate({**values, **changes})


def open_box(root: Path, name: str = "cstr-ppo") -> Mailbox:
    """A mailbox in a folder store."""
    return Mailbox(FileStore(str(root)), name)


def write_experiment(
    root: Path,
    name: str = "cstr-ppo",
    seeds: tuple[int, ...] = (1, 2),
    *,
    finished: int | None = None,
    failed: int = 0,
    level: float = LEVELS["agent"],
    evaluations: bool = True,
    best_baseline: str = "p-controller",
    **changes: Any,
) -> Mailbox:
    """An experiment on disk.

    Args:
        root: The store's folder.
        name: Its name.
        seeds: One run a seed.
        finished: How many runs are done (default all); the next one is at two thirds of training,
            the others wait.
        failed: How many of those that are not finished have failed in training.
        level: What the agent reaches in the end.
        evaluations: With evaluation while training.
        best_baseline: What the best baseline is called.
        **changes: Other values for the experiment file.
    """
    mailbox = open_box(root, name)
    spec = spec_of(name, list(seeds), **changes)
    dumped = spec.model_dump(mode="json", by_alias=True)
    mailbox.create(
        "experiment.json",
        ExperimentRecord(
            name=name,
            spec=dumped,
            provenance={
                "learner.args.learning_rate": "cstr.yaml, line 9",
                "learner.args.n_steps": "preset cstr/ppo",
                "train.steps": "--set train.steps",
                "seeds": "cstr.yaml, line 14",
                "evaluate.deterministic": "default",
            },
            identity="3f" * 32,
            code="ab" * 32,
            git_commit="0123456789abcdef0123456789abcdef01234567",
            git_dirty=True,
            command=["drillyard", "run", "cstr.yaml", "--set", f"train.steps={STEPS}"],
            versions={
                "python": "3.11.9",
                "drillyard": "0.1.0",
                "torch": "2.13.0+cpu",
                "stable-baselines3": "2.9.2",
                "gymnasium": "1.4.0",
            },
            created_at=T0,
        ),
    )
    done = len(seeds) if finished is None else finished
    for index, seed in enumerate(seeds):
        run = run_id(1, seed)
        mailbox.create(
            f"runs/{run}/run.json",
            RunRecord(run=run, experiment=name, seed=seed, parameters={}, threads=1, device="cpu"),
        )
        _post(mailbox, run, index)
        if index < done:
            _train(mailbox, run, seed, level, upto=STEPS, evaluations=evaluations)
            _evaluate(mailbox, run, seed, level, best_baseline if index == 0 else None)
            _accept(mailbox, run, Phase.STORE, {}, {"targets": []}, T0 + 128, T0 + 129)
        elif index < done + failed:
            _fail(mailbox, run)
        elif index == done + failed:
            _train(mailbox, run, seed, level, upto=STEPS * 2 // 3, evaluations=evaluations)
    _driver(mailbox, ended=done == len(seeds))
    return mailbox


def _post(mailbox: Mailbox, run: str, order: int) -> None:
    before: list[str] = []
    for phase in PHASES:
        ticket = ticket_id(run, phase)
        mailbox.post(ticket_of(run, phase, after=before, order=order, posted_at=T0))
        before = [ticket]


def _train(
    mailbox: Mailbox, run: str, seed: int, level: float, *, upto: int, evaluations: bool
) -> None:
    mailbox.claim(_claim(run, Phase.TRAIN))
    folder = mailbox.attempt_path(run, Phase.TRAIN, 1)
    mailbox.create(f"{folder}/start.json", AttemptStart(attempt=1, worker="w0", started_at=T0 + 9))
    rng, clock = random.Random(seed), FakeClock(T0)
    writer = StreamWriter(mailbox, run, 1, clock=clock)
    best = (0, -math.inf)
    for step in range(600, upto + 1, 600):
        clock.advance(1.0)
        writer.append(
            "train",
            step,
            {
                "rollout/ep_rew_mean": _learning(step, level - 6, seed) + rng.gauss(0, 0.8),
                "rollout/ep_len_mean": 88.0 + rng.random(),
                "train/loss": 1 / step,
            },
        )
        if evaluations and step % 4800 == 0:
            value = _learning(step, level, seed) + rng.gauss(0, 2.0)
            best = max(best, (step, value), key=lambda b: b[1])
            writer.append("evaluation", step, {"eval/mean_reward": value})
        if step % 6000 == 0:
            writer.flush()
    writer.flush()
    for seq, lines in enumerate([["starting", f"seed {seed}"], ["rollout 1", "rollout 2"]]):
        text = "\n".join(lines) + "\n"
        mailbox.store.put(mailbox.key(f"{folder}/logs/{seq:012d}.txt"), text.encode())
    if upto < STEPS:
        done = {"step": upto, "total": STEPS, "episodes": upto // 91, "episode_return": 63.4}
        pace = {"steps_per_s": 1510.0, "eta_s": 13.2, "checkpoint_step": upto - 1000}
        board = board_of(run, worker="w0", beat=40, written_at=T0 + 80, **done, **pace)
        mailbox.write(f"board/{run}.json", board)
        return
    summary = {
        "steps": STEPS,
        "episodes": STEPS // 91,
        "wall_s": 38.4 + seed,
        "steps_per_s": STEPS / (38.4 + seed),
        "resumes": 1 if seed == 2 else 0,
        "episodes_cut": 0,
        "parameters": {"learning_rate": 3e-4, "n_steps": 512, "gamma": 0.99},
        "best": {"step": best[0], "mean_return": best[1]} if evaluations else None,
        "exactness": "exact",
    }
    _accept(mailbox, run, Phase.TRAIN, {}, summary, T0 + 10, T0 + 110 + seed, claimed=True)


def _learning(step: int, level: float, seed: int) -> float:
    start = 8.0
    speed = 11_000 + 1_500 * (seed % 5)
    return start + (level + seed % 3 - start) * (1 - math.exp(-step / speed))


def _evaluate(
    mailbox: Mailbox, run: str, seed: int, level: float, best_baseline: str | None
) -> None:
    levels = {"agent": level + 0.9 * seed}
    if best_baseline is not None:
        names = {"p-controller": best_baseline, "hold": "hold", "random": "random"}
        levels |= {names[k]: v for k, v in LEVELS.items() if k != "agent"}
    episodes: list[dict[str, Any]] = []
    policies: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    for policy, mean in levels.items():
        rng = random.Random(f"{policy}{seed}")
        own = []
        for index in range(40):
            signal = index % 4 + 1
            value = mean + 2.2 * (signal - 2.5) + rng.gauss(0, 2.5)
            own.append(
                {
                    "policy": policy,
                    "episode": index,
                    "seed": 1000 + index,
                    "options": {"Cref_signal": signal},
                    "return": value,
                    "length": 91,
                    "terminated": False,
                    "truncated": True,
                    "metrics": {"kpi_rms_conc_error": 0.4},
                }
            )
        policies[policy] = _summary(own)
        episodes += own
        files[f"trajectories/{policy.replace(':', '.')}.csv"] = _trajectory(policy, mean).encode()
    meta = {
        p.replace(":", "."): {"options": {"Cref_signal": 1}, "return": m}
        for p, m in levels.items()
    }
    files["trajectories/meta.json"] = json.dumps(
        {
            **meta,
            "units": {**UNITS, "action_0": "10 K", "t": "step"},
            "reference": {"state_Cr": "state_Cref"},
        }
    ).encode()
    files["evaluation/episodes.json"] = json.dumps(episodes).encode()
    used = {"policies": policies, "policy_used": "best"}
    _accept(mailbox, run, Phase.EVALUATE, files, used, T0 + 112, T0 + 126 + seed)


def _summary(own: list[dict[str, Any]]) -> dict[str, Any]:
    returns = [e["return"] for e in own]
    n, mean = len(returns), sum(returns) / len(returns)
    std = math.sqrt(sum((r - mean) ** 2 for r in returns) / (n - 1))
    half = 2.0227 * std / math.sqrt(n)
    signals = sorted({e["options"]["Cref_signal"] for e in own})
    by = {
        str(s): sum(v) / len(v)
        for s in signals
        if (v := [e["return"] for e in own if e["options"]["Cref_signal"] == s])
    }
    return {
        "mean_return": mean,
        "std_return": std,
        "n_episodes": n,
        "mean_length": 91.0,
        "ci95": [mean - half, mean + half],
        "by_option": {"Cref_signal": by},
        "metrics": {"kpi_rms_conc_error": (90 - mean) / 50},
    }


def _trajectory(policy: str, level: float) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["t", *UNITS, "action_0", "reward"])
    rng, cr, tc = random.Random(policy), 8.5698, 292.0
    skill = level / 80
    for t in range(91):
        ref = 8.5698 + (2 - 8.5698) * min(max(t - 1, 0), 26) / 26
        move = 0.8 * skill * math.sin(t / 9) + rng.gauss(0, 0.08)
        cr += skill * 0.55 * (ref - cr) + rng.gauss(0, 0.05)
        tc += 10 * move * 0.2
        tr = 311.26 + (8.5698 - cr) / 6.5698 * 61.87
        writer.writerow([t, tr, cr, ref, tc, 10 * move, move, math.exp(-abs(cr - ref))])
    return out.getvalue()


def _fail(mailbox: Mailbox, run: str) -> None:
    mailbox.claim(_claim(run, Phase.TRAIN))
    mailbox.end(
        failed(
            ticket_id(run, Phase.TRAIN),
            Cause.USER_ERROR,
            message="the reward was NaN at step 1,204 of copy 3",
            hint="look at the simulator's reward",
            by="w0",
            ended_at=T0 + 30,
        )
    )


def _claim(run: str, phase: Phase) -> Claim:
    return Claim(
        ticket=ticket_id(run, phase), attempt=1, worker="w0", token=new_token(), claimed_at=T0 + 9
    )


def _accept(
    mailbox: Mailbox,
    run: str,
    phase: Phase,
    files: dict[str, bytes],
    summary: dict[str, Any],
    started_at: float,
    ended_at: float,
    *,
    claimed: bool = False,
) -> None:
    if not claimed:
        mailbox.claim(_claim(run, phase))
    claim = mailbox.read_claim(ticket_id(run, phase), 1)
    assert claim is not None
    told = {"summary": summary, "started_at": started_at, "ended_at": ended_at}
    mailbox.accept(claim, result_of(mailbox, run, phase, files, **told))
    mailbox.end(
        Ending(ticket=claim.ticket, attempt=1, status=Status.SUCCEEDED, by="w0", ended_at=ended_at)
    )


def _driver(mailbox: Mailbox, *, ended: bool) -> None:
    mailbox.create(
        "driver/1.json",
        driver_of_process(
            started_at=T0,
            written_at=T0 + 131,
            ended_at=T0 + 131 if ended else None,
            outcome="done" if ended else None,
        ),
    )
    order = Order(
        lease_id="dy-0123456789",
        experiment=mailbox.experiment,
        store_url=mailbox.store.url,
        workers=2,
    )
    folder = f"leases/{order.lease_id}"
    mailbox.create(
        f"{folder}/intent.json",
        Intent(order=order, backend="local", ordinal=1, cost=FREE, written_at=T0 + 2),
    )
    mailbox.create(
        f"{folder}/rented.json",
        Rented(
            written_at=T0 + 3,
            lease=Lease(lease_id=order.lease_id, backend="local", order=order, created_at=T0 + 3),
        ),
    )
    if ended:
        mailbox.create(
            f"{folder}/gone.json",
            Gone(lease_id=order.lease_id, reason="done", lived_s=128.0, written_at=T0 + 130),
        )
    seconds = {"prepare": 1.4, "provision": 0.6, "setup": 5.2} | (
        {"teardown": 0.7} if ended else {}
    )
    mailbox.store.put(
        mailbox.key("timings/1.json"),
        json.dumps({"schema_version": 1, "seconds": seconds}).encode(),
    )
