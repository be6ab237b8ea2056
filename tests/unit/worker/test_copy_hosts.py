"""Workers that host copies for a training on another one: whom they follow, and when they stop."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from drillyard.backend import Order, Trait
from drillyard.driver.lease_supervisor import strength
from drillyard.mailbox.records import Claim, Phase
from drillyard.mailbox.status import Cause, Status
from drillyard.mailbox.ticket_states import ticket_states
from drillyard.simulators.hosts.posted import PostedInvitation, own_addresses, path_of
from drillyard.worker import copy_hosts, endings
from drillyard.worker.copy_hosts import END_S, CopyHosts
from tests.helpers.worker_world import LEASE, PlayedWorker, World


class PlayedHost:
    """The process of a host."""

    def __init__(self, invitation: Path, name: str, **_: object) -> None:
        self.name, self.invitation = name, invitation.read_text()
        self.code: int | None = None
        self.asked = self.killed = False

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.asked = True

    def kill(self) -> None:
        self.killed, self.code = True, -9

    def wait(self) -> int | None:
        return self.code


@pytest.fixture
def started(monkeypatch):
    found: list[PlayedHost] = []

    def start(invitation: Path, name: str, **more: object) -> PlayedHost:
        found.append(PlayedHost(invitation, name, **more))
        return found[-1]

    monkeypatch.setattr(copy_hosts, "start_host", start)
    return found


class Hosting:
    """What one worker hosts, and what its record says."""

    def __init__(self, world: World, scratch: Path) -> None:
        self.world, self.said = world, [""]
        order = Order(lease_id=LEASE, experiment="x", store_url=world.url, hosts=2)
        self.hosts = CopyHosts(world.mailbox, order, scratch, self.said.append)

    def step(self, now: float, slots: int = 2) -> int:
        taken = self.hosts.follow(now, ticket_states(self.world.mailbox))
        self.hosts.fill(now, slots - taken, [])
        return taken


@pytest.fixture
def hosting(world, tmp_path):
    return Hosting(world, tmp_path)


def claim(world: World, run: str, attempt: int = 1) -> Claim:
    made = Claim(ticket=f"{run}.train", attempt=attempt, worker="other", token="t", claimed_at=0.0)
    assert world.mailbox.claim(made)
    return made


def invite(world: World, run: str, attempt: int = 1, token: str = "token-of-copies") -> None:
    posted = PostedInvitation(
        addresses=["192.0.2.1:7", "127.0.0.1:7"],
        certificate="PEM",
        token=token,
        number=2,
        written_at=0.0,
    )
    world.mailbox.write(path_of(run, attempt), posted)


def test_each_free_slot_hosts_until_the_attempt_ends(world, hosting, started):
    run = world.post(1)
    invite(world, run)
    hosting.step(0.0)
    assert not started and hosting.hosts.needed  # nobody trains yet
    made = claim(world, run)
    hosting.step(1.0)
    assert len(started) == 2 and '"others": [\n  "127.0.0.1:7"' in started[0].invitation
    assert hosting.step(2.0) == 2 and hosting.said[-1] == f"hosts copies for {run}"
    world.mailbox.end(endings.succeeded(made, world.clock))
    hosting.step(3.0)
    assert all(host.asked and not host.killed for host in started)
    assert hosting.said[-1] == "" and not hosting.hosts.needed
    hosting.step(3.0 + 2 * END_S)
    assert all(host.killed for host in started), "a host that does not end is killed"
    assert hosting.step(20.0) == 0 and len(started) == 2


def test_a_newer_attempt_is_followed_and_an_old_invitation_is_not(world, hosting, started):
    run = world.post(1)
    invite(world, run, 1, "old")
    made = claim(world, run)
    hosting.step(0.0, slots=1)
    world.mailbox.end(endings.failed(made, world.clock, Cause.INFRASTRUCTURE, "lost"))
    claim(world, run, 2)
    hosting.step(1.0, slots=1)
    started[0].code = -15
    for second in range(2, 9):
        hosting.step(float(second), slots=1)
    assert started[0].asked and len(started) == 1, "the second attempt has not invited yet"
    invite(world, run, 2, "new")
    hosting.step(9.0, slots=1)
    assert len(started) == 2 and '"new"' in started[1].invitation


def test_a_refused_host_is_not_started_again_and_one_that_failed_is_later(world, hosting, started):
    run = world.post(1)
    invite(world, run)
    claim(world, run)
    hosting.step(0.0, slots=1)
    for second in range(1, 40):  # nobody answers at the address
        started[-1].code = 4
        hosting.step(float(second), slots=1)
    assert 3 <= len(started) <= 6
    hosting.step(100.0, slots=1)
    count = len(started)
    started[-1].code = 2  # a wrong token, or another version
    for second in range(101, 200):
        hosting.step(float(second), slots=1)
    assert len(started) == count and "refuses hosts of copies" in hosting.said[-1]


def test_a_host_that_fails_for_days_harms_nothing(world, hosting, started):
    run = world.post(1)
    invite(world, run)
    claim(world, run)
    for second in range(0, 2200 * 60, 60):  # a firewall between this machine and the learner
        hosting.step(float(second), slots=1)
        started[-1].code = 4
    assert len(started) > 1050
    assert (
        hosting.said[-1] == f"hosts of copies for {run} end before they join: see `drillyard logs`"
    )


def test_a_machine_that_can_start_no_process_now_keeps_its_worker(
    world, hosting, started, monkeypatch
):
    run = world.post(1)
    invite(world, run)
    claim(world, run)

    def full(invitation: Path, name: str, **_: object) -> PlayedHost:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(copy_hosts, "start_host", full)
        hosting.step(0.0)
        hosting.step(1.0)
    assert not started and "end before they join" in hosting.said[-1]
    hosting.step(30.0)
    assert len(started) == 2


def test_after_the_loss_of_a_host_the_message_is_true_again(world, hosting, started):
    run = world.post(1)
    invite(world, run)
    claim(world, run)
    hosting.step(0.0, slots=1)
    for second in (1.0, 130.0):
        hosting.step(second, slots=1)
        assert hosting.said[-1] == f"hosts copies for {run}"
    started[-1].code = -9  # it had joined: it would have given up otherwise
    hosting.step(131.0, slots=1)
    hosting.step(133.0, slots=1)
    assert len(started) == 2 and started[-1].code is None
    hosting.step(134.0, slots=1)
    assert hosting.said[-1] == f"hosts copies for {run}"
    started[-1].code = -9  # killed at once: nobody knows whether it had joined
    hosting.step(135.0, slots=1)
    assert "end before they join" in hosting.said[-1]
    for second in (140.0, 270.0):
        hosting.step(second, slots=1)
    assert hosting.said[-1] == f"hosts copies for {run}", "it lives longer than it would look"


def test_a_host_that_starts_never_reads_half_an_invitation(world, hosting, started, tmp_path):
    run = world.post(1)
    invite(world, run)
    claim(world, run)
    hosting.step(0.0, slots=1)
    file = tmp_path / "invitation.json"
    reader = file.open()  # the first host, which has opened the file and not read it yet
    hosting.step(10.0, slots=2)  # another slot is free
    assert len(started) == 2 and started[1].invitation == started[0].invitation
    assert os.fstat(reader.fileno()).st_ino != file.stat().st_ino, "it was not written again"
    reader.close()
    assert file.stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["invitation.json"]


def test_a_store_that_is_away_or_a_record_of_a_newer_version_ends_nothing(world, hosting, started):
    run = world.post(1)
    claim(world, run)
    hosting.hosts.follow(0.0, ticket_states(world.mailbox))
    key = world.mailbox.key(path_of(run, 1))
    for data in (b'{"schema_version": 99}', b"{"):
        world.mailbox.store.put(key, data)
        hosting.hosts.fill(float(world.now) + len(data), 1, [])
    assert not started
    invite(world, run)
    hosting.step(100.0, slots=1)
    assert len(started) == 1


def test_without_an_order_for_hosts_a_worker_hosts_nothing(world, started):
    run = world.post(1)
    invite(world, run)
    claim(world, run)
    worker = PlayedWorker(world, order={"idle_s": 5.0})
    world.run(30.0)
    assert not started and worker.worker.exit_code == 0


def test_trainings_are_done_in_turn_and_evaluations_beside_them(world):
    phases = (Phase.TRAIN, Phase.EVALUATE)
    runs = [world.post(seed, phases) for seed in (1, 2, 3)]
    workers = [PlayedWorker(world, order={"hosts": 2}) for _ in range(3)]
    busiest = 0

    def count(now: float) -> float:
        nonlocal busiest
        training = [
            t
            for worker in workers
            for t in worker.machine.tickets
            if t.poll() is None and t.job.ticket.phase is Phase.TRAIN
        ]
        busiest = max(busiest, len(training))
        return 0.1

    world.add("count", count)
    world.run(200.0)
    assert busiest == 1
    states = ticket_states(world.mailbox)
    assert all(states[f"{run}.evaluate"].status is Status.SUCCEEDED for run in runs)


def test_a_rented_machine_stays_while_it_may_be_needed_as_a_host(world):
    world.post(1, (Phase.TRAIN, Phase.EVALUATE))
    learner = PlayedWorker(world, work_s=50.0, order={"hosts": 1}, paid=True)
    host = PlayedWorker(world, work_s=50.0, order={"hosts": 1}, paid=True)
    world.run(48.0)
    assert (learner.ended_at, host.ended_at) == (None, None)
    world.run(200.0)
    ends = sorted(w.ended_at or 0.0 for w in (learner, host))
    assert 54.0 <= ends[0] < 80.0, "no training is left, so nobody needs its copies"
    assert ends[1] > 100.0


def test_the_driver_keeps_machines_for_hosts_while_a_training_is_left(world):
    for seed in (1, 2):
        world.post(seed, (Phase.TRAIN, Phase.EVALUATE))
    order = Order(lease_id=LEASE, experiment="x", store_url=world.url, hosts=3)
    todo = list(ticket_states(world.mailbox).values())
    renting = SimpleNamespace(traits=frozenset({Trait.HOSTS}))
    assert strength(renting, order, todo) == 4
    assert strength(SimpleNamespace(traits=frozenset()), order, todo) == 1
    evaluating = [s for s in todo if s.ticket.phase is Phase.EVALUATE]
    assert strength(renting, order, evaluating) == 1
    assert strength(renting, order, []) == 0


def test_a_host_ends_with_its_worker(world, tmp_path):
    hosting = Hosting(world, tmp_path)
    run = world.post(1)
    invite(world, run)
    claim(world, run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copy_hosts, "start_host", PlayedHost)
        hosting.step(0.0)
    processes = [each.process for each in hosting.hosts._hosts]
    hosting.hosts.close()
    assert all(isinstance(p, PlayedHost) and p.killed for p in processes)


def test_the_addresses_of_a_machine_end_with_loopback():
    *others, last = own_addresses()
    assert last == "127.0.0.1" and "127.0.0.1" not in others and "::1" not in others
    assert not [a for a in others if a.startswith(("169.254.", "fe80:"))]
