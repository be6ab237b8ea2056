"""A failed episode is recorded as it is played, and its replay is the same, bit by bit."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drillyard.cli.replaying import conclusion
from drillyard.errors import RunFailed
from drillyard.evaluation.episodes import Planned, run_episodes
from drillyard.evaluation.replaying import Recording, Replayed, replay
from drillyard.evaluation.replaying_in_child import Ended, replay_in_child
from drillyard.mailbox.failed_episode import FailedEpisode
from drillyard.mailbox.records import STREAMS, Phase
from drillyard.simulators import vec_state
from drillyard.simulators.episode_recorder import EpisodeRecorder
from drillyard.simulators.make import make_env
from drillyard.simulators.make_copies import make_vec
from drillyard.spec.learning import SimulatorSpec
from drillyard.system import episode_memory
from drillyard.worker.failed_episode import failed_memory
from tests.helpers.patience import PATIENCE_S

WORLD = "tests.helpers.failing_worlds:Drifts"


@pytest.fixture(autouse=True)
def kept(tmp_path):
    episode_memory.keep_in(tmp_path)
    yield tmp_path
    episode_memory.keep_in(None)


def world(how: str = "raises", at: float = 40.0, **more: Any) -> SimulatorSpec:
    return SimulatorSpec.model_validate({"id": WORLD, "args": {"how": how, "at": at}, **more})


def failure(venv: Any, seed: int = 7, steps: int = 2000) -> tuple[str, list[float]]:
    """Steps copies with random actions until they fail; what was said, and copy 0's rewards."""
    rng, rewards = np.random.default_rng(seed), []
    venv.reset()
    try:
        for _ in range(steps):
            shape = (venv.num_envs, *venv.action_space.shape)
            actions = rng.uniform(0, 1, shape).astype(venv.action_space.dtype)
            seen, got, _, _ = venv.step(actions)
            rewards.append(float(got[0]))
            if isinstance(seen, np.ndarray) and not np.isfinite(seen).all():
                return f"nan as observation, at {vec_state.failed(venv, 0)}", rewards
    except Exception as error:
        said = [f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())]
        return "; ".join(said), rewards
    finally:
        venv.close()
    raise AssertionError("it did not fail")


def record(folder: Path, message: str) -> Recording:
    memory = failed_memory(folder)
    made = FailedEpisode(
        run="t0001-s7",
        phase=Phase.TRAIN,
        attempt=1,
        step=memory.failed,
        message=message,
        about=memory.about,
        start=memory.start,
        steps=memory.packed(),
        at=0.0,
    )
    return Recording(FailedEpisode.from_bytes(made.to_bytes()))


def whole(recording: Recording) -> Replayed:
    return replay(recording, recording.last, recording.failed_at)


@pytest.mark.parametrize("kind", ["Drifts", "Saved"])
@pytest.mark.parametrize("how", ["raises", "reward", "seen", "last"])
@pytest.mark.parametrize(
    "ways", ["one-by-one", pytest.param("processes", marks=pytest.mark.heavy)]
)
def test_the_replay_is_exact(kept, how, kind, ways):
    spec = SimulatorSpec.model_validate(
        {"id": f"tests.helpers.failing_worlds:{kind}", "args": {"how": how, "at": 40.0}}
    )
    n = 1 if how == "seen" else 2  # `failure` looks at copy 0 alone
    said, _ = failure(make_vec(spec, n, 7, how=ways, streams=STREAMS))
    found = whole(record(kept, said))
    assert (found.difference, found.reproduced) == ("", True), (said, found.error)
    assert found.compared > 0
    if how == "raises":
        assert "failing_worlds.py" in found.where


def test_short_episodes_are_replayed_from_the_last_reading(kept, monkeypatch):
    said, rewards = failure(make_vec(world(at=42.0), 1, 3, streams=STREAMS))
    recording = record(kept, said)
    assert recording.first == 1 < recording.last  # one reading, for the first episode
    assert f"step {recording.failed_at} of episode {recording.last} (copy 0" in said
    found = whole(recording)
    assert found.compared == len(rewards)
    assert found.reproduced
    # A reading at each reset: only the last episode is recorded.
    monkeypatch.setattr("drillyard.simulators.episode_recorder.EVERY_S", 0.0)
    monkeypatch.setattr("drillyard.simulators.episode_recorder.PART", 0)
    for path in (kept / "episodes").iterdir():
        path.unlink()
    again, _ = failure(make_vec(world(at=42.0), 1, 3, streams=STREAMS))
    assert again.partition(" of ")[0] == said.partition(" of ")[0]
    recording = record(kept, again)
    assert recording.first == recording.last > 1
    found = whole(recording)
    assert (found.difference, found.reproduced) == ("", True)


def test_other_episodes_and_steps(kept):
    said, _ = failure(make_vec(world(at=42.0), 1, 3, streams=STREAMS))
    recording = record(kept, said)
    found = replay(recording, 1, 4)
    assert [(row.episode, row.step) for row in found.rows] == [(1, n) for n in range(5)]
    assert (found.error, found.reproduced) == ("", None)


def left_at_once(recording: Recording, monkeypatch: pytest.MonkeyPatch) -> Replayed:
    """Stops in the debugger, which the user quits."""
    monkeypatch.setattr("sys.stdin", io.StringIO("q\n"))
    return replay(recording, recording.last, recording.failed_at, debug=True)


def test_quitting_the_debugger_is_not_a_failure_of_the_simulator(kept, monkeypatch):
    said, _ = failure(make_vec(world(), 1, 7, streams=STREAMS))
    recording = record(kept, said)
    found = left_at_once(recording, monkeypatch)
    assert (found.error, found.difference, found.reproduced) == ("", "", None)
    assert found.rows[-1].step == recording.failed_at - 1


def test_a_failure_that_does_not_come_back_is_explained(kept):
    said, _ = failure(make_vec(world(), 1, 7, streams=STREAMS))
    recording = record(kept, said)
    recording.spec = world(at=1000.0)  # as if another copy had caused the failure
    found = whole(recording)
    assert (found.error, found.difference, found.reproduced) == ("", "", False)
    exact, lost, why = conclusion(recording, found)
    assert exact.startswith("exact: ") and "did not occur again" in lost
    assert "a variable that the copies share" in why


def test_lessons_are_drawn_again(kept):
    spec = SimulatorSpec.model_validate(
        {
            "id": "tests.helpers.failing_worlds:Lessoned",
            "lesson": {"start": {"min": 0, "max": 20}},
        }
    )
    said, _ = failure(make_vec(spec, 2, 5, streams=STREAMS))
    found = whole(record(kept, said))
    assert (found.difference, found.reproduced) == ("", True)


def test_a_simulator_that_draws_elsewhere_is_named(kept):
    np.random.seed(1)
    said, _ = failure(make_vec(world("shared"), 1, 3, streams=STREAMS))
    np.random.seed(3)
    found = whole(record(kept, said))
    assert "the reward of step" in found.difference
    assert found.reproduced is False


def test_all_copies_at_once(kept, monkeypatch):
    from drillyard.simulators.adder_vector import VecAdder

    spec = SimulatorSpec.model_validate({"id": "simple-adder"})
    venv = make_vec(spec, 3, 7, how="vectorised", streams=STREAMS)
    step, calls = VecAdder.step, iter(range(40))

    def breaks(self: Any, actions: Any) -> Any:
        if next(calls, None) is None:
            raise ZeroDivisionError("the pump is dry")
        return step(self, actions)

    monkeypatch.setattr(VecAdder, "step", breaks)
    said, _ = failure(venv)
    recording = record(kept, said)
    assert (recording.together, recording.failed_at) == (3, 41)
    calls = iter(range(40))
    found = whole(recording)
    assert (found.difference, found.reproduced, found.compared) == ("", True, 40)
    calls = iter(range(40))
    found = left_at_once(recording, monkeypatch)
    assert (found.error, found.reproduced, found.compared) == ("", None, 40)


def test_an_episode_that_is_too_long_is_not_whole(kept, monkeypatch):
    monkeypatch.setattr(episode_memory, "SIZE", 2**20 + 2**18)
    env = make_env(SimulatorSpec.model_validate({"id": "tests.helpers.failing_worlds:Endless"}))
    env.reset(seed=1)
    with pytest.raises(ZeroDivisionError):
        for _ in range(30_000):
            env.step(np.zeros(1, np.float32))
    recording = record(kept, "")
    assert 0 < recording.recorded < recording.failed_at
    assert not recording.whole


def test_the_record_goes_away_without_a_failure(kept):
    env = make_env(world(at=1e9))
    env.reset(seed=1)
    env.step(np.zeros(1, np.float32))
    assert len(list((kept / "episodes").iterdir())) == 2
    env.close()
    assert list((kept / "episodes").iterdir()) == []


def test_a_full_disk_ends_the_record_and_not_the_training(kept, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(episode_memory.os, "posix_fallocate", full)
    env = make_env(world(at=1e9))
    env.reset(seed=1)
    env.step(np.zeros(1, np.float32))
    env.close()


def test_actions_of_another_type_are_recorded_as_they_are(kept):
    env = make_env(world(at=30.0))
    env.reset(seed=1)
    with pytest.raises(ZeroDivisionError) as raised:
        for _ in range(200):
            env.step(np.array([0.123456789012345]))  # float64, as a baseline's
    said = f"ZeroDivisionError: {raised.value}; {raised.value.__notes__[0]}"
    found = whole(record(kept, said))
    assert (found.difference, found.reproduced) == ("", True)


def test_nothing_is_recorded_outside_of_an_attempt():
    episode_memory.keep_in(None)
    env: Any = make_env(world())
    assert env._recorder is None
    assert isinstance(EpisodeRecorder, type)


@pytest.mark.parametrize(
    "ways", ["one-by-one", pytest.param("processes", marks=pytest.mark.heavy)]
)
def test_what_was_resumed_in_the_middle_of_an_episode_is_exact(kept, ways):
    spec = SimulatorSpec.model_validate(
        {"id": "tests.helpers.failing_worlds:Saved", "args": {"at": 40.0}}
    )
    first = make_vec(spec, 2, 7, streams=STREAMS)
    first.reset()
    for _ in range(5):
        first.step(np.zeros((2, 1), np.float32))
    state = vec_state.vec_state(first)
    first.close()
    assert state is not None
    resumed = make_vec(spec, 2, 7, how=ways, streams=STREAMS)
    resumed.reset()
    vec_state.load_vec_state(resumed, state)
    rewards = 0
    with pytest.raises((ZeroDivisionError, RunFailed)) as raised:
        for _ in range(200):
            resumed.step(np.full((2, 1), 0.9, np.float32))
            rewards += 1
    resumed.close()
    said = "; ".join([f"ZeroDivisionError: {raised.value}", *raised.value.__notes__])
    recording = record(kept, said)
    assert recording.begun == 5 or recording.first > 1
    found = whole(recording)
    assert (found.difference, found.reproduced) == ("", True)


def test_the_last_observation_of_an_episode_is_looked_at(kept):
    """Learners see the next episode's first one in its place, and bootstrap from the last."""
    said, _ = failure(make_vec(world("last", at=30.0), 1, 3, streams=STREAMS))
    assert "nan as observation[1], at step 16 of episode" in said


AGENT = {
    "observes": {"level": {"min": 0, "max": 20}},
    "acts": {"inflow": {"min": 0, "max": 1}},
    "reward": "-abs(level - 5)",
}


def test_a_plain_simulator(kept):
    spec = SimulatorSpec.model_validate(
        {"id": "tests.helpers.failing_worlds:Plain", "agent": AGENT}
    )
    said, _ = failure(make_vec(spec, 2, 5, streams=STREAMS))
    assert "the state 'level' is nan" in said and "this is episode" in said
    found = whole(record(kept, said))
    assert (found.difference, found.reproduced) == ("", True)


@pytest.mark.heavy
def test_an_external_simulator(kept):
    program = Path(__file__).parents[2] / "helpers" / "external_world.py"
    spec = SimulatorSpec.model_validate(
        {
            "id": "external",
            "args": {
                "command": [sys.executable, str(program), "refuses", "7"],
                "start_timeout_s": PATIENCE_S,
            },
            "agent": {
                "observes": {"x": {"min": -20, "max": 20}},
                "acts": {"push": {"min": -1, "max": 1}},
                "reward": "-abs(x)",
            },
        }
    )
    said, _ = failure(make_vec(spec, 1, 5, streams=STREAMS))
    assert "valve stuck" in said
    found = whole(record(kept, said))
    assert (found.difference, found.reproduced, found.compared) == ("", True, 6)


@pytest.mark.heavy
def test_a_simulator_that_hung_is_replayed_in_a_child(kept, capfd):
    spec = SimulatorSpec.model_validate({"id": "tests.helpers.failing_worlds:Drifts"})
    said, _ = failure(make_vec(spec, 1, 7, streams=STREAMS))
    recording = record(kept, said)
    changed = recording.record.model_copy(
        update={
            "step": None,
            "about": {
                **recording.about,
                "simulator": {
                    **spec.model_dump(mode="json"),
                    "id": "tests.helpers.failing_worlds:Hangs",
                },
            },
        }
    )
    hung = Recording(changed)
    assert replay_in_child(hung, hung.first, 6, 2.0) == Ended("did not come back within 2 s")
    assert "failing_worlds.py" in capfd.readouterr().err


def test_an_episode_of_an_evaluation(kept):
    spec = world(at=30.0)
    plans = [Planned(n, 10 + n, {}) for n in range(4)]
    with pytest.raises(ZeroDivisionError) as raised:
        run_episodes(spec, lambda seen: np.full((len(seen), 1), 0.25, np.float32), plans)
    recording = record(kept, f"ZeroDivisionError: {raised.value}; {raised.value.__notes__[0]}")
    assert recording.about["training"] is False
    found = whole(recording)
    assert (found.difference, found.reproduced) == ("", True)
