"""What a terminal shows: bars, what is waited for, and one bar for the whole of a study."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from rich.text import Text

from drillyard.backend import Trait
from drillyard.mailbox.records import Board, Phase, TicketRecord
from drillyard.mailbox.status import Status
from drillyard.mailbox.ticket_states import TicketState
from drillyard_flows import progress
from drillyard_flows.bars import Bars
from drillyard_flows.looks import Look, Looks, Run, Whole
from drillyard_flows.progress import Lines
from tests.helpers.records import board_of

LONG = "a-name-that-somebody-gave-to-an-experiment-and-that-is-longer-than-a-line-of-a-terminal"


@pytest.fixture
def bars():
    made = Bars(Console(file=io.StringIO(), force_terminal=True, width=80, height=30), "study")
    yield made
    made.close()


def drawn(bars: Bars, width: int = 80) -> list[str]:
    """The lines as a terminal of so many columns has them."""
    bars._console.width = width
    # Without colours the part of a bar that is to come is blank.
    out = Console(file=io.StringIO(), width=width, force_terminal=True, color_system="standard")
    out.print(bars._drawn())
    file = out.file
    assert isinstance(file, io.StringIO)
    return Text.from_ansi(file.getvalue()).plain.splitlines()


def board(run: str, step: int, eta_s: float | None = None, phase: Phase = Phase.TRAIN) -> Board:
    rate = 10_000.0 if eta_s is not None else None
    told = {"step": step, "total": 1_000_000, "eta_s": eta_s, "steps_per_s": rate}
    return board_of(run, phase, episode_return=-1234.5678, **told)


def running(run: str, step: int = 0, eta_s: float | None = None) -> Run:
    return Run(run, Phase.TRAIN, Status.RUNNING, board(run, step, eta_s))


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_bar_has_20_cells_and_its_details_a_line_of_their_own(bars, width):
    bars.title = LONG
    bars.update(Look([running(LONG, 500_000, 5025.0)], Whole(1.0, 3, f"{LONG}, about 2 h left")))
    lines = drawn(bars, width)
    assert len(lines) == 4 and max(map(len, lines)) <= width
    for line in lines[::2]:
        assert line.count("━") + line.count("╸") + line.count("╺") >= 20
        assert "%" in line
    assert "500,000/1,000,000, 10,000 steps/s, return -1235, 1 h 23 min left" in lines[3]


def test_the_bars_of_trials_that_were_judged_make_room(bars):
    first, second, third = (running(f"t000{n}-s1") for n in (1, 2, 3))
    whole = Whole(1.0, 10, "1 of 10 trials done, 2 running, about 40 s left")
    bars.update(Look([first, second], whole))
    bars.update(Look([second, third], whole))
    lines = drawn(bars)
    assert lines[0].startswith("study") and lines[0].rstrip().endswith("10%")
    assert lines[1].strip() == whole.facts
    assert [line.split()[0] for line in lines[2::2]] == ["t0002-s1", "t0003-s1"]


def test_more_runs_than_lines_share_a_bar(bars):
    runs = [running(f"t0001-s{n}", 500_000) for n in range(40)]
    bars.update(Look(runs, Whole(20.0, 40, "0 of 40 runs done")))
    assert len(drawn(bars)) == 2
    assert "50%" in drawn(bars)[0]


def test_what_is_waited_for_is_said_with_its_time(bars):
    bars.wait("the check of the experiment")
    (line,) = drawn(bars)
    assert line.startswith("waiting for the check of the experiment (0.")
    bars.update(Look([running("t0001-s1")]))
    assert "waiting" not in str(drawn(bars))


def test_a_file_gets_each_wait_once(capsys):
    lines = Lines()
    for _ in range(3):
        lines.wait("machines")
        lines.update(Look((), waiting="workers"))
    assert capsys.readouterr().err == "waiting for machines\nwaiting for workers\n"


def test_a_file_gets_the_same_line_again_only_after_a_minute(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    lines = Lines()
    lines.title = "study"
    ended = Look([], Whole(4.0, 8, "4 of 4 trials done, 0 running"))
    for now[0] in (0.0, 11.0, 22.0, 33.0):
        lines.update(ended)
    assert capsys.readouterr().err == "study: 4 of 4 trials done, 0 running\n"
    now[0] = 80.0
    lines.update(ended)
    assert capsys.readouterr().err == "study: 4 of 4 trials done, 0 running\n"
    now[0] = 91.0
    lines.update(Look([], Whole(4.0, 8, "4 of 4 trials done, 1 running")))
    assert "1 running" in capsys.readouterr().err


def test_no_time_that_is_left_is_shown_as_none():
    assert "left" not in progress.facts(running("t0001-s1", 1_000_000, 0.0))
    assert progress.facts(running("t0001-s1", 500_000, 40.0)).endswith("40 s left")


# -- what a driver knows --------------------------------------------------------------------------


class Driver:
    """As much of a driver as is looked at."""

    def __init__(self, study: Any = None) -> None:
        self.study = study
        self.spec = SimpleNamespace(where="local", elsewhere=[], seeds=[1, 2])
        self.lease: object = None
        self.backend = SimpleNamespace(traits=frozenset())
        self.times = SimpleNamespace(knows=lambda phase: self.set_up)
        self.set_up = False
        self.stopping = SimpleNamespace(given_at=None)
        self.tickets: dict[str, TicketState] = {}
        self.boards: dict[str, Board] = {}

    def at_work(self) -> dict[str, TicketState]:
        return self.tickets

    def board(self, run: str) -> Board | None:
        return self.boards.get(run)

    def has(self, run: str, status: Status) -> None:
        ticket = TicketRecord(ticket=f"{run}.train", run=run, phase=Phase.TRAIN, posted_at=0.0)
        self.tickets[ticket.ticket] = TicketState(ticket, status)

    def look(self) -> Look:
        return Looks(self)()  # type: ignore[arg-type]


def test_every_wait_until_the_first_heartbeat_has_its_words():
    driver = Driver()
    driver.has("t0001-s1", Status.READY)
    assert driver.look().waiting == "machines of the backend local"
    driver.spec.elsewhere, driver.spec.where = ["dask"], "local, dask"
    assert driver.look().waiting == "machines of one of the backends local, dask"
    driver.lease = object()
    assert driver.look().waiting.startswith("workers to be ready")
    driver.backend.traits = frozenset({Trait.JOBS})
    assert driver.look().waiting.startswith("local, dask to start a job")
    driver.backend.traits = frozenset()
    driver.set_up = True
    assert driver.look().waiting == "a worker to start a run"
    driver.has("t0001-s1", Status.RUNNING)
    assert driver.look().waiting == "the first heartbeat of t0001-s1"
    driver.boards["t0001-s1"] = board("t0001-s1", 1)
    assert driver.look().waiting == ""
    driver.has("t0001-s1", Status.SUCCEEDED)
    assert driver.look().waiting == "the machines to end, and the report"


def test_a_study_has_one_bar_for_the_whole_with_the_time_left():
    study = SimpleNamespace(outcomes={1: None, 2: None}, remaining_runs=16)
    driver = Driver(study)
    for run in ("t0003-s1", "t0003-s2"):
        driver.has(run, Status.RUNNING)
        driver.boards[run] = board(run, 500_000, 50.0)
    whole = driver.look().whole
    assert whole is not None and whole.total == 20
    assert whole.done == 2 * 2 + 2 * 0.5
    # 14 runs wait behind the two: seven times 100 s each.
    assert whole.facts == "2 of 10 trials done, 2 running, about 12 min 30 s left"
    study.remaining_runs = 10**6 * 2 + 2
    endless = driver.look().whole
    assert endless is not None and endless.total is None
