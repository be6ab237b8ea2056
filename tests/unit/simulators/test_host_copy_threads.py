"""A host of copies: its threads, its messages, and a system without signals, users and forks."""

from __future__ import annotations

import sys
import threading
import time
from multiprocessing import Pipe
from typing import Any

import numpy as np
import pytest

from drillyard.simulators.external import External
from drillyard.simulators.hosts import copies, frames, troubles
from drillyard.simulators.hosts.copies import Copies, Raised
from drillyard.simulators.hosts.copy_process import CopyServer
from drillyard.simulators.hosts.copy_thread import thread_safe
from drillyard.simulators.hosts.messages import Messages
from drillyard.simulators.make import make_env
from drillyard.spec.learning import SimulatorSpec
from tests.helpers.patience import until
from tests.helpers.processes import run_process

# -- Copies in threads of their host: the same answers, and no thread that stays --------------


WORLD = "tests.helpers.hosted_worlds:"
ACTIONS = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 2, 2)
"""Three steps of two copies."""
STATE = ("stack_state", (), {})


def spec(name: str, **more: Any) -> SimulatorSpec:
    return SimulatorSpec.model_validate({"id": f"{WORLD}{name}", **more})


def made(name: str, **more: Any) -> Copies:
    simulator = spec(name, **more).model_dump(mode="json", by_alias=True)
    order = {"simulator": simulator, "copies": [3, 4], "seed": 7, "streams": 2, "threads": True}
    return Copies(order)


def no_thread_is_left() -> None:
    def there() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name.startswith("copy-")]

    until(lambda: not there(), what="the end of the threads")


def asked(server: CopyServer, kind: str, body: Any) -> Any:
    return frames.decode(server.reply(frames.encode(kind, body)))[1]


def test_they_are_stepped_as_copies_in_processes_are():
    both = made("Threads")
    alone = [CopyServer(spec("Threads"), number, 7, 2) for number in (3, 4)]
    assert both.make() == [server.about() for server in alone]
    begun = both.reset([1, 2], [{}, {}])
    theirs = [asked(server, "reset", (seed, {})) for seed, server in enumerate(alone, 1)]
    assert [o.tobytes() for o in begun["o"][""]] == [one["o"][""].tobytes() for one in theirs]
    for actions in ACTIONS:
        both.step(actions)
        for place, server in enumerate(alone):
            server.reply(frames.encode("step", actions[place : place + 1]))
    states = both.ask("call", {0: STATE, 1: STATE})
    assert [repr(state) for state in states] == [repr(asked(s, "call", STATE)) for s in alone]
    both.close()
    no_thread_is_left()


@pytest.mark.parametrize(("name", "words"), [("Fails", "the tank is empty"), ("None_", "None_")])
def test_what_one_raises_is_told_and_the_others_end(name, words):
    both = made(name)
    with pytest.raises(Raised) as raised:
        both.make()
        both.reset([1, 2], [{}, {}])
        for _ in range(30):
            both.step(ACTIONS[0])
    assert words in str(raised.value)
    both.close()
    no_thread_is_left()


def test_one_that_hangs_is_waited_for_no_longer_than_a_limit(monkeypatch, caplog):
    monkeypatch.setattr(copies, "_END_S", 0.2)
    monkeypatch.setattr(troubles, "_JOIN_S", 0.2)
    both = made("WaitsInThreads", args={"wait_s": 1.5})
    both.make()
    both.reset([1, 2], [{}, {}])
    threading.Timer(0.2, both.kill).start()
    began = time.monotonic()
    with pytest.raises(Raised):
        both.step(ACTIONS[0])
    both.close()
    assert time.monotonic() - began < 1.4
    assert "copy 3 still hangs in its simulator" in caplog.text
    no_thread_is_left()


def test_only_a_simulator_that_says_so_is_in_threads():
    plain = {
        "observes": {"x": {"min": -1, "max": 1}},
        "acts": {"push": {"min": -1, "max": 1}},
        "reward": {"near": "-abs(x)"},
    }
    for name, more, expected in (
        ("Threads", {}, True),
        ("Silent", {}, False),
        ("PlainThreads", {"agent": plain}, True),
    ):
        env = make_env(spec(name, wrappers=["normalize"], **more))
        assert thread_safe(env) is expected
        env.close()
    assert External.thread_safe, "each copy waits for a process of its own"


# -- Messages between a host and the process of a copy ----------------------------------------


def test_messages_of_any_length_arrive():
    ours, theirs = (Messages(end) for end in Pipe())
    for size in (0, 1, 2**16 - 8, 2**16 - 7, 2**21):
        message = bytes(range(251)) * (size // 251) + b"x" * (size % 251)
        sender = threading.Thread(target=theirs.send, args=(message,))
        sender.start()
        assert ours.receive() == message
        sender.join()
        ours.send(b"heard")
        assert theirs.receive() == b"heard"


def test_the_end_of_the_other_side_is_noticed():
    one, other = Pipe()
    other.close()
    messages = Messages(one)
    with pytest.raises((EOFError, OSError)):
        messages.receive()
    with pytest.raises(OSError):
        messages.send(b"too late")


# -- A host of copies on a system without signals, users and forks, as Windows is -------------


PROGRAM = """
import asyncio, concurrent.futures.process, faulthandler, http.client, logging.handlers, platform
import multiprocessing.forkserver, multiprocessing.popen_spawn_posix, multiprocessing.shared_memory
import os, signal, socket, ssl, subprocess, sys, tarfile, tempfile, urllib.request, uuid, zipfile

import cryptography.x509, gymnasium, numpy as np, psutil, pydantic, typer, yaml

for name in ("fcntl", "grp", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None
for name in '''
    chown eventfd fork forkpty fchown getegid geteuid getgid getgroups getloadavg getpgid getpgrp
    getpriority getsid getuid initgroups killpg lchown memfd_create mkfifo mknod nice openpty
    posix_fadvise posix_fallocate posix_spawn pread preadv pwrite pwritev readv register_at_fork
    sched_getaffinity sched_setaffinity sendfile setpgid setpriority setsid statvfs sysconf uname
    wait wait3 wait4 waitid writev O_DIRECTORY O_NOFOLLOW O_NONBLOCK WNOHANG
'''.split():
    vars(os).pop(name, None)
there = ("SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM", "SIG_DFL", "SIG_IGN")
for name in [n for n in vars(signal) if n.startswith("SIG") and n not in there]:
    delattr(signal, name)
for name in ("alarm", "pause", "pthread_kill", "pthread_sigmask", "setitimer", "siginterrupt"):
    vars(signal).pop(name, None)
del socket.AF_UNIX

from drillyard.cli.main import main
from drillyard.simulators.hosts import copies, frames, host
from drillyard.simulators.hosts.copy_process import CopyServer
from drillyard.spec.learning import SimulatorSpec

assert main(["simulator-host", "--invite", "127.0.0.1:7700", "--out", sys.argv[1]]) == 0
server = CopyServer(SimulatorSpec(id="cstr"), 0, 1, 2)
assert server.env.silent_layers() == []
assert frames.decode(server.reply(frames.encode("reset", (1, {}))))[0] == "done"
action = np.zeros((1, *server.env.action_space.shape), np.float32)
assert frames.decode(server.reply(frames.encode("step", action)))[0] == "stepped"
assert server.reply(frames.encode("step", action))[:1] == b"s"
assert host.introduction("token", host.Offer("den"))["name"] == "den"
"""


@pytest.mark.heavy
def test_it_can_be_invited_and_steps_a_copy(tmp_path):
    done = run_process([sys.executable, "-c", PROGRAM, str(tmp_path)])
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "hosts-invitation.json").exists()
