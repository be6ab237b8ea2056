"""A host of copies on a system without signals, users and forks, as Windows is."""

import sys

import pytest

from tests.helpers.processes import run_process

pytestmark = pytest.mark.heavy

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
assert server.about()["silent"] == []
assert frames.decode(server.reply(frames.encode("reset", (1, {}))))[0] == "done"
action = np.zeros((1, *server.env.action_space.shape), np.float32)
assert frames.decode(server.reply(frames.encode("step", action)))[0] == "stepped"
assert server.reply(frames.encode("step", action))[:1] == b"s"
assert host.introduction("token", host.Offer("den"))["name"] == "den"
"""


def test_it_can_be_invited_and_steps_a_copy(tmp_path):
    done = run_process([sys.executable, "-c", PROGRAM, str(tmp_path)])
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "hosts-invitation.json").exists()
