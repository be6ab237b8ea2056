"""Runs that are killed and resumed, and whether they end as one that was left alone."""

from __future__ import annotations

import pytest

from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Phase
from drillyard.metrics import streams
from drillyard.results.fingerprint import fingerprint, weights_fingerprint
from drillyard.runs import checkpoints
from drillyard.runs.workload import StopSignal
from tests.helpers import resume_runner
from tests.helpers.patience import PATIENCE_S

RUN = resume_runner.RUN


class Killed(BaseException):
    """In place of SIGKILL: this process goes on, and makes everything again."""


class Deadly(StopSignal):
    """Raises ``Killed`` when it is looked at so often: once a step of all copies."""

    def __init__(self, at):
        super().__init__()
        self._left = at

    @property
    def requested(self):
        """Whether a stop was requested."""
        self._left -= 1
        if not self._left:
            raise Killed
        return super().requested


def box(store):
    """The mailbox of the run."""
    return Mailbox(open_store(str(store)), "resume")


def summary(mailbox):
    """What the training said in the end."""
    return mailbox.accepted(RUN, Phase.TRAIN).summary


def killed(store, case, at):
    """Train in this process until a kill."""
    context = resume_runner.context(store, case, 1, stop=Deadly(at))
    with pytest.raises(Killed):
        resume_runner.train(store, case, 1, run_context=context)


def trained(store, case, kill_at=None):
    """Train in this process to the end, or to a kill and then to the end; its mailbox."""
    if kill_at is not None:
        killed(store, case, kill_at)
    resume_runner.train(store, case, 1 if kill_at is None else 2)
    return box(store)


def train(processes, store, case, attempt, *more, target=resume_runner.train):
    """Train in a fresh process; its exit code."""
    process = processes.Process(target=target, args=(str(store), case, attempt, *more))
    process.start()
    process.join(PATIENCE_S)
    if process.is_alive():
        process.kill()
        pytest.fail("a training of 600 steps took more than four minutes")
    return process.exitcode


def resumed(processes, store, case, die_at):
    """Kill a training in a process, and resume it in another one; its mailbox."""
    assert train(processes, store, case, 1, die_at) == -9
    mailbox = box(store)
    assert mailbox.accepted(RUN, Phase.TRAIN) is None
    newest, _ = checkpoints.found(mailbox, RUN)[0]
    assert train(processes, store, case, 2) == 0
    done = summary(mailbox)
    assert done["resumes"] == 1
    assert done["resumed_step"] == newest > 0
    return mailbox


def ended_alike(mailbox, other):
    """Fails where two runs have other curves or weights, in a single bit."""
    for stream in ("train", "episodes", "evaluation"):
        lines, theirs = (streams.read_stream(m, RUN, stream) for m in (mailbox, other))
        assert [streams.canonical(x) for x in lines] == [streams.canonical(x) for x in theirs]
    assert summary(mailbox)["best"] == summary(other)["best"]
    assert fingerprint(mailbox, RUN) == fingerprint(other, RUN)
    assert weights_fingerprint(mailbox, RUN, "best") == weights_fingerprint(other, RUN, "best")
