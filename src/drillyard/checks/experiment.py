"""Checks of an experiment outside its file: disk, tracking server, backend, simulator.

Nothing is created and nothing is rented. ``load`` has already refused errors in the file itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from drillyard.backend.open import is_paid
from drillyard.checks import hosted_copies, servers
from drillyard.checks.capacity import capacity
from drillyard.checks.numbers import plan, repeated
from drillyard.checks.packages import missing_packages
from drillyard.checks.refusal import as_finding, placed
from drillyard.checks.stages import check_stages
from drillyard.checks.storage import disk, targets, travels
from drillyard.checks.trial import fits, try_training
from drillyard.errors import ConfigErrors, SimulatorError, UserError
from drillyard.findings import Finding, Severity, passed, problem, warning
from drillyard.registry import load as load_registered
from drillyard.registry import names
from drillyard.runs.webhook import webhook
from drillyard.runs.workload import Workload
from drillyard.spec.load import Loaded
from drillyard.spec.stages import is_staged
from drillyard.system.import_path import current, importable
from drillyard.system.user_code import described, place
from drillyard.system.watchdog import ChildDied, HangError, Output, hand_over, run_watched
from drillyard.tracking.uris import is_azure

if TYPE_CHECKING:
    from drillyard.spec.learning import SimulatorSpec

_GYMNASIUM_ID = re.compile(r"(?:[\w-]+/)?[\w.-]+-v\d+")
"""An id that Gymnasium takes, registered or mistyped."""
T = TypeVar("T")


def check(
    loaded: Loaded,
    *,
    store: str = "./drillyard-runs",
    offline_ok: bool = False,
    speed: bool = False,
) -> list[Finding]:
    """Checks everything that can be checked before anything is rented.

    Args:
        loaded: A resolved experiment.
        store: URL of the mailbox's store.
        offline_ok: Accept a tracking server that cannot be reached.
        speed: Also test the simulator's limits, measure its steps/s and try the training, which
            takes seconds. The training is always tried before something is rented.

    Returns:
        The findings. ``refuse`` refuses the experiment if there are errors among them.
    """
    spec = loaded.spec
    if is_staged(spec):
        of_stage = partial(check, store=store, offline_ok=offline_ok, speed=speed)
        return [*loaded.findings, *check_stages(loaded, of_stage)]
    findings = [
        passed("file", f"{loaded.file.name} is well-formed"),
        *loaded.findings,
    ]
    findings += plan(loaded)
    findings += disk(store, len(spec.seeds))
    findings += targets(loaded)
    findings += _guarded(loaded, "study", lambda: _study(loaded))
    findings += _tracking(spec.tracking.mlflow, offline_ok)
    if spec.tracking.wandb is not None:
        findings += servers.wandb()
    findings += _guarded(loaded, "notify", lambda: _webhook(loaded))
    findings += _guarded(loaded, "simulator.copies_on", lambda: hosted_copies.listens(spec, store))
    with importable(loaded.folder):
        findings += _guarded(loaded, "backend", lambda: capacity(loaded, store))
        good = all(f.severity is not Severity.ERROR for f in findings)
        findings += _watched(loaded, lambda: _world(loaded, speed and good))
        rents = is_paid(*loaded.spec.places)
        if rents:
            findings += _guarded(loaded, "requirements", partial(missing_packages, loaded))
        if (speed or rents) and all(f.severity is not Severity.ERROR for f in findings):
            for each in (loaded, *_listed(loaded)):
                findings += _guarded(each, "training", partial(try_training, each))
                findings += _guarded(each, "runs_per_machine", partial(fits, each))
    # After the trial: what it opened travels too.
    findings += _guarded(loaded, "files", lambda: travels(loaded, store))
    return [placed(finding, loaded) for finding in findings]


def is_simulator(text: str) -> bool:
    """Returns whether an argument names a simulator rather than an experiment file."""
    if Path(text).exists():
        return False
    if ":" in text or text in names("simulators"):
        return True
    return _GYMNASIUM_ID.fullmatch(text) is not None


def check_alone(simulator: SimulatorSpec, limit_s: float = 20.0) -> list[Finding]:
    """Checks a simulator without an experiment.

    Args:
        simulator: The simulator; modules are also searched in the working folder.
        limit_s: Longest time without a report, in seconds.

    Raises:
        UserError: The simulator does not exist.
    """
    from drillyard.simulators.check import check_simulator
    from drillyard.simulators.speed import measure_speed
    from drillyard.simulators.stress_test import try_limits

    def look() -> list[Finding]:
        findings = check_simulator(simulator, speed=False)
        for more in (try_limits, lambda spec: [measure_speed(spec)], _at_once):
            if all(f.severity is not Severity.ERROR for f in findings):
                findings += _asked("simulator", partial(more, simulator))
        return findings

    output = Output()
    with importable(Path.cwd()):
        return [*guarded(look, limit_s, output), *_printed(output)]


def _at_once(simulator: SimulatorSpec) -> list[Finding]:
    """Compares the vectorised form of a simulator with its single form, if it has one."""
    from drillyard.simulators.same_copies import must_agree

    agreement = must_agree(simulator)
    return [passed("simulator: copies", agreement)] if agreement else []


def guarded(look: Callable[[], T], limit_s: float = 60.0, output: Output | None = None) -> T:
    """Calls user code that may hang or end its process, and reports where it did.

    Args:
        look: The call.
        limit_s: Longest time without a report, in seconds.
        output: Takes what it prints.

    Raises:
        SimulatorError: It hangs, crashed, raised, or called ``sys.exit``.
    """
    try:
        return run_watched(look, limit_s, "importing it", output)
    except (HangError, ChildDied) as ended:
        raise SimulatorError(
            str(ended),
            field="simulator.id",
            allowed="a simulator that can be stepped",
            hint="fix the simulator",
        ) from ended
    except SystemExit as end:
        raise SimulatorError(
            f"your code called sys.exit({end.code!r})",
            field="simulator.id",
            allowed="a simulator that can be stepped",
            hint="raise an exception instead",
        ) from end


def _watched(loaded: Loaded, look: Callable[[], list[Finding]]) -> list[Finding]:
    """Returns the findings of user code; a hang or a crash is a finding too."""
    limit_s, output = loaded.spec.budget.check_s, Output()
    try:
        with current(loaded.folder):  # as the simulator of a run, which has a copy of it
            return [*run_watched(look, limit_s, "importing it", output), *_printed(output)]
    except (HangError, ChildDied) as ended:
        fix = (
            "fix the simulator; or if it needs that long: --set budget.check_s=120"
            if isinstance(ended, HangError)
            else "native code of the simulator crashed, or the simulator called os._exit; a run "
            "would end in the same way"
        )
        # Findings were handed over before user code hung or crashed.
        kept = [part for part in ended.parts if isinstance(part, Finding)]
        return [*kept, *_printed(output), problem("simulator", str(ended), fix)]


def _printed(output: Output) -> list[Finding]:
    """Says what the user's code printed, which is not shown among the findings."""
    if not output.size:
        return []
    first = next((line for line in output.head.splitlines() if line.strip()), "")[:80]
    text = f"printed {output.size:,} characters, which a run keeps in its log; the first: {first}"
    return [passed("simulator: output", text)]


def _world(loaded: Loaded, speed: bool) -> list[Finding]:
    """Checks the simulator and the workload; hands each finding over when it is known."""
    findings: list[Finding] = []

    def add(subject: str, listed: Loaded, ask: Callable[[Loaded], list[Finding]]) -> None:
        for finding in _guarded(listed, subject, lambda: ask(listed)):
            findings.append(finding)
            hand_over(finding)

    def good() -> bool:
        return all(f.severity is not Severity.ERROR for f in findings)

    add("simulator", loaded, _simulator)
    # A broken simulator has no spaces to check the learner against.
    if good():
        add(loaded.spec.workload, loaded, _workload)
    for number, listed in enumerate(_listed(loaded)):
        if good():
            add(f"study.experiments[{number}]", listed, _simulator)
            add(f"study.experiments[{number}]", listed, _workload)
    if speed and good():
        add("simulator", loaded, _limits)
    if speed and good():
        add("simulator.copies_on", loaded, lambda one: hosted_copies.compared(one.spec))
    return findings


def _listed(loaded: Loaded) -> list[Loaded]:
    """Returns the listed experiments of a study, each as it would be run."""
    from drillyard.spec.binding import with_parts
    from drillyard.spec.listed import OF_THE_TRIAL

    study = loaded.spec.study
    items = study.experiments if study is not None else []
    parts = [{k: v for k, v in item.items() if k not in OF_THE_TRIAL} for item in items]
    return [replace(loaded, spec=with_parts(loaded.spec, changes)) for changes in parts if changes]


def _simulator(loaded: Loaded) -> list[Finding]:
    if loaded.spec.simulator is None:
        return []
    from drillyard.simulators.check import check_simulator

    return check_simulator(loaded.spec.simulator, speed=False)


def _limits(loaded: Loaded) -> list[Finding]:
    if loaded.spec.simulator is None:
        return []
    from drillyard.simulators.speed import measure_speed
    from drillyard.simulators.stress_test import try_limits

    findings = try_limits(loaded.spec.simulator)
    if any(f.severity is Severity.ERROR for f in findings):
        return findings
    return [*findings, measure_speed(loaded.spec.simulator, repeated(loaded))]


def _study(loaded: Loaded) -> list[Finding]:
    """Describes a study, and checks whether its storage can be reached."""
    study = loaded.spec.study
    if study is None:
        return []
    from drillyard.errors import InfrastructureError
    from drillyard.spec.study import MODELS

    many = f"{study.planned:,} trials" if study.planned else "all its trials"
    seeds = len(loaded.spec.seeds)
    text = f"{many}, chosen by {study.chooser}, on {seeds} seed{'s' if seeds > 1 else ''} each"
    if again := study.confirmations(seeds):
        fresh = f"{again} fresh seed{'s' if again > 1 else ''}"
        text += "; then the best of them once more on "
        text += "fresh episodes" if study.population else fresh
    findings = [passed("study", text)]
    if study.planned and study.planned <= study.by_chance:
        findings.append(
            warning(
                "study.trials",
                f"{study.chooser} never chooses: its first {study.by_chance} trials are random, "
                f"and the study has only {study.planned}",
                f"raise study.trials above {study.by_chance}, or write `chooser: random`",
            )
        )
    if study.storage is None or study.chooser not in MODELS:
        return findings
    from drillyard.studies.study_database import check_storage

    try:
        check_storage(study.storage)
    except InfrastructureError as error:
        findings.append(problem("study.storage", error.message, error.hint, infrastructure=True))
    return findings


def _workload(loaded: Loaded) -> list[Finding]:
    workload: Workload = load_registered("workloads", loaded.spec.workload)()
    return workload.check(loaded.spec, loaded.folder)


def _guarded(loaded: Loaded, subject: str, ask: Callable[[], list[Finding]]) -> list[Finding]:
    """Returns the findings of a check. An error that it raises is a finding with file and line."""
    return _asked(subject, ask, bool(loaded.spec.requirements))


def _asked(
    subject: str, ask: Callable[[], list[Finding]], requirements: bool = False
) -> list[Finding]:
    try:
        return ask()
    except ConfigErrors as errors:
        return [as_finding(e, subject) for e in errors.errors]
    except UserError as error:
        missing = _missing_module(error)
        if missing is not None and requirements:
            return [
                warning(
                    subject,
                    f"not checked, because {missing!r} is not installed here; setup installs "
                    "`requirements:` on the workers",
                )
            ]
        return [as_finding(error, subject)]
    except SystemExit as end:
        return [
            problem(
                subject,
                f"your code called sys.exit({end.code!r})",
                "raise an exception instead; its message is shown",
            )
        ]
    except Exception as error:
        where = place(error)
        if where is None:
            raise  # no line of the user's took part in it
        return [
            problem(
                subject,
                f"your code raised {described(error)}",
                "fix that line; a run would fail in the same way",
            )
        ]


def _missing_module(error: BaseException | None) -> str | None:
    """Returns the missing module that caused an error, or None."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError):
            return error.name
        error = error.__cause__
    return None


def _webhook(loaded: Loaded) -> list[Finding]:
    url = webhook(loaded.spec)
    host = urlsplit(url).hostname if url is not None else None
    return (
        []
        if host is None
        else [passed("notify", f"{host} receives a notification when the run ends")]
    )


def _tracking(uri: str | None, offline_ok: bool) -> Iterator[Finding]:
    if uri == "auto":
        uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri and urlsplit(uri).scheme in ("http", "https"):
        yield from servers.mlflow(uri, offline_ok=offline_ok)
    elif uri and is_azure(uri):
        yield from servers.workspace_mlflow(uri, offline_ok=offline_ok)
