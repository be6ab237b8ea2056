"""The experiment file as models. Descriptions feed ``drillyard schema`` and the docs.

Unknown keys are refused; ``spec.load`` turns each refusal into file, line and nearest name.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from drillyard.documents.json_types import Json
from drillyard.errors import BadValue
from drillyard.spec.backend_list import backends_in_turn
from drillyard.spec.learning import EvaluateSpec, LearnerSpec, SimulatorSpec, TrainSpec
from drillyard.spec.run_names import fields_of
from drillyard.spec.running import (
    BudgetSpec,
    ParametersSpec,
    ReportSpec,
    ResourcesSpec,
    StoreTarget,
    TrackingSpec,
)
from drillyard.spec.service import ServiceSpec
from drillyard.spec.stages import InputSpec, MetricOutput, StageSpec
from drillyard.spec.strict import PositiveInt, Seed, Strict, later
from drillyard.spec.study import MoreSeedsSpec, StudySpec
from drillyard.spec.work import MockSpec, ScriptSpec

SCHEMA_VERSION = 1
NAME_RULE = (
    "1 to 63 characters of A-Z a-z 0-9 . _ -, the first a letter or digit, and no device name "
    "such as CON"
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
_CHILD_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}\Z")
_RESERVED = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"com{i}" for i in range(10)),
    *(f"lpt{i}" for i in range(10)),
}


def is_name(text: str) -> bool:
    """True for a text that can be the name of an experiment: ``NAME_RULE``."""
    return bool(_NAME.match(text)) and text.lower().split(".")[0] not in _RESERVED


class Parts(Strict):
    """The sections that an experiment and a child share."""

    schema_: Literal[1] = Field(1, alias="schema", description="Version of this format.")
    name: str = Field(
        description="Name of the folder of results. The same name is the same experiment. For a "
        "child: name of its part of the results; lower-case letters, digits, `-` and `_`."
    )
    workload: str = Field(
        "rl", description="`rl`, `script`, `service`, `mock`, `composite`, or a plug-in's."
    )
    simulator: SimulatorSpec | None = Field(
        None, description="The simulator that the agent acts in."
    )
    learner: LearnerSpec | None = Field(None, description="The learner.")
    train: TrainSpec | None = Field(
        None, description="Budget, copies and checkpoints of the training."
    )
    evaluate: EvaluateSpec = Field(
        default_factory=lambda: EvaluateSpec(), description="Evaluation of the result."
    )
    baselines: list[str] = Field(
        default_factory=list, description="Untrained policies to compare with."
    )
    script: ScriptSpec | None = Field(None, description="Commands that do the work.")
    mock: MockSpec | None = Field(None, description="A synthetic score.")
    service: ServiceSpec | None = later(
        description="A program that other children of a composite use while it runs."
    )
    children: list[ChildSpec] = Field(
        default_factory=list,
        description="Parts of a `composite`, done in this order; each a "
        "mapping, or a file beside this one.",
    )
    parameters: ParametersSpec = Field(
        default_factory=lambda: ParametersSpec(),
        description="Named values, used as `$name` anywhere in the file.",
    )

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        populate_by_name=True,
        serialize_by_alias=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _backends_in_turn(cls, value: Json) -> Json:
        return backends_in_turn(value)

    @model_validator(mode="after")
    def _workload_parts(self) -> Self:
        needed = NEEDED.get(self.workload, ())
        for part in needed:
            if not getattr(self, part):
                article = "an" if self.workload == "rl" else "a"
                raise BadValue(
                    f"{article} `{self.workload}` experiment needs `{part}:`",
                    allowed=f"{', '.join(f'`{n}:`' for n in needed)} in a `{self.workload}`",
                    hint=f"add `{part}: {EXAMPLES[part]}`, or write another `workload:`",
                    key=part,
                )
        if self.workload in NEEDED:
            for part in SECTIONS:
                if (
                    part not in needed
                    and part not in OPTIONAL.get(self.workload, ())
                    and getattr(self, part)
                ):
                    raise BadValue(
                        f"a `{self.workload}` experiment has no `{part}:`",
                        key=part,
                        allowed=", ".join(f"`{n}:`" for n in needed) or "none of the parts",
                        hint=f"delete `{part}:`, or write the `workload:` that has it",
                    )
        names = Counter(child.name for child in self.children)
        for name in sorted(name for name in names if names[name] > 1):
            raise BadValue(
                f"two children are called {name!r}",
                key="children",
                allowed="a different name for each child",
                hint=f"call the second one {name}-2",
            )
        return self


EXAMPLES = {
    "simulator": "{id: cstr}",
    "learner": "{algorithm: ppo}",
    "train": "{steps: 100_000}",
    "script": "{run: [python train.py]}",
    "service": "{start: python serve.py}",
    "children": "[first.yaml, second.yaml]",
}
SECTIONS = ("simulator", "learner", "train", "script", "service", "mock", "children")
NEEDED = {
    "rl": ("simulator", "learner", "train"),
    "script": ("script",),
    "service": ("service",),
    "mock": (),
    "composite": ("children",),
}
OPTIONAL = {"mock": ("mock",)}


class ChildSpec(Parts):
    """A part of a composite, with the parameters that it needs from its parent."""

    prefix: bool | str = Field(
        False,
        description="Prefix of its metrics: `true` means `<name>/`; a text is used unchanged.",
    )
    backend: str | None = later(
        description="Backend of its own machines. A composite with a child that has `backend`, "
        "`resources`, `workers`, `seeds`, `after`, `inputs` or `outputs` is done in stages: each "
        "child is an experiment of its own, `<composite>.<child>`. A list names several places: "
        "the cheapest that has room is used."
    )
    elsewhere: list[str] = later(
        list, description="The other backends of a list. Write `backend: [a, b]` instead."
    )
    resources: ResourcesSpec | None = later(
        description="Resources of its runs, instead of the composite's."
    )
    workers: PositiveInt | None = later(
        description="Number of its parallel runs: short for `resources.workers`."
    )
    seeds: list[Seed] | None = later(description="One run each, instead of the composite's.")
    after: list[str] | None = later(
        description="Children that must have succeeded, or serve, before it begins."
    )
    inputs: dict[str, str | InputSpec] | None = later(
        description="Parameter: output of another child, as `<child>.<output>`."
    )
    outputs: dict[str, str | MetricOutput] | None = later(
        description="Name: a file or folder that it writes, or `{metric: name}`."
    )

    @model_validator(mode="after")
    def _a_first_backend(self) -> Self:
        if self.elsewhere and self.backend is None:
            raise BadValue(
                "names other backends, and there is no `backend`",
                key="elsewhere",
                allowed="with `backend`",
                hint=f"write `backend: [{', '.join(self.elsewhere)}]` instead",
            )
        return self

    @property
    def places(self) -> tuple[str, ...]:
        """Every backend of its own, in the order of the file; empty: those of the composite."""
        return () if self.backend is None else (self.backend, *self.elsewhere)

    @field_validator("name")
    @classmethod
    def _legal_name(cls, value: str) -> str:
        if not _CHILD_NAME.match(value) or value in _RESERVED:
            raise BadValue(
                "is not a valid name of a child",
                allowed="lower-case letters, digits, - and _, the first a letter or digit",
                hint="for example prepare, train or train-2",
            )
        return value

    @property
    def put_before(self) -> str:
        """The prefix of its metrics."""
        if isinstance(self.prefix, str):
            return self.prefix
        return f"{self.name}/" if self.prefix else ""


class ExperimentSpec(Parts):
    """One experiment: the resolved file."""

    seeds: list[Seed] = Field(
        default_factory=lambda: [1],
        min_length=1,
        max_length=10_000,
        description="One run each, otherwise the same.",
    )
    run_name: str | None = Field(
        None,
        description="Name of a run in Prefect and MLflow: `{algorithm}-{simulator}-{budget}-"
        "s{seed}-{date}`; also {name}, {workload}, {trial}, {run}, {backend}, {time}. Null: its "
        "id, `t0001-s42`.",
    )
    backend: str = Field(
        "local",
        description="`local`, `kind`, or `kind/block-name`. A list, `[ssh/den, gcp/prod]`, names "
        "several places: the cheapest that has room is used.",
    )
    elsewhere: list[str] = later(
        list, description="The other backends of a list. Write `backend: [a, b]` instead."
    )
    backends: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Settings per backend kind."
    )
    resources: ResourcesSpec = Field(
        default_factory=lambda: ResourcesSpec(), description="Resources of runs."
    )
    budget: BudgetSpec = Field(
        default_factory=lambda: BudgetSpec(), description="Limits of time and cost."
    )
    store: list[StoreTarget] = Field(
        default_factory=list,
        description="Further targets that the store phase copies results to. Choose the mailbox "
        "itself with `--store` or DRILLYARD_STORE.",
    )
    tracking: TrackingSpec = Field(
        default_factory=lambda: TrackingSpec(), description="Tracking servers that show curves."
    )
    report: ReportSpec = Field(
        default_factory=lambda: ReportSpec(), description="Content of the report."
    )
    requirements: list[str] = Field(
        default_factory=list, description="Pinned packages that setup installs on every worker."
    )
    files: list[str] = later(
        list,
        description="Files and folders below the folder of this file that travel to the workers "
        "whatever their ending: `[mesh.bin, tables/*.dat]`.",
    )
    notify: str | None = Field(
        None,
        description="Webhook that receives a POST (JSON) when the experiment has ended, from a "
        "worker if no driver runs: `https://…`, or a reference `${env:NAME}`, which is kept.",
    )
    on_driver_loss: Literal["finish", "stop"] = Field(
        "finish", description="What workers do when no driver runs."
    )
    study: StudySpec | None = Field(
        None, description="Several trials, and how they are chosen; null: one trial."
    )
    stage_of: StageSpec | None = later(
        description="Written by drillyard: of which composite this is a stage. Not for people."
    )

    @model_validator(mode="before")
    @classmethod
    def _seeds_by_rule(cls, value: Json) -> Json:
        """Turns ``seeds: auto`` into the first seeds and a rule for more."""
        if not isinstance(value, dict) or value.get("seeds") != "auto":
            return value
        study = value.get("study")
        if not isinstance(study, dict):
            raise BadValue(
                "`seeds: auto` compares two trials by adding seeds, but there is one trial",
                key="seeds",
                allowed="a list of seeds, or a `study:` beside it",
                hint="write `seeds: [1, 2, 3]`",
            )
        auto = MoreSeedsSpec.model_validate(study.get("auto") or {})
        return {
            **value,
            "seeds": list(range(1, auto.start + 1)),
            "study": {**study, "auto": auto.model_dump()},
        }

    @field_validator("name")
    @classmethod
    def _legal_name(cls, value: str) -> str:
        if not is_name(value):
            raise ValueError("is not a valid name")
        return value

    @field_validator("run_name")
    @classmethod
    def _known_fields(cls, value: str | None) -> str | None:
        if value is not None:
            fields_of(value)
            if not value.strip():
                raise BadValue("is empty", hint="write {run}, or delete it")
        return value

    @model_validator(mode="after")
    def _runs_have_names_of_their_own(self) -> Self:
        names = self.run_name
        distinct = {"run", "seed"}
        if names is not None and len(self.seeds) > 1 and not distinct & set(fields_of(names)):
            raise BadValue(
                "`run_name` gives several runs the same name: add {seed}",
                key="run_name",
                allowed="a text with {seed} or {run} in it",
                hint=f"write {names}-s{{seed}}",
            )
        return self

    @property
    def places(self) -> tuple[str, ...]:
        """Every backend, in the order of the file."""
        return (self.backend, *self.elsewhere)

    @property
    def where(self) -> str:
        """Every backend, for people."""
        return ", ".join(self.places)

    def on_place(self, backend: str, settings: Json = None) -> Self:
        """Returns the experiment on one of its backends alone.

        Args:
            backend: One of ``places``.
            settings: A mapping of further settings of that backend.
        """
        kind = backend.partition("/")[0]
        more = settings if isinstance(settings, dict) else {}
        of_kinds = {**self.backends, kind: {**self.backends.get(kind, {}), **more}}
        return self.model_copy(
            update={
                "backend": backend,
                "elsewhere": [],
                "backends": of_kinds if more else self.backends,
            }
        )

    @field_validator("seeds")
    @classmethod
    def _no_seed_twice(cls, value: list[int]) -> list[int]:
        twice = [seed for seed, number in Counter(value).items() if number > 1]
        if twice:
            raise BadValue(
                f"seed {min(twice)} is listed twice",
                value=str(value)[:120],
                allowed="each seed once",
                hint=f"write {str(list(dict.fromkeys(value)))[:80]}",
            )
        return value


Parts.model_rebuild()
ChildSpec.model_rebuild()
ExperimentSpec.model_rebuild()
