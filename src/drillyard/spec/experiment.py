"""The experiment file as models. Descriptions feed ``drillyard schema`` and the docs.

Unknown keys are refused; ``spec.load`` turns each refusal into file, line and nearest name.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, field_serializer, field_validator, model_validator

from drillyard.errors import BadValue
from drillyard.run_names import fields_of
from drillyard.spec.agent import AgentSpec
from drillyard.spec.curriculum import CurriculumSpec
from drillyard.spec.strict import NotBool, PositiveInt, Seed, Strict
from drillyard.spec.study import MoreSeedsSpec, StudySpec
from drillyard.spec.work import MockSpec, ScriptSpec
from drillyard.tunables import Group

SCHEMA_VERSION = 1
MAX_STEPS = 10_000_000_000
NAME_RULE = (
    "1 to 63 characters of A-Z a-z 0-9 . _ -, the first a letter or digit, and no device name "
    "such as CON"
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
_CHILD_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}\Z")
_RESERVED = {"con", "prn", "aux", "nul", *(f"com{i}" for i in range(10)),
             *(f"lpt{i}" for i in range(10))}  # fmt: skip


def _is_none(value: Any) -> bool:
    """Left out of records where it is not used: older experiments have no such field."""
    return value is None


class Wrapper(Strict):
    """A wrapper around the simulator, applied in the order of the list."""

    name: str = Field(description="Of the table in docs/simulators.md, or `module:Class`.")
    args: dict[str, Any] = Field(default_factory=dict, description="Its arguments.")


class SimulatorSpec(Strict):
    """The world the agent acts in."""

    id: str = Field(
        description="A built-in (`cstr`, `simple-adder`), a Gymnasium id, or `module:Class`."
    )
    args: dict[str, Any] = Field(default_factory=dict, description="Constructor arguments.")
    wrappers: list[Wrapper] = Field(default_factory=list, description="Applied in this order.")
    lesson: dict[str, Any] = Field(
        default_factory=dict,
        description="Per reset key, what to draw at each episode: `{min, max}` (with `log`, "
        "`int`), `{values}` (with `weights`), `{normal: {mean, std}}` or a constant.",
    )

    curriculum: CurriculumSpec | None = Field(
        None, exclude_if=_is_none, description="Stages of growing difficulty, each with a lesson "
        "laid over this one."
    )  # fmt: skip
    metrics: dict[str, Literal["mean", "sum", "min", "max", "last"]] = Field(
        default_factory=dict, exclude_if=lambda value: not value, description="Keys of the "
        "simulator's `info` that become metrics of training and evaluation: key -> how an "
        "episode's values become one.",
    )  # fmt: skip
    agent: AgentSpec | None = Field(
        None, exclude_if=_is_none, description="For a simulator that is no Gymnasium environment: "
        "what the agent sees, does and is paid for; a table, or `module:Class`.",
    )  # fmt: skip

    def lesson_of_stage(self, stage: int) -> dict[str, Any]:
        """The lesson of a stage of the curriculum; -1 for the last, which is what is aimed at."""
        over = self.curriculum.stages[stage].lesson if self.curriculum is not None else {}
        return {**self.lesson, **over}

    @field_validator("agent", mode="before")
    @classmethod
    def _class_alone(cls, value: Any) -> Any:
        return {"id": value} if isinstance(value, str) else value

    @field_validator("wrappers", mode="before")
    @classmethod
    def _names_alone(cls, value: Any) -> Any:
        if isinstance(value, list):
            return [{"name": w} if isinstance(w, str) else w for w in value]
        return value


class CallbackSpec(Strict):
    """A class of the user that is called while training."""

    id: str = Field(description="`module:Class`.")
    args: dict[str, Any] = Field(default_factory=dict, description="Constructor arguments.")


class LearnerSpec(Strict):
    """What learns."""

    algorithm: str = Field(description="`ppo`, `a2c`, `dqn`, `ddpg`, `td3`, `sac`, or a plug-in.")
    preset: str | None = Field(
        "auto", description="`auto` takes a tuned preset when one fits; null takes none."
    )
    policy: str | None = Field(
        None, description="`MlpPolicy`, `CnnPolicy`, `MultiInputPolicy`; null lets the "
        "observation decide."
    )  # fmt: skip
    args: dict[str, Any] = Field(
        default_factory=dict, description="Arguments by Stable-Baselines3's own names."
    )
    callbacks: list[CallbackSpec] = Field(
        default_factory=list,
        description="`module:Class` each, or `{id: module:Class, args: {…}}`.",
    )

    @field_validator("callbacks", mode="before")
    @classmethod
    def _ids_alone(cls, value: Any) -> Any:
        if isinstance(value, list):
            return [{"id": c} if isinstance(c, str) else c for c in value]
        return value

    @field_serializer("callbacks")
    def _short(self, value: list[CallbackSpec]) -> list[Any]:
        """As a person writes it; also what older experiments recorded."""
        return [{"id": c.id, "args": c.args} if c.args else c.id for c in value]

    @field_validator("algorithm")
    @classmethod
    def _any_case(cls, value: str) -> str:
        return value if ":" in value else value.lower()


class TrainSpec(Strict):
    """How long, how wide, how often saved."""

    steps: Annotated[int, Field(ge=1, le=MAX_STEPS), NotBool] | None = Field(
        None, description="Budget in environment steps, summed over copies."
    )
    episodes: PositiveInt | None = Field(None, description="Budget in episodes instead of steps.")
    max_time_s: Annotated[float, Field(gt=0), NotBool] | None = Field(
        None, description="Stop training after this many seconds (not reproducible)."
    )
    n_envs: Annotated[int, Field(ge=1, le=4096), NotBool] = Field(
        1, description="Copies of the simulator that are stepped together."
    )
    copies: Literal["auto", "vectorised", "one-by-one"] = Field(
        "auto", exclude_if=lambda value: value == "auto", description="How they are stepped: all "
        "at once over arrays, where the simulator can, or one after the other; `auto`: at once "
        "from 16 copies on.",
    )  # fmt: skip
    checkpoint_every: PositiveInt | None = Field(
        None, description="Steps between checkpoints; default a tenth of the budget."
    )
    keep_checkpoints: PositiveInt | None = Field(
        3, description="How many of the newest checkpoints of a run are kept; null: all."
    )
    log_interval: PositiveInt | None = Field(
        None, description="Steps between two points of the training curve; default: 100 points."
    )

    @model_validator(mode="after")
    def _one_budget(self) -> TrainSpec:
        if (self.steps is None) == (self.episodes is None):
            raise BadValue("give exactly one of `steps` and `episodes`",
                           allowed="steps: …, or episodes: …",
                           hint="write `steps: 100_000`, or delete one of the two")  # fmt: skip
        return self


class EverySpec(Strict):
    """Evaluation while training."""

    steps: PositiveInt | None = Field(None, description="Every so many environment steps.")
    after_episodes: PositiveInt | None = Field(
        None, description="Every so many training episodes instead."
    )
    episodes: PositiveInt = Field(5, description="Episodes of each such evaluation.")

    @model_validator(mode="after")
    def _one_interval(self) -> EverySpec:
        if (self.steps is None) == (self.after_episodes is None):
            raise BadValue("give exactly one of `steps` and `after_episodes`",
                           allowed="steps: …, or after_episodes: …",
                           hint="write `steps: 20_000`, or delete one of the two")  # fmt: skip
        return self


class EvaluateSpec(Strict):
    """The evaluation phase, and evaluations during training."""

    episodes: PositiveInt = Field(50, description="Episodes of the final evaluation.")
    seeds: Literal["fixed"] | list[Seed] = Field(
        "fixed", description="`fixed`: the same seeds for every agent and baseline; or a list."
    )
    deterministic: bool = Field(True, description="Act without exploration noise.")
    policy: Literal["best", "final"] = Field(
        "best", description="Which policy: best during training (where evaluated), or last."
    )
    every: EverySpec | None = Field(None, description="Evaluate while training; null: off.")
    lesson: dict[str, Any] | None = Field(
        None, description="Reset values for evaluation; default: those of training. A list of "
        "`values` is gone through in order, so that each comes equally often."
    )  # fmt: skip


class ResourcesSpec(Strict):
    """What runs are given."""

    workers: Annotated[int, Field(ge=1, le=10_000), NotBool] | None = Field(
        None, description="Runs side by side; default: 2, and where machines are rented one a "
        "run that is known beforehand.",
    )  # fmt: skip
    threads: Annotated[int, Field(ge=1, le=1024), NotBool] = Field(
        1, description="Threads of a run."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where tensors live.")
    gpus: Annotated[int, Field(ge=0, le=64), NotBool] = Field(
        0, description="GPUs a run needs; refused in setup when they are not usable."
    )


class BudgetSpec(Strict):
    """When it must be over, whatever happens."""

    max_hours: Annotated[float, Field(gt=0, le=24 * 120), NotBool] | None = Field(
        None, description="Life of the lease; mandatory on clouds."
    )
    max_cost: Annotated[float, Field(gt=0), NotBool] | None = Field(
        None, description="Most that machines may cost, in the price list's currency."
    )
    stall_s: Annotated[float, Field(gt=0), NotBool] | None = Field(
        600.0, description="Longest time without an environment step, in seconds: a training or "
        "evaluation that hangs ends as TIMED_OUT; null: it may take for ever.",
    )  # fmt: skip
    check_s: Annotated[float, Field(gt=0), NotBool] | None = Field(
        20.0, description="The same for one reset or step while the simulator is checked before "
        "a run.",
    )  # fmt: skip


class StoreTarget(Strict):
    """One place that results are copied to."""

    url: str = Field(description="A folder, `mlflow`, `gs://bucket/prefix`, …")
    include: list[str] = Field(default_factory=lambda: ["*"], description="Globs of file names.")
    exclude: list[str] = Field(default_factory=list, description="Globs of file names.")


class TrackingSpec(Strict):
    """Where curves are mirrored to."""

    mlflow: str | None = Field(
        "auto", description="`auto`: MLFLOW_TRACKING_URI or the store's own `mlflow.db`; a URI; "
        "null: off."
    )  # fmt: skip
    tensorboard: bool = Field(True, description="Write TensorBoard event files too.")


class PerRun(Strict):
    """A value that each run gives anew, because it names the seed, the trial or a tunable."""

    at: list[int | str] = Field(description="Path of the value in the experiment.")
    text: str = Field(description="What it reads, with `${name}` for what the run knows.")


class ParametersSpec(Strict):
    """Named values of the experiment; see docs/parameters.md."""

    const_args: dict[str, Any] = Field(
        default_factory=dict, description="Name: value; changed by globals or `--name value`."
    )
    required_args: list[str] = Field(
        default_factory=list, description="Names that must be given from outside."
    )
    tunables: dict[str, Group] = Field(
        default_factory=dict,
        description="Groups of values that trials vary: `{group: {cost, params: {name: {type, "
        "range or values, default}}}}`.",
    )
    include_tunables: list[str] = Field(
        default_factory=list, description="Files with more groups, beside this one."
    )
    tunable_params: list[str] = Field(
        default_factory=list,
        description="Active groups, or `$name` looked up in the globals' `tunable_params_map`.",
    )
    tunable_values: dict[str, Any] = Field(
        default_factory=dict,
        description="Values of active tunables instead of their defaults; `--tunable name=value`.",
    )
    per_run: list[PerRun] | None = Field(
        None, description="Written by drillyard: what each run fills in. Not for people."
    )


class ReportSpec(Strict):
    """What the report shows."""

    units: dict[str, str] = Field(default_factory=dict, description="Unit of a logged state.")


class Parts(Strict):
    """The part of each workload; an experiment has that of its own, a child that of its own."""

    schema_: Literal[1] = Field(1, alias="schema", description="Version of this format.")
    name: str = Field(
        description="Names the folder of results. Same name: same experiment. Of a child: names "
        "its part of the results; small letters, digits, `-` and `_`."
    )
    workload: str = Field("rl", description="`rl`, `script`, `mock`, `composite`, or a plug-in's.")
    simulator: SimulatorSpec | None = Field(None, description="The world the agent acts in.")
    learner: LearnerSpec | None = Field(None, description="What learns.")
    train: TrainSpec | None = Field(None, description="How long and how wide it learns.")
    evaluate: EvaluateSpec = Field(
        default_factory=lambda: EvaluateSpec(), description="How the result is measured."
    )
    baselines: list[str] = Field(default_factory=list, description="Policies nobody trained.")
    script: ScriptSpec | None = Field(None, description="Commands that do the work.")
    mock: MockSpec | None = Field(None, description="A synthetic score.")
    children: list[ChildSpec] = Field(
        default_factory=list, description="Parts of a `composite`, done in this order; each a "
        "mapping, or a file beside this one."
    )  # fmt: skip
    parameters: ParametersSpec = Field(
        default_factory=lambda: ParametersSpec(),
        description="Named values, used as `$name` anywhere in the file.",
    )

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True,
        serialize_by_alias=True,
    )  # fmt: skip

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
            for part in ("simulator", "learner", "train", "script", "mock", "children"):
                if (
                    part not in needed
                    and part not in OPTIONAL.get(self.workload, ())
                    and getattr(self, part)
                ):
                    raise BadValue(
                        f"a `{self.workload}` experiment has no `{part}:`", key=part,
                        allowed=", ".join(f"`{n}:`" for n in needed) or "none of the parts",
                        hint=f"delete `{part}:`, or write the `workload:` that has it",
                    )  # fmt: skip
        names = [child.name for child in self.children]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise BadValue(f"two children are called {twice[0]!r}", key="children",
                           allowed="a name of its own for each child",
                           hint=f"call the second one {twice[0]}-2")  # fmt: skip
        return self


EXAMPLES = {
    "simulator": "{id: cstr}", "learner": "{algorithm: ppo}", "train": "{steps: 100_000}",
    "script": "{run: [python train.py]}", "children": "[first.yaml, second.yaml]",
}  # fmt: skip
NEEDED = {
    "rl": ("simulator", "learner", "train"), "script": ("script",), "mock": (),
    "composite": ("children",),
}  # fmt: skip
OPTIONAL = {"mock": ("mock",)}


class ChildSpec(Parts):
    """A part of a composite: what it does, and which parameters it wants from its parent."""

    prefix: bool | str = Field(
        False, description="Put before its metrics: `true` takes `<name>/`; a text is taken as "
        "it is."
    )  # fmt: skip

    @field_validator("name")
    @classmethod
    def _legal_name(cls, value: str) -> str:
        if not _CHILD_NAME.match(value) or value in _RESERVED:
            raise BadValue("is no legal name of a child",
                           allowed="small letters, digits, - and _, the first a letter or digit",
                           hint="for example prepare, train or train-2")  # fmt: skip
        return value

    @property
    def put_before(self) -> str:
        """What stands before the names of its metrics."""
        if isinstance(self.prefix, str):
            return self.prefix
        return f"{self.name}/" if self.prefix else ""


class ExperimentSpec(Parts):
    """One experiment: the resolved file."""

    seeds: list[Seed] = Field(
        default_factory=lambda: [1], min_length=1, max_length=10_000,
        description="One run each, otherwise the same.",
    )  # fmt: skip
    run_name: str | None = Field(
        None, description="What Prefect and MLflow call a run: `{algorithm}-{simulator}-{budget}-"
        "s{seed}-{date}`; also {name}, {workload}, {trial}, {run}, {backend}, {time}. Null: its "
        "id, `t0001-s42`.",
    )  # fmt: skip
    backend: str = Field("local", description="`local`, `kind`, or `kind/block-name`.")
    backends: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Settings per backend kind."
    )
    resources: ResourcesSpec = Field(
        default_factory=lambda: ResourcesSpec(), description="What runs are given."
    )
    budget: BudgetSpec = Field(
        default_factory=lambda: BudgetSpec(), description="When it must be over."
    )
    store: list[StoreTarget] = Field(
        default_factory=list,
        description="Further places that the store phase copies results to. The mailbox itself "
        "is chosen by `--store` or DRILLYARD_STORE.",
    )
    tracking: TrackingSpec = Field(
        default_factory=lambda: TrackingSpec(), description="Where curves are mirrored to."
    )
    report: ReportSpec = Field(
        default_factory=lambda: ReportSpec(), description="What the report shows."
    )
    requirements: list[str] = Field(
        default_factory=list, description="Pinned packages that setup installs on every worker."
    )
    notify: str | None = Field(
        None, description="Webhook that is told (POST, JSON) when the experiment has ended, by a "
        "worker where nobody drives: `https://…`, or a reference `${env:NAME}`, which is kept.",
    )  # fmt: skip
    on_driver_loss: Literal["finish", "stop"] = Field(
        "finish", description="What workers do when nobody drives any more."
    )
    study: StudySpec | None = Field(
        None, description="Several trials, and how they are chosen; null: one trial."
    )

    @model_validator(mode="before")
    @classmethod
    def _seeds_by_rule(cls, value: Any) -> Any:
        """``seeds: auto`` is so many to begin with, and a rule for more."""
        if not isinstance(value, dict) or value.get("seeds") != "auto":
            return value
        study = value.get("study")
        if not isinstance(study, dict):
            raise BadValue(
                "`seeds: auto` adds seeds until two trials are told apart, and there is one trial",
                key="seeds", allowed="a list of seeds, or a `study:` beside it",
                hint="write `seeds: [1, 2, 3]`",
            )  # fmt: skip
        auto = MoreSeedsSpec.model_validate(study.get("auto") or {})
        return {
            **value, "seeds": list(range(1, auto.start + 1)),
            "study": {**study, "auto": auto.model_dump()},
        }  # fmt: skip

    @field_validator("name")
    @classmethod
    def _legal_name(cls, value: str) -> str:
        if not _NAME.match(value) or value.lower().split(".")[0] in _RESERVED:
            raise ValueError("is no legal name")
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
        own = {"run", "seed"}
        if names is not None and len(self.seeds) > 1 and not own & set(fields_of(names)):
            raise BadValue(
                "`run_name` calls several runs the same: add {seed}", key="run_name",
                allowed="a text with {seed} or {run} in it", hint=f"write {names}-s{{seed}}",
            )  # fmt: skip
        return self

    @field_validator("seeds")
    @classmethod
    def _no_seed_twice(cls, value: list[int]) -> list[int]:
        twice = sorted({s for s in value if value.count(s) > 1}) if len(value) < 2000 else (
            [] if len(set(value)) == len(value) else ["…"]
        )  # fmt: skip
        if twice:
            raise BadValue(f"seed {twice[0]} stands there twice", value=str(value)[:120],
                           allowed="each seed once",
                           hint=f"write {str(list(dict.fromkeys(value)))[:80]}")  # fmt: skip
        return value


Parts.model_rebuild()
ChildSpec.model_rebuild()
ExperimentSpec.model_rebuild()
