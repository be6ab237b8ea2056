"""The workload ``composite``: children in order, as one run.

Children are set up in order, run in order, and always torn down in reverse. The first failure ends
the run. All children work in the folder of the run, so that each can read the files of the ones
before it. Their metrics are merged; metrics of the same name are an error without a ``prefix``.

One child at most may train a policy (``rl``, or a plug-in's workload): its checkpoints, curves and
files are those of the run. After a lost attempt the others start over, and that one resumes.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from drillyard.documents.json_types import Json, JsonObject, as_number, as_numbers, as_object
from drillyard.errors import ConfigError, DrillyardError, RunFailed
from drillyard.findings import Finding
from drillyard.mailbox.records import FileEntry, Manifest
from drillyard.registry import load
from drillyard.runs.workload import PhaseOutcome, RunContext, Workload
from drillyard.spec import ExperimentSpec
from drillyard.spec.binding import child_parameters
from drillyard.spec.experiment import ChildSpec, Parts
from drillyard.workloads.measured import save_metrics
from drillyard.workloads.script import prepare
from drillyard.workloads.staged import Staged, in_stages

T = TypeVar("T")
PARTLY = ("script", "service", "mock", "composite")
"""Workloads of which a composite may have any number."""


@dataclass
class Part:
    """A child with its workload."""

    child: ChildSpec
    workload: Workload
    context: RunContext


class CompositeWorkload:
    """Does the work of its children."""

    kind = "composite"

    def __init__(self) -> None:
        self._parts: list[Part] = []
        self._set_up: list[Part] = []

    def check(self, spec: ExperimentSpec, folder: Path | None) -> list[Finding]:
        """See ``Workload.check``: every child by its own workload.

        Raises:
            UserError: A child cannot work; names it.
        """
        _only_one_policy(spec)
        _known_metrics(spec)
        findings: list[Finding] = []
        for number, child in enumerate(spec.children):
            part = as_experiment(spec, child)
            try:
                if child.simulator is not None:
                    from drillyard.simulators.check import check_simulator

                    findings += check_simulator(child.simulator, speed=False)
                of_child = _workload(child).check(part, folder)
            except ConfigError as error:
                field = f"children[{number}].{error.field}" if error.field else None
                raise error.but(field=field) from error.__cause__
            findings += [
                Finding(f.severity, f"children[{number}].{f.subject}", f.message, f.fix)
                for f in of_child
            ]
        return findings

    def preload(self, spec: ExperimentSpec) -> list[str]:
        """See ``Workload.preload``."""
        modules = [__name__]
        for child in spec.children:
            modules += _workload(child).preload(as_experiment(spec, child))
        return list(dict.fromkeys(modules))

    def freeze(self, spec: ExperimentSpec, seed: int) -> JsonObject:
        """See ``Workload.freeze``: those of the children, by name."""
        chosen = {
            child.name: _workload(child).freeze(as_experiment(spec, child), seed)
            for child in spec.children
        }
        return {"children": {name: choices for name, choices in chosen.items() if choices}}

    def train(self, context: RunContext) -> PhaseOutcome:
        """Set up, run, tear down."""
        return in_stages(self, context)

    def setup(self, context: RunContext) -> None:
        """Set the children up, in order.

        Raises:
            RunFailed: A child failed; the ones after it are not set up.
        """
        prepare(context)
        self._parts = list(_parts(context))
        for part in self._parts:
            if isinstance(part.workload, Staged):
                context.stop.check()
                context.log.info("setup of %s", part.context.child)
                # Recorded first, so that a child with a failed set-up is also torn down.
                self._set_up.append(part)
                with _named(part):
                    part.workload.setup(part.context)

    def run(self, context: RunContext) -> PhaseOutcome:
        """Run the children, in order.

        Raises:
            RunFailed: A child failed, or two have the same metric; the ones after it are not run.
        """
        began = time.monotonic()
        metrics, texts = _Merged[float](), _Merged[str]()
        files: dict[str, FileEntry] = {}
        summary: JsonObject = {}
        times: dict[str, float] = {}
        for number, part in enumerate(self._parts):
            context.stop.check()
            context.log.info("run of %s", part.context.child)
            context.progress(step=number, total=len(self._parts), message=part.context.child)
            start = time.monotonic()
            with _named(part):
                outcome = self._run(part)
            times[part.child.name] = time.monotonic() - start
            files |= outcome.files.files
            if part.child.workload not in PARTLY:
                summary |= outcome.summary
            metrics.add(part, as_numbers(outcome.summary.get("metrics")))
            texts.add(part, _texts(outcome.summary.get("texts")))
        summary.setdefault("parameters", dict(context.run.parameters))
        summary |= {
            "wall_s": time.monotonic() - began,
            "children_s": {**times},
            "metrics": {**metrics.values},
        }
        if context.child:
            files |= save_metrics(context, metrics.values, texts.values)
        return PhaseOutcome(files=Manifest(files=files), summary=summary)

    def teardown(self, context: RunContext, *, failed: bool = False) -> None:
        """Tear down the children that were set up, in reverse, also after a failure.

        Raises:
            RunFailed: A child failed, and nothing had failed before.
        """
        first: DrillyardError | None = None
        while self._set_up:
            part = self._set_up.pop()
            context.log.info("teardown of %s", part.context.child)
            assert isinstance(part.workload, Staged)
            try:
                with _named(part):
                    part.workload.teardown(part.context, failed=failed)
            except DrillyardError as error:
                context.log.error("%s", error)
                first = first or error
        if first is not None and not failed:
            raise first

    def evaluate(self, context: RunContext) -> PhaseOutcome:
        """Evaluate the children and merge what they measured."""
        metrics, texts = _Merged[float](), _Merged[str]()
        files: dict[str, FileEntry] = {}
        summary: JsonObject = {}
        for part in _parts(context):
            context.stop.check()
            with _named(part):
                outcome = part.workload.evaluate(part.context)
            files |= outcome.files.files
            result = outcome.summary
            if part.child.workload not in PARTLY:
                summary |= {k: v for k, v in result.items() if k not in ("metrics", "texts")}
            elif "policies" in result:
                summary |= {k: result[k] for k in ("policies", "policy_used") if k in result}
            values = result.get("metrics")
            metrics.add(part, _of_policy(result) if values is None else as_numbers(values))
            texts.add(part, _texts(result.get("texts")))
        files |= save_metrics(context, metrics.values, texts.values)
        summary |= {"metrics": {**metrics.values}, "texts": {**texts.values}}
        return PhaseOutcome(files=Manifest(files=files), summary=summary)

    @staticmethod
    def _run(part: Part) -> PhaseOutcome:
        if isinstance(part.workload, Staged):
            return part.workload.run(part.context)
        before = Path.cwd()
        os.chdir(prepare(part.context))  # files that earlier children wrote are found by name
        try:
            return part.workload.train(part.context)
        finally:
            os.chdir(before)


class _Merged(Generic[T]):
    """Values by name, and the child that gave each."""

    def __init__(self) -> None:
        self.values: dict[str, T] = {}
        self._of: dict[str, str] = {}

    def add(self, part: Part, values: Mapping[str, T]) -> None:
        """Add the values of a child.

        Raises:
            RunFailed: Another child has a value of that name.
        """
        for name, value in values.items():
            full = f"{part.child.put_before}{name}"
            if full in self.values:
                raise _clash(full, self._of[full], part.child.name)
            self.values[full], self._of[full] = value, part.child.name


@contextmanager
def _named(part: Part) -> Iterator[None]:
    """Put the child's name in front of its errors."""
    try:
        yield
    except DrillyardError as error:
        message = f"child {part.child.name!r}: {error.message}"
        raise error.but(message=message) from error.__cause__


def as_experiment(spec: ExperimentSpec, child: ChildSpec) -> ExperimentSpec:
    """A child as an experiment of its own, with the parent's common settings."""
    parts = {name: getattr(child, name) for name in Parts.model_fields}
    whole = {
        name: getattr(spec, name)
        for name in ExperimentSpec.model_fields
        if name not in Parts.model_fields
    }
    return ExperimentSpec.model_validate({**whole, **parts})


def _parts(context: RunContext) -> Iterator[Part]:
    choices = as_object(context.run.choices.get("children"))
    for child in context.spec.children:
        run = context.run.model_copy(
            update={
                "parameters": child_parameters(context.run.parameters, child),
                "choices": as_object(choices.get(child.name)),
            }
        )
        name = f"{context.child}/{child.name}" if context.child else child.name
        context_ = dataclasses.replace(
            context, spec=as_experiment(context.spec, child), run=run, child=name
        )
        yield Part(child, _workload(child), context_)


def _workload(child: ChildSpec) -> Workload:
    workload: Workload = load("workloads", child.workload)()
    return workload


def _of_policy(summary: JsonObject) -> dict[str, float]:
    """The metrics of a trained policy: its mean return, and its measures."""
    agent = as_object(as_object(summary.get("policies")).get("agent"))
    mean_return = as_number(agent.get("mean_return"))
    score = {} if mean_return is None else {"return": mean_return}
    return {**score, **as_numbers(agent.get("metrics"))}


def _texts(values: Json) -> dict[str, str]:
    return {name: text for name, text in as_object(values).items() if isinstance(text, str)}


def _clash(name: str, first: str, other: str) -> RunFailed:
    return RunFailed(
        f"the children {first!r} and {other!r} both have the metric {name!r}",
        hint=f"write `prefix: true` at one of them, and it becomes {other}/{name}",
    )


def _only_one_policy(spec: ExperimentSpec) -> None:
    training = list(_training(spec.children, ""))
    if len(training) > 1:
        raise ConfigError(
            f"the children {training[0]!r} and {training[1]!r} both train a policy",
            field="children",
            allowed="any number of script, service, mock and composite children, and one other",
            hint="make two experiments, or run the second one as a script",
        )


def _training(children: list[ChildSpec], above: str) -> Iterator[str]:
    for child in children:
        if child.workload not in PARTLY:
            yield above + child.name
        yield from _training(child.children, f"{above}{child.name}/")


def _known_metrics(spec: ExperimentSpec) -> None:
    """A clash that is visible in the file."""
    seen: dict[str, str] = {}
    for number, child in enumerate(spec.children):
        if child.workload != "mock":
            continue
        for name in child.mock.metrics if child.mock else ["score"]:
            full = f"{child.put_before}{name}"
            if full in seen:
                error = _clash(full, seen[full], child.name)
                raise ConfigError(
                    error.message, field=f"children[{number}].prefix", hint=error.hint
                )
            seen[full] = child.name
