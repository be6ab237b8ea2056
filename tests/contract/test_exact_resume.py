"""Exact resume: run A is left alone, run B is killed with SIGKILL and resumed in a fresh process.

The processes come from a fork server, as a worker's do; one test starts a plain interpreter and is
killed from outside at random moments.
"""

import functools
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from drillyard.mailbox.records import Phase
from drillyard.metrics import streams
from drillyard.results.fingerprint import fingerprint, weights_fingerprint
from drillyard.runs import checkpoints
from drillyard.runs.barrier_rule import barrier_steps
from tests.helpers import resume_runner
from tests.helpers.patience import PATIENCE_S
from tests.helpers.resume_cases import CASES, PLAIN
from tests.helpers.resumed import RUN, box, ended_alike, resumed, summary, train

STOP = resume_runner.train_and_stop


@pytest.fixture(scope="module")
def left_alone(processes, tmp_path_factory):
    """Gives the mailbox of a case that nobody disturbed: trained once, and read only."""

    @functools.cache
    def trained(name):
        store = tmp_path_factory.mktemp(f"left-alone-{name}")
        assert train(processes, store, CASES[name], 1) == 0
        return box(store)

    return trained


def copies(case):
    return case["train"].get("n_envs", 1)


KINDS = {
    "ppo",
    "ppo-vectorised",
    "a2c-curriculum",
    "dqn",
    "sac",
    "recurrent-ppo",
    "ars",
    "replay-ppo",
    "replay-td3",
    "replay-plain",
    "reset-ppo",
}
"""On and off policy, with and without a memory, noise and a simulator that can be saved: what the
others are made of. Those run on demand."""


@pytest.mark.parametrize(
    "name",
    [n if n in KINDS else pytest.param(n, marks=pytest.mark.slow) for n in CASES],
)
def test_a_killed_run_ends_as_one_that_was_left_alone(name, processes, left_alone, tmp_path):
    case, a = CASES[name], left_alone(name)
    steps = sorted(step for step, _ in checkpoints.found(a, RUN))
    assert len(steps) >= 3
    # Looks come once a vectorised step; evaluations look too, which only moves the moment.
    earliest = steps[1] // copies(case) + 5
    die_at = random.Random(name).randint(earliest, steps[-1] // copies(case) + 60)

    b = resumed(processes, tmp_path / "b", case, die_at)

    done = summary(b)
    assert done["steps"] == summary(a)["steps"]
    assert done["parameters"] == summary(a)["parameters"]
    assert done["exactness"] == ("exact with resets" if name.startswith("reset") else "exact")
    assert done["episodes_cut"] == summary(a)["episodes_cut"]
    assert streams.read_stream(a, RUN, "train") and streams.read_stream(a, RUN, "evaluation")
    ended_alike(b, a)
    # What attempt 2 wrote itself begins after the checkpoint: nothing was done over again.
    folder = streams.folder_of(b, RUN, 2, "train")
    own = [x for info in b.store.list(folder) for x in streams.parsed(b.store.get(info.key))]
    assert all(x["step"] > done["resumed_step"] for x in own) and own


STOPPED = KINDS | {"ppo-sde-stack", "dqn-n-step", "td3-episodes"}


@pytest.mark.parametrize(
    "name",
    [n if n in STOPPED else pytest.param(n, marks=pytest.mark.slow) for n in CASES],
)
def test_a_run_that_was_stopped_twice_ends_as_one_that_was_left_alone(
    name, processes, left_alone, tmp_path
):
    """Where every layer has state it goes on where it stopped, and nothing is reseeded."""
    case, a = CASES[name], left_alone(name)
    dice = random.Random(name)
    b, reached = box(tmp_path / "b"), 0
    for attempt, (low, high) in enumerate([(30, 110), (130, 200)], 1):
        looks = dice.randint(low, high) // copies(case)
        assert train(processes, tmp_path / "b", case, attempt, looks, target=STOP) == 5
        assert b.accepted(RUN, Phase.TRAIN) is None
        there = checkpoints.found(b, RUN)
        if name.startswith("reset"):
            continue
        (step, by), *_ = there
        assert by == attempt
        assert step > reached, "it goes on where it stopped"
        reached = step
        assert checkpoints.read_meta(b, RUN, by, step).info["stopped"] is True
    assert train(processes, tmp_path / "b", case, 3) == 0

    done = summary(b)
    if name.startswith("reset"):
        barriers = {step for step, _ in checkpoints.found(a, RUN)}
        assert done["resumed_step"] in {0, *barriers}
    else:
        assert (done["resumes"], done["resumed_step"]) == (2, reached)
        assert done["exactness"] == "exact"
    ended_alike(b, a)


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_one_changed_number_in_a_checkpoint_changes_the_fingerprint(
    name, processes, left_alone, tmp_path
):
    from drillyard.agents.packing import pack, unpack

    case = CASES[name]
    a, b = left_alone(name), box(tmp_path / "b")
    step, attempt = sorted(checkpoints.found(a, RUN))[1]
    meta = checkpoints.read_meta(a, RUN, attempt, step)
    files = {n: a.store.get(a.key(e.key)) for n, e in meta.files.items()}

    def plant(contents, number):
        checkpoints.save(b, RUN, number, step, meta.barrier, contents, meta.stream_offsets, 0.0)
        for stream in ("train", "episodes", "evaluation", "timing"):
            prefix = a.key(f"{a.attempt_path(RUN, Phase.TRAIN, 1)}/streams/{stream}/")
            for info in a.store.list(prefix):
                b.store.put(info.key, a.store.get(info.key))

    plant(files, 1)
    assert train(processes, tmp_path / "b", case, 2) == 0
    assert fingerprint(b, RUN) == fingerprint(a, RUN)

    b = box(tmp_path / "c")
    tree = unpack(files)
    weights = tree["model"]["modules"]["policy"]
    first = sorted(weights)[0]
    weights[first].view(-1)[0] += 1e-4
    plant({**files, **pack(tree)}, 1)
    assert train(processes, tmp_path / "c", case, 2) == 0
    assert fingerprint(b, RUN) != fingerprint(a, RUN)


def test_a_damaged_checkpoint_is_passed_over_for_an_older_one(processes, left_alone, tmp_path):
    case = CASES["ppo"]
    assert train(processes, tmp_path / "b", case, 1, 220) == -9
    b = box(tmp_path / "b")
    (newest, attempt), (older, _) = checkpoints.found(b, RUN)[:2]
    entry = checkpoints.read_meta(b, RUN, attempt, newest).files["tensors.safetensors"]
    data = bytearray(b.store.get(b.key(entry.key)))
    data[-1] ^= 1
    b.store.put(b.key(entry.key), bytes(data))
    assert train(processes, tmp_path / "b", case, 2) == 0
    assert summary(b)["resumed_step"] == older
    assert fingerprint(b, RUN) == fingerprint(left_alone("ppo"), RUN)


QUICK = {"n_steps": 64, "batch_size": 128, "n_epochs": 1}


@pytest.mark.parametrize("simulator", [{"id": "CartPole-v1"}, PLAIN], ids=["gymnasium", "plain"])
def test_a_training_killed_anywhere_repeats_less_than_15_percent(simulator, processes, tmp_path):
    """Neither can be saved, the file chooses no interval, and a Tank's episode has no end."""
    budget = 3000
    case = {
        "simulator": simulator,
        "learner": {"algorithm": "ppo", "args": QUICK},
        "train": {"steps": budget, "n_envs": 2},
        "tracking": {"tensorboard": False},
    }
    seed = random.randrange(1000)
    print(f"seed {seed}")
    die_at = 2 * random.Random(seed).randint(1, budget // 2)

    assert train(processes, tmp_path / "a", case, 1) == 0
    assert train(processes, tmp_path / "b", case, 1, die_at // 2) == -9
    assert train(processes, tmp_path / "b", case, 2) == 0

    a, b = box(tmp_path / "a"), box(tmp_path / "b")
    assert die_at - summary(b)["resumed_step"] < 0.15 * budget
    kept = {step for step, _ in checkpoints.found(a, RUN)}
    assert kept <= {*barrier_steps(budget, budget // 10, 128)}
    assert summary(b)["exactness"] == "exact"
    assert summary(b)["episodes_cut"] == 0
    assert weights_fingerprint(b, RUN) == weights_fingerprint(a, RUN)


def test_killed_from_outside_again_and_again(tmp_path):
    """A plain interpreter, SIGKILL at random moments (also amid writing), till it gets through."""
    case = json.loads(json.dumps(CASES["ppo"]))
    case["train"] |= {"steps": 6000, "checkpoint_every": 500}
    script = str(Path(resume_runner.__file__))
    dice = random.Random(3)

    def start(store, attempt):
        command = [sys.executable, script, str(store), json.dumps(case), str(attempt)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    left_alone = start(tmp_path / "a", 1)
    assert left_alone.wait(PATIENCE_S) == 0, left_alone.stderr.read()
    left_alone.stderr.close()
    a, b = box(tmp_path / "a"), box(tmp_path / "b")

    def newest(mailbox):
        return max((step for step, _ in checkpoints.found(mailbox, RUN)), default=0)

    kills = 0
    for attempt in range(1, 6):
        process = start(tmp_path / "b", attempt)
        seen = newest(b)
        deadline = time.monotonic() + PATIENCE_S
        while process.poll() is None and attempt < 3:
            assert time.monotonic() < deadline
            if newest(b) >= seen + 2 * 500:  # older ones are deleted meanwhile
                time.sleep(dice.uniform(0, 0.05))  # any moment will do: that is the point
                process.kill()
                break
            time.sleep(0.005)
        code = process.wait(PATIENCE_S)
        process.stderr.close()
        if code == 0:
            break
        kills += 1
    assert kills == 2 and b.accepted(RUN, Phase.TRAIN).attempt == 3
    assert summary(b)["resumes"] == 2
    assert fingerprint(b, RUN) == fingerprint(a, RUN)


@pytest.mark.parametrize("name", ["ppo", "sac"])
def test_killed_while_a_checkpoint_is_written(name, processes, left_alone, tmp_path):
    """A checkpoint exists with its manifest; before that, the one before it is gone on from."""
    deadly = resume_runner.train_and_die_committing
    case = CASES[name]
    a, b = left_alone(name), box(tmp_path / "b")
    # One run is killed again and again while it writes its second checkpoint.
    moments = ["first file", "manifest", "after"] if name == "ppo" else ["rename"]
    gone_on_from = []
    for attempt, moment in enumerate(moments, 1):
        nth = 2 if attempt == 1 else 1
        code = train(processes, tmp_path / "b", case, attempt, nth, moment, target=deadly)
        assert code == -9, f"{moment}: exit {code}"
        newest = checkpoints.found(b, RUN)[0][0]
        folders = {
            int(info.key.split("/checkpoints/")[1].split("/")[0])
            for info in b.store.list(b.key(f"runs/{RUN}/attempts/train-{attempt}/"))
            if "/checkpoints/" in info.key
        }
        begun = max(folders)
        assert newest == begun if moment == "after" else newest < begun, moment
        gone_on_from.append(newest)
    assert gone_on_from[0] == min(gone_on_from) > 0
    assert train(processes, tmp_path / "b", case, len(moments) + 1) == 0
    assert summary(b)["resumed_step"] == gone_on_from[-1]
    ended_alike(b, a)


def test_the_training_curve_does_not_notice_evaluations(processes, left_alone, tmp_path):
    for name in ("ppo", "sac"):
        on = CASES[name]
        off = {**on, "evaluate": {}}
        more = {
            **on,
            "evaluate": {"every": {"after_episodes": 2, "episodes": 5}, "deterministic": False},
        }
        found, curves = [left_alone(name)], []
        for number, variant in enumerate((off, more)):
            store = tmp_path / f"{name}{number}"
            assert train(processes, store, variant, 1) == 0
            found.append(box(store))
        for mailbox in found:
            lines = streams.read_stream(mailbox, RUN, "train")
            lines += streams.read_stream(mailbox, RUN, "episodes")
            curves.append(
                ([streams.canonical(x) for x in lines], weights_fingerprint(mailbox, RUN))
            )
        assert curves[0] == curves[1] == curves[2]


def test_a_cut_is_a_truncation(processes, tmp_path):
    """Silent worlds: the row before a cut is marked as cut, and bootstraps."""
    from drillyard.agents.packing import npz_arrays

    case = CASES["reset-dqn"]
    case = {**case, "train": {**case["train"], "keep_checkpoints": None}}  # one for each barrier
    assert train(processes, tmp_path / "a", case, 1) == 0
    a = box(tmp_path / "a")
    step, attempt = sorted(checkpoints.found(a, RUN))[0]
    meta = checkpoints.read_meta(a, RUN, attempt, step)
    name = next(n for n in meta.files if n.startswith("replay-"))
    rows = npz_arrays(a.store.get(a.key(meta.files[name].key)))
    assert rows["dones"][-1, 0] == 1.0
    ended = rows["dones"][-1, 0] * (1 - rows["timeouts"][-1, 0])
    assert ended == 0.0 or summary(a)["episodes_cut"] < len(checkpoints.found(a, RUN))
    assert 1 <= summary(a)["episodes_cut"] <= len(checkpoints.found(a, RUN))
    # A finished episode is a whole one: nothing that was cut appears in the curve.
    lengths = [x["metrics"]["length"] for x in streams.read_stream(a, RUN, "episodes")]
    assert np.sum(lengths) < summary(a)["steps"]
