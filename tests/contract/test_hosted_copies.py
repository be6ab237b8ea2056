"""Copies of a simulator on other machines: the same weights, whatever happens to their hosts."""

import os
import signal

import pytest

from drillyard.errors import HostLost, RunFailed, SpaceMismatch
from drillyard.learners import hosted_copies
from drillyard.metrics import streams
from drillyard.simulators.hosts.listener import JoinedHost
from drillyard.simulators.hosts.providers import LocalHosts, start_host
from drillyard.workloads.rl import RlWorkload
from tests.helpers import resume_runner
from tests.helpers.patience import until

RUN = resume_runner.RUN
PPO = {"n_steps": 16, "batch_size": 16, "n_epochs": 2}


def case(hosts, simulator=None, steps=240, **more):
    copies_on = {"copies_on": "workers"} if hosts else {}
    return {
        "simulator": {
            "id": "tests.helpers.resume_worlds:Drift",
            "lesson": {"start": {"min": -1, "max": 1}},
            "wrappers": ["normalize"],
            **copies_on,
            **(simulator or {}),
        },
        "learner": {"algorithm": "ppo", "args": PPO},
        "train": {"steps": steps, "n_envs": 3, "checkpoint_every": 96, "copies": "one-by-one"},
        "resources": {"workers": hosts + 1},
        **more,
    }


@pytest.fixture
def trained(tmp_path):
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def train(name, case):
        scratch = tmp_path / f"scratch-{name}"
        scratch.mkdir()
        context = resume_runner.context(tmp_path / name, case, 1, scratch=scratch)
        outcome = RlWorkload().train(context)
        resume_runner.accept(context, outcome)
        return context, outcome

    yield train
    torch.set_num_threads(threads)


def result(context, outcome):
    """Weights, and the lines of every stream that is hashed."""
    entries = outcome.files.files
    found = {"weights": entries["policy_final.safetensors"].sha256}
    for stream in ("train", "episodes"):
        lines = streams.read_stream(context.mailbox, RUN, stream)
        found[stream] = [streams.canonical(line) for line in lines]
    return found


def gone(pids):
    return all(not os.path.exists(f"/proc/{pid}") for pid in pids)


@pytest.fixture
def started(monkeypatch):
    """Process ids of the hosts that the test started; they are gone at its end."""
    pids = []
    take = JoinedHost.__init__

    def noted(host, wire, said):
        take(host, wire, said)
        pids.append(host.pid)

    monkeypatch.setattr(JoinedHost, "__init__", noted)
    yield pids
    until(lambda: gone(pids), what="the end of the hosts")


@pytest.fixture
def kill_at(monkeypatch):
    """Kills the host of the last copies when it is asked for its n-th step."""
    send = JoinedHost.send
    asked = []

    def at(*steps):
        def sent(host, kind, body=None):
            if kind == "step":
                asked.append(host)
                if len(asked) in steps:
                    os.kill(host.pid, signal.SIGKILL)
            send(host, kind, body)

        monkeypatch.setattr(JoinedHost, "send", sent)

    return at


def test_any_number_of_hosts_with_or_without_a_death_gives_the_same(trained, started, kill_at):
    alone = result(*trained("alone", case(0)))
    assert alone["episodes"] and len(alone["train"]) > 2

    context, outcome = trained("two", case(2))
    assert result(context, outcome) == alone
    assert outcome.summary["hosts"] == {"number": 2, "lost": 0}
    assert len(started) == 2 and outcome.summary["exactness"] == "exact"

    # Before the first checkpoint (step 96 of 3 copies on 2 hosts is message 64), and after it.
    kill_at(20, 160)
    context, outcome = trained("killed", case(2))
    assert outcome.summary["hosts"] == {"number": 2, "lost": 2}
    assert result(context, outcome) == alone
    assert len(started) == 6, "each lost host was replaced"


def test_copies_in_threads_give_the_same(trained, started, kill_at):
    threads = {"id": "tests.helpers.hosted_worlds:Threads"}
    alone = result(*trained("alone", case(0, threads)))
    kill_at(100)
    context, outcome = trained("killed", case(2, threads))
    assert outcome.summary["hosts"] == {"number": 2, "lost": 1}
    assert result(context, outcome) == alone


@pytest.mark.parametrize("version", [3, 4], ids=["reset", "replayed"])
def test_a_simulator_that_cannot_be_saved_continues_as_in_one_process(
    version, trained, started, kill_at
):
    silent = {"id": "tests.helpers.hosted_worlds:Silent", "lesson": {}}
    alone = result(*trained("alone", case(0, silent, streams=version)))
    kill_at(40)
    context, outcome = trained("killed", case(1, silent, streams=version))
    assert result(context, outcome) == alone
    assert bool(outcome.summary["episodes_cut"]) == (version == 3)
    assert outcome.summary["hosts"]["lost"] == 1


def test_hosts_that_never_come_are_not_waited_for_long(trained, started, monkeypatch):
    def only_one(hosts):
        if not hosts._processes:
            hosts._processes.append(start_host(hosts._file, "only"))

    monkeypatch.setattr(LocalHosts, "_fill", only_one)
    monkeypatch.setattr(hosted_copies, "MORE_S", 0.5)
    _, outcome = trained("few", case(2, steps=96))
    assert len(started) == 1 and outcome.summary["hosts"] == {"number": 2, "lost": 0}


def test_a_host_that_dies_again_and_again_ends_the_attempt(trained, started, kill_at, monkeypatch):
    monkeypatch.setattr(hosted_copies, "LOSSES", 1)
    kill_at(5, 10)
    with pytest.raises(HostLost, match="is lost: it closed the connection"):
        trained("dying", case(1))


def test_what_a_copy_raises_is_raised_in_the_training_with_its_place(trained, started):
    breaks = {"id": "tests.helpers.hosted_worlds:Fails", "lesson": {}}
    with pytest.raises(RunFailed) as raised:
        trained("breaks", case(2, breaks))
    assert "copy" in str(raised.value) + str(raised.value.__notes__)
    assert any("training step" in note for note in raised.value.__notes__)


def test_copies_with_other_spaces_are_refused(trained, started, monkeypatch):
    monkeypatch.setenv("OTHER_SHAPE_IN", str(os.getpid()))
    other = {"id": "tests.helpers.hosted_worlds:OtherShape", "lesson": {}}
    with pytest.raises(SpaceMismatch, match=r"observation space Box\(.*\(5,\).*and those of the"):
        trained("other", case(1, other))
