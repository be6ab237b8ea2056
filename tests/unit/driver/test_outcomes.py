"""How tickets, stages and sessions ended, as the error and the outcome that a command reports."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from drillyard.driver.driver import Driver
from drillyard.driver.outcome import Kind, Outcome, failure, failures, outcome_of, verdict
from drillyard.driver.stage_outcome import combined
from drillyard.errors import (
    ConfigError,
    ControlPlaneError,
    DrillyardError,
    RunFailed,
    Stopped,
    StoreUnavailable,
    Superseded,
    TeardownUnconfirmed,
    TimedOut,
    WorkerLost,
)
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Cancel, Phase
from drillyard.mailbox.stage_records import StageState
from drillyard.mailbox.status import Cause, Status
from drillyard.mailbox.ticket_states import TicketState
from tests.helpers.records import experiment_record, failed, ticket_of

TICKET = "t0001-s1.train"


@pytest.fixture
def mailbox(request) -> Mailbox:
    made = Mailbox(open_store(f"memory://{request.node.nodeid}"), "toy")
    made.write("experiment.json", experiment_record("toy"))
    return made


def order_to_stop(mailbox: Mailbox, reason: str = "enough") -> None:
    mailbox.write("control/cancel.json", Cancel(reason=reason, by="person", written_at=0.0))


def state(
    status: Status, seed: int = 1, cause: Cause | None = None, of: str = "", **more: Any
) -> TicketState:
    ticket = ticket_of(f"t0001-s{seed}", Phase.TRAIN)
    ending = None
    if cause is not None:
        ending = failed(of or ticket.ticket, cause, status=status, **more)
    return TicketState(ticket=ticket, status=status, ending=ending)


def states(*some: TicketState) -> dict[str, TicketState]:
    return {s.ticket.ticket: s for s in some}


# -- One ticket ------------------------------------------------------------------------------


def test_a_failed_run_says_what_failed_its_own_hint_and_how_to_read_its_log(mailbox):
    ended = state(Status.FAILED, cause=Cause.USER_ERROR, message="boom", hint="correct it")
    error = failure(mailbox, TICKET, ended)
    assert type(error) is RunFailed
    assert error.message == f"{TICKET}: boom"
    assert error.hint is not None
    assert error.hint.startswith("correct it; ") and "logs" in error.hint
    plain = failure(mailbox, TICKET, state(Status.FAILED, cause=Cause.USER_ERROR, message="boom"))
    assert plain.hint is not None and plain.hint.startswith("`drillyard logs")


def test_a_ticket_without_words_is_named_by_its_status(mailbox):
    assert failure(mailbox, TICKET, state(Status.FAILED)).message == f"{TICKET}: FAILED"


@pytest.mark.parametrize("cause", [Cause.INFRASTRUCTURE, Cause.PREEMPTION])
def test_a_run_whose_machines_were_lost_has_no_attempts_left(mailbox, cause):
    ended = state(Status.FAILED, cause=cause, message="gone", hint="the next attempt continues")
    error = failure(mailbox, TICKET, ended)
    assert type(error) is WorkerLost
    assert error.message == f"{TICKET}: gone (no attempts are left)"
    assert "next attempt" not in (error.hint or ""), "none is left"


def test_a_run_out_of_time_says_so_with_its_hint(mailbox):
    ended = state(Status.TIMED_OUT, cause=Cause.TIME_LIMIT, message="4 h", hint="raise it")
    error = failure(mailbox, TICKET, ended)
    assert type(error) is TimedOut and error.hint == "raise it"


def test_what_follows_a_failure_names_what_it_waited_for(mailbox):
    ended = state(Status.FAILED, cause=Cause.USER_ERROR, of="t0001-s9.train", message="boom")
    assert failure(mailbox, TICKET, ended).message == (
        f"{TICKET} was not started, because t0001-s9.train did not succeed: boom"
    )


def test_a_stopped_run_gives_the_reason_of_the_order(mailbox):
    ended = state(Status.CANCELLED, cause=Cause.CANCELLED, message="asked")
    assert failure(mailbox, TICKET, ended).message == f"{TICKET} was stopped: asked"
    assert failure(mailbox, TICKET, state(Status.CANCELLED)).message.endswith(": on request")
    order_to_stop(mailbox)
    error = failure(mailbox, TICKET, ended)
    assert type(error) is Stopped and error.message == f"{TICKET} was stopped: enough"


# -- All runs --------------------------------------------------------------------------------


def test_all_failures_are_one_error_in_the_order_of_the_runs(mailbox):
    error = failures(
        mailbox,
        states(
            state(Status.FAILED, 3, Cause.USER_ERROR, message="c"),
            state(Status.FAILED, 1, Cause.INFRASTRUCTURE, message="a", hint="look there"),
            state(Status.SUCCEEDED, 2),
        ),
    )
    assert type(error) is RunFailed, "not all were lost"
    first, *lines = error.message.splitlines()
    assert first == "2 of 3 runs of toy have no result"
    assert lines == ["  t0001-s1.train: a", "  t0001-s3.train: c"]
    assert error.hint is not None and error.hint.startswith("look there; ")
    assert "t0001-s1" in error.hint, "the first one's log"


def test_no_failure_is_no_error(mailbox):
    assert failures(mailbox, states(state(Status.SUCCEEDED), state(Status.FAILED, 2))) is None


@pytest.mark.parametrize(
    ("endings", "kind"),
    [
        ([(Status.TIMED_OUT, Cause.TIME_LIMIT)] * 2, TimedOut),
        ([(Status.FAILED, Cause.INFRASTRUCTURE), (Status.FAILED, Cause.PREEMPTION)], WorkerLost),
        ([(Status.FAILED, Cause.INFRASTRUCTURE), (Status.FAILED, Cause.USER_ERROR)], RunFailed),
        ([(Status.TIMED_OUT, Cause.TIME_LIMIT), (Status.FAILED, Cause.USER_ERROR)], RunFailed),
    ],
)
def test_the_error_of_all_runs_has_the_class_that_all_failures_have(mailbox, endings, kind):
    ended = [state(s, n, cause, message="x") for n, (s, cause) in enumerate(endings, start=1)]
    assert type(failures(mailbox, states(*ended))) is kind


def test_of_many_failures_twenty_are_shown_and_the_others_counted(mailbox):
    def lines(number: int) -> list[str]:
        many = [state(Status.FAILED, n, Cause.USER_ERROR, message="x") for n in range(1, number)]
        error = failures(mailbox, states(*many))
        assert error is not None
        return error.message.splitlines()

    assert len(lines(21)) == 21 and "more" not in lines(21)[-1]
    assert len(lines(24)) == 22 and lines(24)[-1] == "  and 3 more"


# -- A session -------------------------------------------------------------------------------


def driver(mailbox: Mailbox, *some: TicketState, **more: Any) -> Driver:
    told = {"holds_machines": False, "study": None, "by_request": False, **more}
    return SimpleNamespace(mailbox=mailbox, read=lambda: states(*some), **told)  # type: ignore[return-value]


def study(over: bool, error: DrillyardError | None = None) -> SimpleNamespace:
    return SimpleNamespace(over=over, verdict=lambda: error)


AWAY = ControlPlaneError("away")


def test_results_count_more_than_what_went_wrong_on_the_way(mailbox):
    done = driver(mailbox, state(Status.SUCCEEDED), state(Status.PRUNED, 2))
    assert outcome_of(done, AWAY, "r.html") == Outcome(Kind.SUCCEEDED, report="r.html")


def test_a_lease_that_is_open_has_to_be_ended_whatever_the_runs_say(mailbox):
    holds = driver(mailbox, state(Status.SUCCEEDED), holds_machines=True)
    assert outcome_of(holds, AWAY, None) == Outcome(Kind.UNDECIDED, AWAY)
    lost = WorkerLost("lost")
    assert outcome_of(holds, lost, None).kind is Kind.SUCCEEDED, "it is lost, and not away"
    for kind, error in (
        (Kind.FAILED, TeardownUnconfirmed("there")),
        (Kind.UNDECIDED, Superseded("2")),
    ):
        without = driver(mailbox, state(Status.SUCCEEDED))
        assert outcome_of(without, error, None) == Outcome(kind, error)


def test_what_failed_for_good_is_failed_and_what_was_away_is_undecided(mailbox):
    bad = driver(mailbox, state(Status.FAILED, cause=Cause.USER_ERROR, message="boom"))
    ended = outcome_of(bad, AWAY, None)
    assert ended.kind is Kind.FAILED and ended.word == "RunFailed"
    open_ = driver(mailbox, state(Status.RUNNING), state(Status.SUCCEEDED, 2))
    assert outcome_of(open_, AWAY, None) == Outcome(Kind.UNDECIDED, AWAY)
    wrong = ConfigError("is wrong", field="x")
    assert outcome_of(open_, wrong, None) == Outcome(Kind.FAILED, wrong)
    undecided = outcome_of(open_, None, None)
    assert undecided.kind is Kind.UNDECIDED and undecided.error is not None
    assert "1 tickets are open" in undecided.error.message


def test_a_mailbox_that_cannot_be_read_decides_nothing(mailbox):
    def away() -> Any:
        raise StoreUnavailable("the store is away")

    blind = driver(mailbox)
    blind.read = away  # type: ignore[method-assign]
    assert outcome_of(blind, None, None).kind is Kind.UNDECIDED
    wrong = ConfigError("is wrong", field="x")
    assert outcome_of(blind, wrong, "r").error is wrong, "what went wrong before says more"


def test_an_order_to_stop_ends_as_stopped_unless_something_else_ended_the_session(mailbox):
    order_to_stop(mailbox)
    running = driver(mailbox, state(Status.RUNNING))
    for error in (None, Stopped("x")):
        ended = outcome_of(running, error, None)
        assert ended.kind is Kind.STOPPED and ended.error is not None
        assert ended.error.message.startswith("toy was stopped (enough); its results")
        assert "resume" in (ended.error.hint or "")
    assert outcome_of(running, AWAY, None).kind is Kind.UNDECIDED


def test_nothing_at_all_is_a_success_only_by_request(mailbox):
    assert verdict(driver(mailbox, by_request=True), None) is None
    assert verdict(driver(mailbox, by_request=True), AWAY) is AWAY
    assert type(verdict(driver(mailbox), None)) is ControlPlaneError


def test_a_study_judges_its_trials_itself(mailbox):
    bad = state(Status.FAILED, cause=Cause.USER_ERROR, message="boom")
    assert verdict(driver(mailbox, bad, study=study(True)), AWAY) is None, "one trial may fail"
    failed_study = RunFailed("all trials have failed")
    of_study = driver(mailbox, bad, study=study(True, failed_study))
    assert verdict(of_study, None) is failed_study
    not_over = driver(mailbox, study=study(False))
    assert verdict(not_over, AWAY) is AWAY
    unfinished = verdict(not_over, None)
    assert type(unfinished) is ControlPlaneError and "not decided" in unfinished.message
    order_to_stop(mailbox)
    assert type(verdict(not_over, None)) is Stopped
    assert type(verdict(driver(mailbox, study=study(True)), Stopped("x"))) is Stopped
    assert verdict(not_over, AWAY) is AWAY


# -- Stages ----------------------------------------------------------------------------------


def stage(name: str, status: str, outcome: Outcome | None = None, message: str = "") -> Any:
    told = {"experiment": f"toy.{name}", "workload": "mock", "backend": "local"}
    return StageState(name=name, status=status, message=message, **told), outcome


def test_all_stages_that_succeeded_are_a_success(mailbox):
    some = {"a": stage("a", "succeeded", Outcome(Kind.SUCCEEDED)), "b": stage("b", "succeeded")}
    assert combined(mailbox, some, None) == Outcome(Kind.SUCCEEDED)


@pytest.mark.parametrize("error", [Superseded("2"), AWAY])
def test_what_ended_the_driving_of_all_stages_decides_nothing(mailbox, error):
    some = {"a": stage("a", "succeeded", Outcome(Kind.SUCCEEDED))}
    assert combined(mailbox, some, error) == Outcome(Kind.UNDECIDED, error)


def test_stages_that_ended_without_an_error_were_stopped(mailbox):
    ended = combined(mailbox, {"a": stage("a", "skipped")}, None)
    assert ended.kind is Kind.STOPPED and ended.error is not None
    assert ended.error.message == "toy was stopped; its results are kept\n  a: skipped"


def test_a_failed_stage_names_itself_and_what_did_not_begin(mailbox):
    boom = Outcome(Kind.FAILED, RunFailed("boom", hint="correct it"))
    some = {
        "a": stage("a", "failed", boom, "one\ntwo"),
        "b": stage("b", "skipped"),
        "c": stage("c", "succeeded", Outcome(Kind.SUCCEEDED)),
    }
    ended = combined(mailbox, some, None)
    assert ended.kind is Kind.FAILED and type(ended.error) is RunFailed
    assert ended.error.message.startswith("2 of 3 stages of toy have no result\n  a: one\n  two")
    assert ended.error.hint is not None and ended.error.hint.startswith("correct it; ")


def test_machines_that_may_be_left_count_first_among_the_errors_of_stages(mailbox):
    left = TeardownUnconfirmed("dy-1 is listed")
    some = {
        "a": stage("a", "failed", Outcome(Kind.FAILED, RunFailed("boom")), "boom"),
        "b": stage("b", "failed", Outcome(Kind.FAILED, left), "left"),
    }
    assert type(combined(mailbox, some, None).error) is TeardownUnconfirmed
