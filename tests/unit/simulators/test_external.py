"""Simulators that are programs of their own: real processes on real sockets."""

from __future__ import annotations

import http.client
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from drillyard.errors import ConfigError, RunFailed, SimulatorError
from drillyard.simulators.check import check_env_contract
from drillyard.simulators.make import make_env
from drillyard.simulators.wrappers import Env, layers
from drillyard.spec.learning import SimulatorSpec
from drillyard.system.processes import ProcessId, end, tree, wait_gone
from tests.helpers.patience import PATIENCE_S, until

WORLD = Path(__file__).parents[2] / "helpers" / "external_world.py"
AGENT = {
    "observes": {"x": {"min": -20, "max": 20}},
    "acts": {"push": {"min": -1, "max": 1}},
    "reward": "-abs(x)",
    "resets": ["x"],
}


def spec(tmp_path: Path, *words: str, **args: Any) -> SimulatorSpec:
    command = [sys.executable, str(WORLD), *words]
    given = {
        "command": command,
        "start_timeout_s": PATIENCE_S,
        "step_timeout_s": PATIENCE_S,
        "environment": {"FAULTS": str(tmp_path / "happened")},
        **args,
    }
    return SimulatorSpec.model_validate({"id": "external", "args": given, "agent": AGENT})


@pytest.fixture
def made(tmp_path):
    opened: list[Env] = []

    def make(*words: str, **args: Any) -> Env:
        opened.append(make_env(spec(tmp_path, *words, **args)))
        return opened[-1]

    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield make
    for env in opened:
        env.close()
    left = [c for c in psutil.Process().children(recursive=True) if c.pid not in before]
    assert not left, left


def episode(env: Env, steps: int = 10) -> list[dict[str, Any]]:
    infos = []
    for _ in range(steps):
        _, _, terminated, truncated, info = env.step(np.array([0.5], np.float32))
        infos.append({**info, "terminated": terminated, "truncated": truncated})
        if terminated or truncated:
            break
    return infos


@pytest.mark.heavy
def test_a_process_is_a_world_like_any_other(made):
    env = made()
    bad = [f for f in check_env_contract(env) if f.severity.value == "error"]
    assert not bad
    _, info = env.reset(seed=1, options={"x": 3})
    assert info["state_x"] == 3.0
    *_, last = episode(env)
    assert last["state_x"] == 8.0 and last["truncated"] and last["kpi_restarts"] == 0


@pytest.mark.heavy
@pytest.mark.parametrize("fault", ["once-dies", "once-hangs", "once-fails", "once-babbles"])
def test_over_http_a_lost_step_cuts_the_episode_and_another_process_goes_on(made, fault):
    limit = 0.5 if fault == "once-hangs" else PATIENCE_S
    env = made("--http", fault, protocol="http", step_timeout_s=limit)
    env.reset(seed=1, options={"x": 3})
    infos = episode(env)
    assert infos[-1]["truncated"]
    assert (len(infos), infos[-1]["kpi_restarts"]) == (3, 1)
    env.reset(seed=2, options={"x": 3})
    assert episode(env)[-1]["state_x"] == 8.0


@pytest.mark.heavy
def test_over_http_the_token_is_asked_for_and_what_never_listens_is_an_error(made):
    env = made("--http", protocol="http")
    env.reset(seed=1)
    port = layers(env)[-1]._simulator._process.wire.port
    stranger = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    stranger.request("POST", "/", b'{"type": "Idle"}')
    assert stranger.getresponse().status == 401
    stranger.close()
    assert episode(env)[-1]["kpi_restarts"] == 0
    with pytest.raises(SimulatorError, match=r"did not listen at port \d+ within 0\.3 s"):
        made("never-comes", protocol="http", start_timeout_s=0.3).reset()
    with pytest.raises(ConfigError, match="is not a known protocol"):
        made(protocol="htpp")


@pytest.mark.heavy
def test_a_container_is_a_line_with_its_name_and_is_removed_by_it(made, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SimulatorError, match="neither docker nor podman is on PATH"):
        made(image="worlds/x:1")
    # Stands in for docker: it notes what it is told, and runs what follows the image.
    tool = tmp_path / "docker"
    tool.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/told\n[ "$1" = rm ] && exit 0\n'
        f'while [ "$1" != worlds/x:1 ]; do shift; done; shift\nexec "$@"\n'
    )
    tool.chmod(0o700)
    env = made(image="worlds/x:1", environment={"MODEL": "secret"})
    env.reset(seed=1, options={"x": 3})
    assert episode(env)[-1]["state_x"] == 8.0
    env.close()
    ran, removed = (tmp_path / "told").read_text().splitlines()
    start, _, rest = ran.partition(" --env ")
    name = start.removeprefix("run --rm --init --network host --name ")
    assert name.startswith("drillyard-")
    assert removed == f"rm --force {name}"
    assert rest.startswith(
        "DRILLYARD_PORT --env DRILLYARD_TOKEN --env DRILLYARD_COPY --env MODEL "
    )
    assert "secret" not in ran


@pytest.mark.heavy
def test_each_copy_has_a_process_and_a_folder_of_its_own(tmp_path):
    envs = [make_env(spec(tmp_path), copy=copy) for copy in range(3)]
    try:
        processes = [layers(env)[-1]._simulator._process for env in envs]  # type: ignore[attr-defined]
        folders = {p._folder for p in processes}
        for env in envs:
            env.reset()
        assert len({p._process.pid for p in processes}) == len(folders) == 3
        assert len({p.wire.port for p in processes}) == 3
        assert all(Path(f"/proc/{p._process.pid}/cwd").resolve() == p._folder for p in processes)
    finally:
        for env in envs:
            env.close()
    assert not any(folder.exists() for folder in folders)
    assert not any(psutil.pid_exists(p._process.pid) for p in processes)


OWNER = """
import sys, time
from drillyard.simulators.external_process import ExternalProcess
program = ExternalProcess(["sh", "-c", "sleep 600; true"], 0, {}, sys.argv[1])
print(program._process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.heavy
@pytest.mark.parametrize("protocol", ["lines", "http"])
def test_a_program_ends_when_what_started_it_is_killed(protocol):
    """It looks neither at its connection nor at its parent, and has started another one."""
    words = [sys.executable, "-c", OWNER, protocol]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as owner:
        try:
            program = ProcessId.of(int(owner.stdout.readline()))
            until(lambda: len(tree(program)) == 2)
            started = tree(ProcessId.of(owner.pid))
        finally:
            owner.kill()
    try:
        assert not wait_gone(started, PATIENCE_S)
    finally:
        end(started, 0.0)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("dies", "ended with code 9 instead of answering EpisodeStep"),
        ("crashes", "was ended by SIGSEGV"),
        ("babbles", "'what is JSON?\\n', which is not a JSON object"),
        ("half", "ended with code 0"),
        ("hangs", "did not answer EpisodeStep within 1 s"),
    ],
)
def test_a_crash_costs_its_episode_and_no_more(made, caplog, fault, words):
    caplog.set_level(logging.INFO, "drillyard")
    # Only the one that hangs needs a short limit; a slow machine may lose a step by it.
    limit = {"step_timeout_s": 1, "restarts_per_hour": 1000} if fault == "hangs" else {}
    env = made(f"once-{fault}", "3", **limit)
    env.reset(seed=1, options={"x": 0})
    infos = episode(env)
    assert [i["state_x"] for i in infos] == [0.5, 1.0, 1.0], "the states before it, once more"
    assert infos[-1]["truncated"] and not infos[-1]["terminated"]
    assert infos[-1]["kpi_restarts"] == 1
    env.reset(options={"x": 2})
    infos = episode(env)
    if fault != "hangs":
        assert len(infos) == 10 and infos[-1]["kpi_restarts"] == 0
    assert words in caplog.text and "step 3 of an episode (copy 0, its seed" in caplog.text
    assert f"copy 0: this is {fault}" in caplog.text, "what it prints is in the log of the run"


@pytest.mark.heavy
def test_a_crash_at_the_start_is_tried_again(made):
    env = made("once-dies", "0")
    env.reset(seed=1, options={"x": 4})
    assert episode(env, 1)[0]["state_x"] == 4.5
    assert episode(env, 1)[0]["kpi_restarts"] == 1


@pytest.mark.heavy
def test_too_many_crashes_end_the_run_with_its_last_words(made):
    env = made("dies", "2", restarts_per_hour=2)
    env.reset(seed=1)
    for _ in range(2):
        assert episode(env)[-1]["truncated"]
        env.reset()
    with pytest.raises(RunFailed) as caught:
        episode(env)
    for words in ("lost 3 times within an hour", "step 2", "copy 0", "code 9", "this is dies"):
        assert words in str(caught.value)
    assert "restarts_per_hour" in str(caught.value.hint)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("refuses", ["the simulator says at step 3", "valve stuck"]),
        ("forgets", ["did not return the state 'x'", "at step 3", "seed 1"]),
        ("nan", ["the state 'x' is nan", "at step 3", "copy 0"]),
    ],
)
def test_an_answer_that_is_wrong_ends_the_run(made, fault, words):
    env = made(fault, "3")
    env.reset(seed=1)
    with pytest.raises(RunFailed) as caught:
        episode(env)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("fault", "args", "words"),
    [
        ("dies-at-once", {}, ["ended with code 1 before it connected", "no licence"]),
        ("never-comes", {"start_timeout_s": 1}, ["did not connect to port", "within 1 s"]),
        ("", {"command": "no-such-program-here x"}, ["cannot be started", "No such file"]),
        ("", {"command": ""}, ["is empty"]),
        ("", {"restarts_per_hour": -1}, ["restarts_per_hour", "a number from 0 on"]),
        ("", {"step_timeout_s": "soon"}, ["step_timeout_s", "'soon'"]),
    ],
)
def test_what_never_worked_is_an_error_of_the_file(made, fault, args, words):
    with pytest.raises(SimulatorError) as caught:
        made(fault, **args).reset(seed=1)
    assert all(word in str(caught.value) for word in words), caught.value
    assert str(caught.value.field).startswith("simulator.args")


@pytest.mark.heavy
def test_a_stranger_on_the_port_is_sent_away(made, caplog):
    env = made("wrong-token")
    env.reset(seed=1, options={"x": 1})
    assert episode(env, 1)[0]["state_x"] == 1.5
    assert "without the token" in caplog.text


def test_what_was_lost_while_training_is_counted_over_resumes(tmp_path):
    from drillyard.learners.episode_ends import EpisodeEnds

    class Lines:
        def append(self, *_: Any, **__: Any) -> None:
            pass

    ended = {"episode": {"r": 1.0, "l": 3}, "kpi_restarts": 2}
    ends = EpisodeEnds(spec(tmp_path), None, Lines())  # type: ignore[arg-type]
    assert ends.point() == {}
    assert ends.take(3, [True, False], [ended, {}]) == 1
    assert ends.point() == {"simulator/restarts": 2}
    again = EpisodeEnds(spec(tmp_path), None, Lines())  # type: ignore[arg-type]
    again.load_state(ends.state())
    again.take(6, [True, False], [ended, {}])
    assert again.restarts == 4
