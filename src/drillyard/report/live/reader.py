"""Reads an experiment again and again; each look reads only what is new.

A look lists the tickets and claims, the boards, the workers, the leases, the drivers, the trials
of a study, and the two streams of each run that is drawn and has moved. It reads the records that
changed. The number of requests does not grow with the age of an experiment, except that a listing
of a bucket has pages.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pydantic import ValidationError

from drillyard.documents.json_types import as_list
from drillyard.errors import CorruptObject
from drillyard.leases.ledger import Ledger
from drillyard.leases.spending import Spending, spending
from drillyard.mailbox import Mailbox, ObjectInfo
from drillyard.mailbox.mailbox import TrialCache
from drillyard.mailbox.records import (
    PHASES,
    Accepted,
    Board,
    DriverRecord,
    ExperimentRecord,
    Phase,
    StudyState,
    WorkerRecord,
)
from drillyard.mailbox.stage_records import states as stage_states
from drillyard.mailbox.status import Status
from drillyard.mailbox.store import ObjectMissing
from drillyard.mailbox.summaries import TrainSummary, policy_scores
from drillyard.mailbox.ticket_states import (
    StateCache,
    TicketState,
    by_run,
    ticket_states,
    worst,
)
from drillyard.report.live.model import (
    STALE_S,
    Live,
    LiveRun,
    LiveWorker,
    Log,
    trial_and_seed,
)
from drillyard.report.live.streams import LiveCurves
from drillyard.results.collect import overall
from drillyard.results.policies import AGENT
from drillyard.results.stages import StagesResults
from drillyard.results.time_left import run_s, runs_to_come, time_left
from drillyard.results.trials import StudyResults, collect_trials, is_study
from drillyard.runs.logs import LastLines
from drillyard.spec.stages import staged_tree
from drillyard.spec.study import StudySpec
from drillyard.system.redaction import redact

MOST_RUNS = 50
"""Runs in the table: those at work and those that failed first, then the newest."""
LOG_LINES = 200


class LiveReader:
    """Reads one experiment.

    Args:
        mailbox: The experiment.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._record: tuple[int | None, ExperimentRecord] | None = None
        """Number of the driver that was the newest when it was read, and the record."""
        self._states = StateCache()
        self._boards: dict[str, tuple[ObjectInfo, Board]] = {}
        self._workers: dict[str, tuple[ObjectInfo, WorkerRecord]] = {}
        self._driver: tuple[ObjectInfo, DriverRecord] | None = None
        self._trials: TrialCache = {}
        self._ends: dict[Phase, dict[tuple[str, int], Accepted | None]] = {}
        self._curves = LiveCurves(mailbox)
        self._ledger = Ledger(mailbox)
        self._logs: dict[str, LastLines] = {}

    def read(self, log: str | None = None) -> Live:
        """One look.

        Args:
            log: The run whose log is shown; None, or a run that does not exist: one at work.

        Raises:
            NotFound: The experiment is gone.
            StoreUnavailable: The store cannot be read now.
        """
        box, warnings = self._mailbox, list[str]()
        driver, driver_at = self._newest_driver()
        record = self._experiment(driver)
        states = ticket_states(box, self._states)
        tickets = by_run(states)
        now = box.store.now()
        runs = tuple(
            self._run(r, of_run, now) for r, of_run in self._with_boards(tickets, warnings)
        )
        status = overall([r.status for r in runs])
        state = box.study_state() if is_study(record) else None
        driven = driver is not None and driver.ended_at is None
        stages = self._stages(record)
        ended = _ended(runs, status, state, stages)
        at_work = [r for r in runs if r.status is Status.RUNNING]
        to_come = self._to_come(record, state, len({r.trial for r in runs}))
        return Live(
            record=record,
            store=box.store.url,
            status=status,
            over=ended and not (driven and now - driver_at <= STALE_S),
            runs=runs,
            curves=self._curves.read(runs, warnings),
            left_s=None if ended else self._left(runs, at_work, to_come),
            to_come=to_come,
            workers=self._at_work(now, at_work),
            driver=driver,
            driver_age_s=now - driver_at if driven else None,
            cancelled=self._cancelled(),
            spending=self._spending(record, warnings),
            study=self._study(record, states, warnings),
            state=state,
            stages=stages,
            log=self._log(runs, log),
            report=box.store.stat(box.key("report/index.html")) is not None,
            read_at=now,
            warnings=tuple(dict.fromkeys(warnings)),
        )

    # -- records ------------------------------------------------------------------------------

    def _experiment(self, driver: DriverRecord | None) -> ExperimentRecord:
        """The record, read again when another driver has begun, which may have changed it."""
        newest = None if driver is None else driver.number
        if self._record is None or self._record[0] != newest:
            self._record = newest, self._mailbox.experiment_record()
        return self._record[1]

    def _cancelled(self) -> str | None:
        order = self._mailbox.cancelled()
        return None if order is None else f"{order.by}: {order.reason}"

    def _stages(self, record: ExperimentRecord) -> StagesResults | None:
        if not staged_tree(record.spec):
            return None
        states = tuple(stage_states(self._mailbox))
        return StagesResults(record.name, self._mailbox.store.url, states, {})

    def _newest_driver(self) -> tuple[DriverRecord | None, float]:
        drivers = [
            (int(text), info)
            for info in self._mailbox.store.list(self._mailbox.key("driver/"))
            if (text := info.key.rsplit("/", 1)[-1].removesuffix(".json")).isdecimal()
        ]
        if not drivers:
            return None, 0.0
        number, info = max(drivers, key=lambda driver: driver[0])
        if self._driver is None or self._driver[0] != info:
            record = self._mailbox.read(f"driver/{number}.json", DriverRecord)
            if record is None:
                return None, 0.0
            self._driver = info, record
        return self._driver[1], info.updated_at

    def _spending(self, record: ExperimentRecord, warnings: list[str]) -> Spending | None:
        try:
            return spending(self._mailbox, self._ledger, record)
        except CorruptObject as error:
            warnings.append(f"the ledger cannot be read, so the cost is not known: {error}")
            return None

    def _study(
        self, record: ExperimentRecord, states: Mapping[str, TicketState], warnings: list[str]
    ) -> StudyResults | None:
        if not is_study(record):
            return None
        try:
            return collect_trials(self._mailbox, record, cache=self._trials, states=states)
        except CorruptObject as error:
            warnings.append(f"the trials cannot be read: {error}")
            return None

    # -- runs ---------------------------------------------------------------------------------

    def _with_boards(
        self, tickets: Mapping[str, list[TicketState]], warnings: list[str]
    ) -> list[tuple[str, list[TicketState]]]:
        """The runs; the boards of those at work are read where they changed."""
        for run, info, listed in self._mailbox.boards():
            known = self._boards.get(run)
            working = any(s.status is Status.RUNNING for s in tickets.get(run, ()))
            if (known is not None and known[0] == info) or not (working or known is None):
                continue
            if not working and len(tickets) > MOST_RUNS:
                continue  # of a large study, only the boards of active runs are shown
            try:
                board = listed or self._mailbox.board(run)
            except CorruptObject as error:
                warnings.append(str(error))
                continue
            if board is not None:
                self._boards[run] = info, board
        return list(tickets.items())

    def _run(self, run: str, states: list[TicketState], now: float) -> LiveRun:
        states = sorted(states, key=lambda s: PHASES.index(s.ticket.phase))
        status = worst(states)
        current = next((s for s in states if s.status is not Status.SUCCEEDED), states[-1])
        info, board = self._boards.get(run, (None, None))
        working = status is Status.RUNNING
        beat = board if working else None
        trial, seed = trial_and_seed(run)
        begun = [(s.ticket.phase, s.attempt) for s in states if s.attempt]
        if beat is not None:
            begun.append((beat.phase, beat.attempt))
        ending = current.ending if status.ended and status is not Status.SUCCEEDED else None
        evaluated = policy_scores(self._accepted(run, states, Phase.EVALUATE))
        value = evaluated.get(AGENT, {}).get("mean_return")
        return LiveRun(
            run=run,
            trial=trial,
            seed=seed,
            status=status,
            phase=beat.phase if beat is not None else current.ticket.phase,
            attempts=max(s.attempt or 0 for s in states),
            printed=begun[-1] if begun else None,
            board=board,
            beat_age_s=now - info.updated_at if info is not None and working else None,
            message=getattr(ending or beat, "message", ""),
            hint=ending.hint if ending else None,
            mean_return=float(value) if isinstance(value, int | float) else None,
            trained=TrainSummary.of(self._accepted(run, states, Phase.TRAIN)).steps,
        )

    def _accepted(self, run: str, states: list[TicketState], phase: Phase) -> Accepted | None:
        """The result of a phase that succeeded, read once; None after the first ``MOST_RUNS``."""
        state = next((s for s in states if s.ticket.phase is phase), None)
        if state is None or state.status is not Status.SUCCEEDED:
            return None
        known, key = self._ends.setdefault(phase, {}), (run, state.attempt or 0)
        if key not in known:
            if len(known) >= MOST_RUNS:
                return None
            known[key] = self._mailbox.accepted(run, phase)
        return known[key]

    def _left(
        self, runs: tuple[LiveRun, ...], at_work: list[LiveRun], to_come: int
    ) -> float | None:
        boards = [r.board if r.beat_age_s is not None else None for r in at_work]
        waiting = sum(not r.status.ended for r in runs) - len(at_work) + to_come
        known = [
            d
            for r in runs
            if r.status.ended and r.board is not None and (d := run_s(r.board)) is not None
        ]
        return time_left(boards, waiting, known)

    @staticmethod
    def _to_come(record: ExperimentRecord, state: StudyState | None, posted: int) -> int:
        if state is None:
            return 0
        try:
            study = StudySpec.model_validate(record.spec["study"])
        except ValidationError:  # of an older version
            return 0
        return runs_to_come(study, len(as_list(record.spec.get("seeds"))) or 1, state, posted)

    # -- machines -----------------------------------------------------------------------------

    def _at_work(self, now: float, at_work: list[LiveRun]) -> tuple[LiveWorker, ...]:
        """Workers that have not left. A heartbeat is in the listing, so it is not read."""
        runs: dict[str, list[str]] = {}
        for run in at_work:
            if run.board is not None:
                runs.setdefault(run.board.worker, []).append(run.run)
        workers = []
        for info, listed in self._mailbox.listed("workers/", WorkerRecord):
            known = self._workers.get(info.key)
            age = now - info.updated_at
            quiet = known is not None and known[1].state == "ready" and age <= STALE_S
            if known is None or (known[0] != info and not quiet):
                try:
                    record = listed or WorkerRecord.from_bytes(self._mailbox.store.get(info.key))
                except (ObjectMissing, CorruptObject):
                    continue
                known = self._workers[info.key] = info, record
            record = known[1]
            if record.state == "leaving" or (record.state == "failed" and age > 3600):
                continue
            workers.append(
                LiveWorker(
                    worker=record.worker,
                    state=record.state,
                    host=record.host,
                    beat_age_s=max(0.0, age),
                    message=record.message,
                    runs=tuple(runs.get(record.worker, ())),
                )
            )
        return tuple(workers)

    # -- log ----------------------------------------------------------------------------------

    def _log(self, runs: tuple[LiveRun, ...], run: str | None) -> Log | None:
        begun = [r for r in runs if r.printed is not None]
        if not begun:
            return None
        begun.sort(key=lambda r: (r.beat_age_s is None, r.status in _GOOD_ENDS))
        logged = next((r for r in begun if r.run == run), begun[0])
        assert logged.printed is not None
        reader = self._logs.setdefault(logged.run, LastLines(self._mailbox, logged.run, LOG_LINES))
        try:
            lines = reader.read(*logged.printed)
        except ObjectMissing:  # deleted since it was listed
            lines = []
        choices = tuple(sorted({r.run for r in begun[: MOST_RUNS - 1]} | {logged.run}))
        return Log(logged.run, tuple(redact(line) for line in lines), choices)


def _ended(
    runs: Collection[LiveRun],
    status: Status,
    state: StudyState | None,
    stages: StagesResults | None,
) -> bool:
    if stages is not None:
        return bool(stages.stages) and all(s.ended for s in stages.stages)
    return bool(runs) and status.ended and (state is None or state.phase == "over")


_GOOD_ENDS = (Status.SUCCEEDED, Status.PRUNED)
