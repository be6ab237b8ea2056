"""One sweep over what simulators do wrong while an agent trains on them.

Each ends with step, copy, seed and the state's name where there is one, and the last checkpoint
is whole: the run goes on from it once the simulator is mended.
"""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from drillyard.mailbox.records import Claim, Phase
from drillyard.runs import checkpoints
from drillyard.runs.workload import StopSignal
from drillyard.testing.clock import FakeClock
from drillyard.testing.phases import OneRun
from drillyard.worker.progress import ProgressKeeper
from drillyard.worker.stall import StallWatch
from drillyard.workloads.rl import RlWorkload
from tests.helpers.patience import PATIENCE_S
from tests.helpers.records import ticket_of
from tests.helpers.specs import small
from tests.helpers.steady_world import Steady

pytestmark = pytest.mark.heavy

BAD_FROM = 200
"""Steps of a copy, after the first checkpoint of 2 copies (at 256)."""


class Fault:
    """When it shows: in copy 1, a while after the first checkpoint, until it is mended."""

    kind = ""
    steps = 0
    copies = 0
    hanging, ended = threading.Event(), threading.Event()

    def __init__(self) -> None:
        self.copy = (Fault.copies + 1) % 2  # the first one is made by the probe
        Fault.copies += 1

    def tick(self) -> None:
        Fault.steps += self.copy

    def now(self, kind: str) -> bool:
        return Fault.kind == kind and self.copy == 1 and Fault.steps >= BAD_FROM


class Plain:
    """A level, in plain Python."""

    def __init__(self) -> None:
        self.level, self.n, self.fault = 0.0, 0, Fault()

    def use_copy(self, copy: int) -> None:
        self.fault.copy = copy

    def reset(self, config: dict[str, Any]) -> dict[str, Any]:
        self.level, self.n = 0.0, 0
        return {"level": self.level, "time": 0}

    def step(self, actions: dict[str, Any]) -> Any:
        self.level, self.n = min(self.level + actions["inflow"], 10.0), self.n + 1
        self.fault.tick()
        states: dict[str, Any] = {"level": self.level, "time": self.n}
        for kind in ("raises", "leaves", "hangs", "nan", "text", "forgets", "list", "prints"):
            if not self.fault.now(kind):
                continue
            if kind == "leaves":
                sys.exit(3)
            if kind == "hangs":
                Fault.hanging.set()
                Fault.ended.wait(PATIENCE_S)
                raise TimeoutError
            if kind == "raises":
                raise ZeroDivisionError("the pump is dry")
            if kind == "nan":
                states["level"] = float("nan")
            if kind == "text":
                states["time"] = "late"
            if kind == "forgets":
                del states["level"]
            if kind == "list":
                return list(states.values())
            print('{"not": "ours"}')
        return states

    def terminated(self) -> bool:
        return False

    def truncated(self) -> bool:
        return self.n >= 16

    def state(self) -> dict[str, Any]:
        return {"level": self.level, "n": self.n}

    def load_state(self, state: dict[str, Any]) -> None:
        self.level, self.n = state["level"], state["n"]


class Env(Steady):
    """The same as a Gymnasium environment."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self) -> None:
        self.fault = Fault()

    def step(self, action: Any) -> Any:
        self.n += 1
        self.fault.tick()
        seen: Any = np.full(2, self.n / 16, np.float32)
        reward = 0.0
        for kind in ("shape", "scalar", "dtype", "none", "nan-seen", "nan-reward"):
            if self.fault.now(kind):
                seen = {
                    "shape": np.zeros(3, np.float32),
                    "scalar": np.float32(0.5),
                    "dtype": np.array(["a", "b"]),
                    "none": None,
                    "nan-seen": np.array([0, np.nan], np.float32),
                }.get(kind, seen)
                reward = float("nan") if kind == "nan-reward" else 0.0
        return seen, reward, False, self.n >= 16, {}

    def state(self) -> dict[str, Any]:
        return {"n": self.n}

    def load_state(self, state: dict[str, Any]) -> None:
        self.n = state["n"]


AGENT = {
    "observes": {"level": {"min": 0, "max": 10}},
    "acts": {"inflow": {"min": 0, "max": 1}},
    "reward": "-abs(level - 5)",
    "logs": ["time"],
}
WHERE = [r"step \d+ of (an episode|episode \d+)", "copy 1", r"seed \d", r"training step \d+"]
WHERE += [r"test_bad_simulators\.py:\d+, in step"]
IN_ALL = [r"step \d+", "copy 1", r"seed \d", r"training step \d+", *WHERE[-1:]]
CASES: list[tuple[str, str, list[str]]] = [
    ("Plain", "raises", ["ZeroDivisionError|the pump is dry", *WHERE]),
    ("Plain", "leaves", ["3", *WHERE]),
    ("Plain", "nan", ["'level' is nan", *WHERE]),
    ("Plain", "text", ["'time' is 'late'", *WHERE]),
    ("Plain", "forgets", ["did not return the state 'level'", *WHERE]),
    ("Plain", "list", ["returned a list", *WHERE]),
    ("Plain", "prints", []),
    ("Env", "shape", [r"shape \(3,\)", r"\(2,\)", *WHERE]),
    ("Env", "scalar", [r"shape \(\)", *WHERE]),
    ("Env", "dtype", ["type <U1", "float32", *WHERE]),
    ("Env", "none", ["type object", *WHERE]),
    ("Env", "nan-seen", [r"nan as observation\[1\]", *IN_ALL]),
    ("Env", "nan-reward", ["nan as reward", *IN_ALL]),
]


@pytest.mark.parametrize(("world", "kind", "words"), CASES, ids=lambda v: str(v)[:12])
def test_it_is_told_and_the_checkpoint_is_whole(world, kind, words, tmp_path, capfd):
    one = training(tmp_path, world, kind)
    if words:
        with pytest.raises((Exception, SystemExit)) as caught:
            one.phase(Phase.TRAIN)
        said = " ".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
        assert [word for word in words if not re.search(word, said)] == [], said
        goes_on(one)
    else:
        one.phase(Phase.TRAIN)
        assert '{"not": "ours"}' in capfd.readouterr().out


class UntilItHangs(FakeClock):
    """A clock that stands still until the simulator hangs, and then hurries."""

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        if event.wait(0.01):
            return True
        self.advance(timeout_s * Fault.hanging.is_set())
        return False


def test_one_that_hangs_is_named_too(tmp_path):
    one = training(tmp_path, "Plain", "hangs")
    Fault.hanging.clear()
    Fault.ended.clear()
    stop, clock, said = StopSignal(), UntilItHangs(), []
    ticket = ticket_of(one.run)
    claim = Claim(ticket=ticket.ticket, attempt=1, worker="w", token="t", claimed_at=0.0)

    def end(message: str) -> None:
        said.append(message)
        Fault.ended.set()  # where the worker ends its process

    watch = StallWatch(ticket, PATIENCE_S, stop, ProgressKeeper(ticket, claim, clock), clock, end)
    with pytest.raises(TimeoutError), watch:
        one.phase(Phase.TRAIN, stop)
    (message,) = said
    assert re.search(
        r"it hangs in step \d+ of an episode \(copy 1, reset with seed \d+\), .*stall_s", message
    )
    goes_on(one)


def training(folder: Path, world: str, kind: str) -> OneRun:
    """Two copies with a checkpoint at step 256, before the fault shows."""
    table = {"agent": AGENT} if world == "Plain" else {}
    spec = small(
        {"id": f"{__name__}:{world}", **table},
        learner={"algorithm": "a2c", "args": {"n_steps": 32}},
        train={"steps": 640, "n_envs": 2, "checkpoint_every": 256, "copies": "one-by-one"},
        seeds=[3],
    )
    Fault.kind, Fault.steps, Fault.copies = kind, 0, 0
    return OneRun(folder, spec, RlWorkload())


def goes_on(one: OneRun) -> None:
    """The checkpoint is whole, and the run goes on from it once the simulator is mended."""
    kept = checkpoints.latest(one.mailbox, one.run)
    assert kept.meta.step == 256
    Fault.kind = ""
    done = one.phase(Phase.TRAIN).summary
    assert (done["steps"], done["resumes"], done["resumed_step"]) == (640, 1, 256)
