"""One ticket, in one process: from the claim to its ending.

The pool forks ``main``. It needs only a pipe from the worker. User code runs here, so this is the
only part of a worker that is not a step function; ``sidecar`` is one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from drillyard.errors import DrillyardError, Superseded
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.patience import persist
from drillyard.mailbox.records import Ending, Phase, RunRecord
from drillyard.mailbox.status import Cause, Status
from drillyard.mailbox.store_clock import StoreClock
from drillyard.registry import load
from drillyard.runs.inputs import place_inputs
from drillyard.runs.workload import PhaseOutcome, RunContext, StopSignal, Workload
from drillyard.spec import ExperimentSpec
from drillyard.spec.algorithms import engines
from drillyard.spec.binding import bound
from drillyard.system import episode_memory, step_marker
from drillyard.system.clock import SYSTEM, Clock
from drillyard.system.operating_system import lead_group
from drillyard.system.processes import ProcessId, end, in_group
from drillyard.system.redaction import log_to, register_environment
from drillyard.system.scratch import workplace
from drillyard.system.utilisation import Monitor, Sampler
from drillyard.worker import endings, failed_episode, machine_share
from drillyard.worker.hand_in import HandIn
from drillyard.worker.logship import LogShipper
from drillyard.worker.machine import Job
from drillyard.worker.progress import ProgressKeeper
from drillyard.worker.sidecar import TicketSidecar
from drillyard.worker.signals import listen_in_attempt
from drillyard.worker.stall import StallWatch, dump_stacks, exit_now

REPORTED = 0
UNREPORTED = 70
"""Exit code of a process that could not write its ending; the worker does it."""

log = logging.getLogger("drillyard.run")


def main(
    job: Job,
    worker: Connection | None = None,
    work: Callable[[Job, Connection | None], int] | None = None,
) -> None:
    """Body of a ticket's process. Never returns: ends with ``REPORTED`` or ``UNREPORTED``.

    Args:
        job: The job.
        worker: Pipe for stop requests.
        work: Does it; default ``execute``.
    """
    code = UNREPORTED
    try:
        # A group of its own: whatever the user's code starts can be ended with it.
        lead_group()
        job.scratch.mkdir(parents=True, exist_ok=True)
        _redirect_output(job.log_path)
        step_marker.keep_in(job.scratch)
        episode_memory.keep_in(job.scratch)
        register_environment()
        engines.keep_programs(job.programs)
        with machine_share.ports(job.ticket.run) as ports:
            os.environ.update(machine_share.variables(ports, job.gpus))
            code = (work or execute)(job, worker)
    except BaseException:
        # No caller could report it: the log of the attempt is the last place.
        logging.getLogger(__name__).exception("the worker's own code failed")
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        me = ProcessId.current()
        end([p for p in in_group(me.pid) if p.pid != me.pid], grace_s=0.0)
        # Threads and exit handlers of user code must not keep a finished ticket alive.
        os._exit(code)


def execute(
    job: Job,
    worker: Connection | None = None,
    clock: Clock = SYSTEM,
    stop: StopSignal | None = None,
) -> int:
    """Run a ticket and write how it ended.

    Args:
        job: The job.
        worker: Pipe for stop requests ``(cause, reason)``; its end means the worker's death.
        clock: For waiting and durations. Times in records are the store's.
        stop: Another source of stop requests.

    Returns:
        ``REPORTED``, or ``UNREPORTED`` if the store stayed unreachable.
    """
    mailbox = Mailbox(open_store(job.store_url), job.experiment)
    clock = StoreClock(mailbox.store, clock)
    stop = stop or StopSignal()
    listen_in_attempt(stop)
    progress = ProgressKeeper(job.ticket, job.claim, clock)
    shipper = job.shipper(mailbox)
    gpus = machine_share.numbers(job.gpus)
    usage = Monitor(Sampler(job.scratch).sample, clock.now, gpus, log.warning)
    sidecar = TicketSidecar(mailbox, job.claim, stop, progress, shipper, worker, clock, usage)
    sidecar.start()
    started_at = clock.now()
    ending: Ending | None
    try:
        context = _context(job, mailbox, stop, progress, clock)
        context.usage = usage.take
        with _stall_watch(job, context, stop, progress, sidecar, shipper):
            outcome = _run_phase(context)
        ending = persist(HandIn(mailbox, job.claim, job.ticket, outcome, started_at, clock))
    except Superseded as error:
        log.info("%s: the result of this attempt does not count", error)
        ending = None
    except BaseException as error:
        ending = endings.of_error(job.claim, clock, error, stop, job.scratch)
        if ending.cause in (Cause.USER_ERROR, Cause.OUT_OF_MEMORY) and not sidecar.superseded:
            ending = failed_episode.store(job, mailbox, ending, clock.now())
        if ending.traceback and not sidecar.superseded:
            log.error("%s\n%s", ending.message, ending.traceback)
    if sidecar.superseded:
        ending = None
    sidecar.finish(ending.status if ending else Status.UNKNOWN)
    # The log first: readers of the ending want to read the last lines.
    with contextlib.suppress(DrillyardError, OSError):  # a full disk
        shipper.ship(everything=True)
    return REPORTED if _report(mailbox, ending) else UNREPORTED


def _stall_watch(
    job: Job,
    context: RunContext,
    stop: StopSignal,
    progress: ProgressKeeper,
    sidecar: TicketSidecar,
    shipper: LogShipper,
) -> StallWatch:
    """The stall watch of train and evaluate; storing a large file may take long in silence."""

    def end(message: str) -> None:
        ending = endings.failed(
            job.claim,
            context.clock,
            Cause.TIME_LIMIT,
            message,
            hint="the log shows the stack of each thread; `drillyard check` steps the simulator; "
            "if a step may take that long, set a larger budget.stall_s, or null",
        )
        now = context.clock.now()
        ending = failed_episode.store(job, context.mailbox, ending, now, ended=True)
        sidecar.finish(ending.status)
        dump_stacks()  # after the last ordinary look at the log, which may cut a long one
        with contextlib.suppress(DrillyardError, OSError):  # a full disk
            shipper.ship(everything=True)
        reported = sidecar.superseded or _report(context.mailbox, ending)
        exit_now(REPORTED if reported else UNREPORTED)

    watched = context.phase is not Phase.STORE
    limit_s = context.spec.budget.stall_s if watched else None
    return StallWatch(job.ticket, limit_s, stop, progress, context.clock, end, context.transfers)


def _context(
    job: Job, mailbox: Mailbox, stop: StopSignal, progress: ProgressKeeper, clock: Clock
) -> RunContext:
    run = persist(lambda: mailbox.run(job.ticket.run))
    record = persist(mailbox.experiment_record)
    _set_threads(run)
    sys.path[:0] = [str(path) for path in job.paths]
    code = job.paths[0] if job.has_code else None
    if packages := [str(path) for path in job.paths if path != code]:
        # For the commands of a script, and for other processes.
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([*packages, *([before] if before else [])])
    folder = workplace(job.scratch, code)
    os.chdir(folder)
    spec = ExperimentSpec.model_validate(record.spec)
    if spec.stage_of is not None and spec.stage_of.inputs and job.ticket.phase is not Phase.STORE:
        given = persist(lambda: place_inputs(mailbox, run.run, folder))
        run = run.model_copy(update={"parameters": {**run.parameters, **given}})
    return RunContext(
        spec=bound(spec, run),
        run=run,
        phase=job.ticket.phase,
        attempt=job.claim.attempt,
        claim=job.claim,
        mailbox=mailbox,
        scratch=job.scratch,
        code=code,
        stop=stop,
        progress=progress,
        log=log,
        clock=clock,
    )


def _run_phase(context: RunContext) -> PhaseOutcome:
    context.stop.check()
    log.info("%s of %s, attempt %d", context.phase.value, context.run.run, context.attempt)
    if context.phase is Phase.STORE:
        from drillyard.results.store_phase import store_phase  # only store tickets need it

        return store_phase(context)
    workload: Workload = load("workloads", context.spec.workload)()
    phase = workload.train if context.phase is Phase.TRAIN else workload.evaluate
    return phase(context)


def _report(mailbox: Mailbox, ending: Ending | None) -> bool:
    if ending is None:
        return True
    try:
        persist(lambda: mailbox.end(ending))
    except DrillyardError as error:
        log.error("the ending of this attempt cannot be written: %s", error)
        return False
    return True


def _set_threads(run: RunRecord) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(run.threads)  # for processes that user code starts
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(run.threads)


def _redirect_output(path: Path) -> None:
    """Send all output of this process and its children to one file."""
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    logging.getLogger().handlers.clear()  # those of the process that this one was forked from
    log_to(
        logging.StreamHandler(sys.stderr), form="%(asctime)sZ %(levelname)s %(name)s: %(message)s"
    )
    logging.captureWarnings(True)
