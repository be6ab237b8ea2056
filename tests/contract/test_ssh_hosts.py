"""Copies of one training on machines reached by SSH, while a host and an agent die."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from drillyard.mailbox.records import STREAMS, Phase
from drillyard.simulators.hosts.posted import PostedInvitation, path_of
from drillyard.system.processes import marked, send
from drillyard.workloads.rl import RlWorkload
from drillyard_backends.ssh.backend import SshBackend
from drillyard_backends.ssh.connection import Connection
from tests.helpers import resume_runner, resume_worlds
from tests.helpers.driven import Place, begin, finish
from tests.helpers.open_drivers import closing
from tests.helpers.patience import until
from tests.helpers.sshd import SSHD, Sshd

pytest.importorskip("asyncssh")
pytestmark = pytest.mark.skipif(SSHD is None, reason="no sshd (Debian: openssh-server)")
RUN = "t0001-s7"
WORLD = """
import time

class World(Drift):
    def step(self, action):
        time.sleep(0.005)  # the test kills something meanwhile
        return super().step(action)
"""


def values(**simulator):
    return {
        "simulator": {"id": "hosted_world:World", **simulator},
        "learner": {
            "algorithm": "ppo",
            "preset": None,
            "args": {"n_steps": 16, "batch_size": 16, "n_epochs": 1},
        },
        "train": {"steps": 1920, "n_envs": 3, "checkpoint_every": 192, "copies": "one-by-one"},
        "evaluate": {"episodes": 1},
        "resources": {"workers": 3, "device": "cpu"},
    }


class Machines(Place):
    """Two machines: servers of this one, each with agents of its own.

    Args:
        tmp: A folder.
    """

    def __init__(self, tmp: Path) -> None:
        super().__init__(tmp)
        self.name = "far"
        self.runtimes = [str(tmp / f"runtime-{number}") for number in (1, 2)]
        self.servers = [
            Sshd(tmp / f"sshd-{number}", env={"DRILLYARD_LOCAL_RUNTIME": runtime}).start()
            for number, runtime in enumerate(self.runtimes, 1)
        ]
        first, second = self.servers
        (second.folder / "authorized_keys").write_text(Path(f"{first.key}.pub").read_text())
        known = tmp / "known"
        known.write_text("".join(s.known_hosts.read_text() for s in self.servers))
        self.settings = {
            **first.settings,
            "hosts": [s.address for s in self.servers],
            "known_hosts": str(known),
            "python": sys.executable,
            "stop_grace_s": 5.0,
        }

    def backend(self) -> SshBackend:
        return SshBackend(**self.settings)

    def processes(self, number: int | None = None) -> list[psutil.Process]:
        runtimes = self.runtimes if number is None else [self.runtimes[number]]
        found = (p for r in runtimes for p in marked(DRILLYARD_LOCAL_RUNTIME=r))
        return [psutil.Process(p.pid) for p in found if p.alive()]

    def hosts(self) -> list[psutil.Process]:
        """The living hosts."""
        found = []
        for process in self.processes():
            try:
                if "drillyard.simulators.hosts" in process.cmdline():
                    found.append(process)
            except psutil.Error:
                continue
        return found


@pytest.fixture
def machines(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    user = tmp_path / "user"
    made = Machines(tmp_path)
    (user / "hosted_world.py").write_text(Path(resume_worlds.__file__).read_text() + WORLD)
    monkeypatch.setattr(sys, "path", [str(user), *sys.path])
    with closing(monkeypatch):
        yield made
    for runtime in made.runtimes:
        for process in marked(DRILLYARD_LOCAL_RUNTIME=runtime):
            send(process, signal.SIGKILL)
    Connection.close_all()
    for server in made.servers:
        server.stop()


def learners(machines: Machines) -> list[psutil.Process]:
    """The processes that listen for hosts."""
    found = []
    for process in machines.processes():
        with contextlib.suppress(psutil.Error):
            if any(c.status == psutil.CONN_LISTEN for c in process.net_connections("tcp")):
                found.append(process)
    return found


def test_the_weights_are_those_of_one_process_though_a_host_and_the_learner_die(machines):
    place = {"backend": "ssh", "backends": {"ssh": machines.settings}}
    driver = machines.driver(workload="rl", seeds=[7], **place, **values(copies_on="workers"))
    begin(driver)
    mailbox = machines.mailbox

    def trained(step: int, attempt: int) -> bool:
        board = driver.board(RUN)
        at = mailbox.read_claim(f"{RUN}.train", attempt)
        return at is not None and board is not None and (board.checkpoint_step or 0) >= step

    until(lambda: trained(192, 1), what="the first checkpoint")
    posted = mailbox.read(path_of(RUN, 1), PostedInvitation)
    assert posted is not None and posted.number == 2
    first = machines.hosts()
    assert len(first) == 2
    assert any(w.message == f"hosts copies for {RUN}" for w in mailbox.workers())
    os.kill(first[0].pid, signal.SIGKILL)
    until(lambda: trained(576, 1) and len(machines.hosts()) == 2, what="another host")

    (learner,) = {c.pid for c in learners(machines)}
    os.kill(learner, signal.SIGKILL)  # its invitation stays, and must mislead nobody
    finish(driver, machines)
    far = mailbox.accepted(RUN, Phase.TRAIN)
    assert far is not None and far.attempt == 2
    assert mailbox.read(path_of(RUN, 2), PostedInvitation) is None
    until(lambda: not machines.processes(), what="the end of everything")

    context = resume_runner.context(machines.tmp / "alone", values(), 1)
    context.run = context.run.model_copy(update={"streams": STREAMS})
    alone = RlWorkload().train(context).files.files["policy_final.safetensors"]
    theirs = mailbox.manifest(far).files["policy_final.safetensors"]
    assert theirs.sha256 == alone.sha256
