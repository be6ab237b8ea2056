"""The workload ``script``: commands that set up, do the work and clean up, in one folder a run.

Everything happens in the train phase, on one worker: ``setup``, uploads, ``run``, downloads,
reading the results, and ``teardown``, which follows in any case. An attempt that was lost starts
over in a fresh folder, so `setup` and `teardown` should bear being repeated.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from drillyard.documents.json_types import JsonObject
from drillyard.errors import ConfigError, DrillyardError, RunFailed, UserError
from drillyard.findings import Finding, passed, problem, warning
from drillyard.mailbox.patience import persist
from drillyard.mailbox.records import FileEntry, Manifest
from drillyard.metrics.streams import StreamWriter
from drillyard.runs import code_archive
from drillyard.runs.travelling import findings, named_files
from drillyard.runs.workload import PhaseOutcome, RunContext
from drillyard.spec import ExperimentSpec
from drillyard.spec.binding import run_parameters
from drillyard.spec.service import ServiceSpec
from drillyard.spec.work import ScriptSpec, words_of
from drillyard.system.scratch import workplace
from drillyard.workloads import metrics, transfers, variables
from drillyard.workloads.commands import CommandContext, end_earlier
from drillyard.workloads.measured import (
    Measured,
    file_name,
    finished,
    save,
    save_metrics,
    writer,
)
from drillyard.workloads.staged import in_stages
from drillyard.workloads.telemetry import Telemetry

_FOLLOW_S = 1.0
_HURRY_S = 4.0
"""Longest teardown of a script that was stopped: a worker that ends kills it soon after."""


class ScriptWorkload(Measured):
    """Runs commands, and reads what they measured."""

    kind = "script"

    def check(self, spec: ExperimentSpec, folder: Path | None) -> list[Finding]:
        """See ``Workload.check``: programs that are not here may be on the worker.

        Raises:
            ConfigError: A script that is not there, or variables that do not fit.
        """
        script = _script(spec)
        variables.names(script.environment, run_parameters(spec, run="t0001-s0", seed=0))
        findings = [
            passed(
                "script",
                f"{len(script.setup)} lines of setup, {len(script.run)} of run, "
                f"{len(script.teardown)} of teardown",
            )
        ]
        if not script.shell:
            for stage in ("setup", "run", "teardown"):
                for number, line in enumerate(getattr(script, stage)):
                    findings += _program(f"script.{stage}[{number}]", words_of(line), folder)
        if script.results.stdout is None and script.results.file is None:
            findings.append(
                warning(
                    "script.results",
                    "neither `stdout` nor `file` is given: this run has no metrics",
                    "give a pattern, script.results.stdout: '^(\\w+)=(\\S+)$', or a file",
                )
            )
        return [*findings, *([] if folder is None else _travels(spec, folder))]

    def train(self, context: RunContext) -> PhaseOutcome:
        """All stages, teardown in any case."""
        return in_stages(self, context)

    # -- stages, also called by a composite ---------------------------------------------------

    def setup(self, context: RunContext) -> None:
        """Make the working folder, write the parameters, run ``setup``, upload.

        Raises:
            RunFailed: A line failed.
        """
        script = _script(context.spec)
        folder = prepare(context)
        variables.write_file(folder / script.parameters_file, context.run.parameters)
        if script.setup:
            _commands(context, script).run("setup", script.setup, script.setup_max_time_s)
        for item in script.upload:
            url = context.mailbox.store.url
            with context.transfers:
                count = persist(partial(transfers.upload, folder, item.source, item.to, url))
            context.log.info("uploaded %d files to %s", count, item.to)

    def run(self, context: RunContext) -> PhaseOutcome:
        """Run ``run``, download, read telemetry and results.

        Raises:
            RunFailed: A line failed, or there is no result.
            TimedOut: ``max_time_s`` is over.
        """
        began = time.monotonic()
        script = _script(context.spec)
        folder = work_folder(context)
        for name in (script.results.file, script.telemetry):
            if name is not None:  # an earlier child's, or one that came with the code
                (folder / name).unlink(missing_ok=True)
        streams = writer(context)
        telemetry = _telemetry(context, script, folder, streams)
        commands = _commands(context, script)
        output = commands.keep_output(context.scratch, context.child or "run")
        due = time.monotonic() + _FOLLOW_S

        def tick() -> None:
            nonlocal due
            if telemetry is not None and time.monotonic() >= due:
                due = time.monotonic() + _FOLLOW_S
                if telemetry.follow():
                    streams.flush_soon()

        commands.tick = tick
        context.progress(step=0, total=len(script.run), message=f"run: {script.run[0]}")
        try:
            commands.run("run", script.run, script.max_time_s)
            context.progress(step=len(script.run), total=len(script.run), message="results")
            for item in script.download:
                url = context.mailbox.store.url
                with context.transfers:
                    persist(partial(transfers.download, folder, item.source, item.to, url))
            if telemetry is not None:
                telemetry.follow(whole=True)
        except BaseException:
            if telemetry is not None:
                _follow_rest(context, telemetry)
            raise
        finally:
            finished(context, streams)
        numbers, texts = _results(script, folder, output)
        files = save_metrics(context, numbers, texts) | self._kept(context, script, folder)
        summary: JsonObject = {
            "wall_s": time.monotonic() - began,
            "metrics": {**numbers},
            "parameters": dict(context.run.parameters),
        }
        return PhaseOutcome(files=Manifest(files=files), summary=summary)

    def teardown(self, context: RunContext, *, failed: bool = False) -> None:
        """Run ``teardown`` and end what still runs.

        Args:
            context: The same as of ``setup``.
            failed: Something is being told already; an error here is only logged.

        Raises:
            RunFailed: A line failed, and nothing had failed before.
        """
        script = _script(context.spec)
        commands = _commands(context, script)
        limit = script.teardown_max_time_s
        if context.stop.requested:
            limit = min(limit, _HURRY_S)
        commands.stop = None  # what was set up is cleaned up, also when a stop was asked for
        try:
            if script.teardown and _begun(context).exists():
                # Every line has its chance: each may give back something else.
                commands.abort_on_error = False
                commands.run("teardown", script.teardown, limit)
        except DrillyardError as error:
            if not failed:
                raise
            context.log.error("teardown: %s", error)
        finally:
            commands.end_all()

    def _kept(self, context: RunContext, script: ScriptSpec, folder: Path) -> dict[str, FileEntry]:
        always = (script.results.file, script.parameters_file)
        files: dict[str, FileEntry] = {}
        for name, path in transfers.files_below(folder):
            if name in always or any(fnmatch(name, glob) for glob in script.keep):
                full = f"files/{name}"
                try:
                    context.key_of(file_name(context, full))
                except UserError as error:  # the work is done: no name is worth losing it
                    context.log.warning("one file is not kept: %s", error)
                    continue
                context.progress(message=f"keeping {name}")
                try:
                    files |= save(context, full, path)
                except FileNotFoundError:  # by a process that works in the background
                    context.log.warning("%s was deleted before it could be kept", name)
        return files


def prepare(context: RunContext) -> Path:
    """The working folder of a run: made once, with a copy of the user's files."""
    begun = _begun(context)
    if not begun.exists():
        if left := end_earlier(run_mark(context)):
            context.log.warning("ended %d processes that an earlier attempt left", left)
        context.scratch.mkdir(parents=True, exist_ok=True)
        begun.touch()
    return work_folder(context)


def _begun(context: RunContext) -> Path:
    """There once the first command of an attempt may run; the children of a composite share it."""
    return context.scratch / "begun"


def run_mark(context: RunContext) -> str:
    """Identifies the processes of a run, in all of its attempts."""
    text = f"{context.mailbox.store.url}\0{context.run.experiment}\0{context.run.run}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def work_folder(context: RunContext) -> Path:
    """Where the commands of a run work; the children of a composite share it."""
    return workplace(context.scratch, context.code)


def _travels(spec: ExperimentSpec, folder: Path) -> list[Finding]:
    """What the workers get: a script fails far away where a file of its stays here."""
    try:
        named = named_files(folder.resolve(), spec.files)
        return findings(code_archive.pack(folder, everything=True, named=named), folder)
    except UserError as error:
        return [problem("files", str(error), error.hint or "")]


def _telemetry(
    context: RunContext, script: ScriptSpec, folder: Path, streams: StreamWriter
) -> Telemetry | None:
    if script.telemetry is None:
        return None
    prefix = f"{context.child}/" if context.child else ""
    return Telemetry(folder / script.telemetry, streams, prefix)


def _script(spec: ExperimentSpec) -> ScriptSpec:
    if spec.script is None:
        raise ConfigError("a `script` experiment needs `script:`", field="script")
    return spec.script


def commands_of(
    context: RunContext, section: ScriptSpec | ServiceSpec, parameters: str, **facts: str
) -> CommandContext:
    """Where and how the commands of a run are executed.

    Args:
        context: The run.
        section: Has their environment.
        parameters: Name of the file with the parameters.
        **facts: More variables.
    """
    run, folder = context.run, work_folder(context)
    facts = {
        "DRILLYARD_EXPERIMENT": run.experiment,
        "DRILLYARD_RUN": run.run,
        "DRILLYARD_SEED": str(run.seed),
        "DRILLYARD_TRIAL": str(run.trial),
        "DRILLYARD_ATTEMPT": str(context.attempt),
        "DRILLYARD_CHILD": context.child,
        "DRILLYARD_PARAMETERS": str(folder / parameters),
        **facts,
    }
    return CommandContext(
        folder=folder,
        environment=variables.environment(section.environment, run.parameters, facts),
        mark=f"{context.claim.token}/{context.child}",
        run_mark=run_mark(context),
        stop=context.stop,
        log=lambda line: context.log.info("%s", line),
        shell=section.shell,
        section="script" if isinstance(section, ScriptSpec) else "service",
    )


def _follow_rest(context: RunContext, telemetry: Telemetry) -> None:
    """Take what is readable of the telemetry of a script that did not end well.

    A killed program often leaves half a line. It must not hide why the run ended.
    """
    try:
        telemetry.follow()
    except (RunFailed, OSError) as error:
        context.log.warning("%s", error)


def _commands(context: RunContext, script: ScriptSpec) -> CommandContext:
    commands = commands_of(context, script, script.parameters_file)
    commands.abort_on_error = script.abort_on_error
    return commands


def _results(
    script: ScriptSpec, folder: Path, output: Path
) -> tuple[dict[str, float], dict[str, str]]:
    """(metrics, texts) from output and file; the file wins.

    Raises:
        RunFailed: Where one was to be found there is none.
    """
    pattern, file = script.results.stdout, script.results.file
    values: metrics.Values = {}
    if pattern is not None:
        if output.exists():
            values.update(metrics.from_output(output, pattern))
        if not values and file is None:
            raise RunFailed(
                f"the output of `run` has no match of script.results.stdout, {pattern!r}",
                hint="look at the output in the log of the run, and try the pattern on each of "
                "its lines",
            )
    if file is not None:
        values.update(metrics.from_file(folder / file))
    numbers, texts = metrics.split(values)
    if texts and not numbers:
        name, text = next(iter(texts.items()))
        raise RunFailed(
            f"no result is a number; {name!r} is {text!r}",
            hint="print or write numbers, with a dot and without a unit",
        )
    return numbers, texts


def _program(field: str, words: list[str], folder: Path | None) -> list[Finding]:
    """A file of the user that is not there is an error; a program may be on the worker only."""
    program = words[0]
    if "$" in program or Path(program).is_absolute():
        return []
    if program.endswith(".py") or "/" in program:
        if folder is not None and not (folder / program).is_file():
            there = sorted(p.name for p in folder.glob(f"*{Path(program).suffix or '.sh'}"))
            return [
                warning(
                    field,
                    f"{program} is not in the experiment's folder; does `setup` make it?",
                    f"files there: {', '.join(there[:10]) or 'none of this kind'}",
                )
            ]
    elif shutil.which(program) is None:
        return [
            warning(
                field,
                f"the program {program!r} is not on this machine",
                "the workers need it; built-ins of a shell need `shell: true`",
            )
        ]
    return []
