"""The sentences about where stopped trainings go on."""

from __future__ import annotations

from pathlib import Path

from drillyard.driver.going_on import MOST_LINES, going_on
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.mailbox import run_id, ticket_id
from drillyard.mailbox.records import Board, ExperimentRecord, Phase, TicketRecord
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import TicketState, ticket_states
from drillyard.runs import checkpoints


def experiment(folder: Path, workload: str = "rl") -> Mailbox:
    mailbox = Mailbox(open_store(str(folder)), "x")
    spec = {"workload": workload}
    record = ExperimentRecord(name="x", spec=spec, identity="i", created_at=0.0)
    mailbox.create("experiment.json", record)
    return mailbox


def stopped_at(mailbox: Mailbox, seed: int, step: int, *kept: int) -> None:
    run = run_id(1, seed)
    ticket = ticket_id(run, Phase.TRAIN)
    mailbox.post(
        TicketRecord(ticket=ticket, run=run, phase=Phase.TRAIN, order=seed, posted_at=0.0)
    )
    board = Board(run=run, phase=Phase.TRAIN, attempt=1, worker="w", step=step, written_at=0.0)
    mailbox.write(f"board/{run}.json", board)
    for number in kept:
        checkpoints.save(mailbox, run, 1, number, 1, {"a": b"a"}, {}, 0.0)


def test_each_training_says_its_step_and_what_is_repeated(tmp_path):
    mailbox = experiment(tmp_path)
    stopped_at(mailbox, 1, 10_176, 8192, 10_176)
    stopped_at(mailbox, 2, 10_176, 8192)
    stopped_at(mailbox, 3, 10_176)
    stopped_at(mailbox, 4, 0)
    assert going_on(mailbox, ticket_states(mailbox)) == [
        "t0001-s1 continues at step 10,176, where it stopped; no step is repeated",
        "t0001-s2 continues at step 8,192, its last checkpoint; 1,984 steps are repeated",
        "t0001-s3 has no checkpoint yet and starts again at step 0; 10,176 steps are repeated",
    ]


def test_what_runs_or_is_done_is_left_out(tmp_path):
    mailbox = experiment(tmp_path)
    stopped_at(mailbox, 1, 100)
    (state,) = ticket_states(mailbox).values()
    for status in (Status.RUNNING, Status.SUCCEEDED, Status.PRUNED, Status.FAILED):
        assert going_on(mailbox, {"t": TicketState(state.ticket, status)}) == []


def test_many_are_counted(tmp_path):
    mailbox = experiment(tmp_path)
    for seed in range(MOST_LINES + 3):
        stopped_at(mailbox, seed, 100)
    lines = going_on(mailbox, ticket_states(mailbox))
    assert len(lines) == MOST_LINES + 1 and lines[-1] == "and 3 more runs"


def test_a_script_does_not_count_steps(tmp_path):
    mailbox = experiment(tmp_path, "script")
    stopped_at(mailbox, 1, 100)
    assert going_on(mailbox, ticket_states(mailbox)) == []
