"""The sections simulator, learner, train and evaluate of an experiment file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import BadValue
from drillyard.spec.agent import AgentSpec
from drillyard.spec.curriculum import CurriculumSpec
from drillyard.spec.strict import (
    NotBool,
    PositiveInt,
    Seed,
    StepCount,
    Strict,
    exactly_one,
    later,
    read_steps,
)

MAX_STEPS = 10_000_000_000
Way = Literal["vectorised", "one-by-one", "processes", "compiled"]
"""How copies of a simulator are stepped: at once over arrays, in turn, side by side, in JAX."""
VECTORISED_FROM = 16
"""Copies. With fewer, a short training ends before the time that compiling takes is won back."""


Number = Annotated[float, Field(allow_inf_nan=False), NotBool]


def _alone(key: str) -> BeforeValidator:
    """Reads a text as a mapping with this key alone."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


class Wrapper(Strict):
    """A wrapper around the simulator, applied in the order of the list."""

    name: str = Field(
        description="Name from `drillyard list simulators`, a Gymnasium id, or `module:Class`."
    )
    args: dict[str, Any] = Field(default_factory=dict, description="Its arguments.")


class SimulatorSpec(Strict):
    """The simulator that the agent acts in."""

    id: str = Field(
        description="A built-in (`cstr`, `simple-adder`), a Gymnasium id, or `module:Class`."
    )
    args: dict[str, Any] = Field(default_factory=dict, description="Constructor arguments.")
    wrappers: list[Annotated[Wrapper, _alone("name")]] = Field(
        default_factory=list, description="Applied in this order."
    )
    lesson: dict[str, Any] = Field(
        default_factory=dict,
        description="Per reset key, what to draw at each episode: `{min, max}` (with `log`, "
        "`int`), `{values}` (with `weights`), `{normal: {mean, std}}` or a constant.",
    )

    curriculum: CurriculumSpec | None = later(
        description="Stages of growing difficulty; the lesson of each replaces keys of this one.",
    )
    metrics: dict[str, Literal["mean", "sum", "min", "max", "last"]] = later(
        dict,
        description="Keys of the "
        "simulator's `info` that become metrics of training and evaluation: key -> how an "
        "episode's values become one.",
    )
    agent: Annotated[AgentSpec, _alone("id")] | None = later(
        description="For a simulator that is not a Gymnasium environment: "
        "observations, actions and reward of the agent; a table, or `module:Class`.",
    )

    return_range: tuple[Number, Number] | None = later(
        description="Least and greatest possible return of an episode, for example `[0, 500]`. "
        "It cuts intervals and bands, and changes no result. drillyard knows that of "
        "some simulators of Gymnasium.",
    )

    copies_on: Literal["learner", "workers", "hosts"] = later(
        "learner",
        description="Where the `train.n_envs` copies run: beside the learner; on the other "
        "`workers` of the experiment, one of which is the learner; or on `hosts` that someone "
        "started with `drillyard simulator-host`. The results are the same.",
    )

    def lesson_of_stage(self, stage: int) -> JsonObject:
        """Returns the lesson of a stage of the curriculum; -1 for the last stage."""
        over = self.curriculum.stages[stage].lesson if self.curriculum is not None else {}
        return {**self.lesson, **over}

    @field_validator("return_range")
    @classmethod
    def _ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not value[0] < value[1]:
            raise BadValue("the first number must be less than the second", allowed="[0, 500]")
        return value


class CallbackSpec(Strict):
    """A user's class that is called during training."""

    id: str = Field(description="`module:Class`.")
    args: dict[str, Any] = Field(default_factory=dict, description="Constructor arguments.")


class CloneSpec(Strict):
    """Behaviour cloning: a policy imitates demonstrations before it learns by itself."""

    trajectories: str = Field(
        description="A file of `drillyard record` (.npz), or a table (.csv) "
        "with columns `observation_0` … and `action_0` …; beside this "
        "file."
    )
    epochs: PositiveInt = Field(20, description="Passes over the demonstrations.")
    batch_size: PositiveInt = Field(64, description="Steps for each update.")
    learning_rate: Annotated[float, Field(gt=0, le=1), NotBool] = Field(
        1e-3, description="Step size of the optimiser (Adam)."
    )


class LearnerSpec(Strict):
    """The learner."""

    algorithm: str = Field(
        description="Name from `drillyard list algorithms`: `ppo`, `sac`, … or a "
        "plug-in's `module:Class`."
    )
    engine: Literal["sb3", "sbx", "jax"] = later(
        "sb3",
        description="Library that computes it: "
        "Stable-Baselines3 and sb3-contrib (PyTorch); `jax` (extra `jax`), which compiles `ppo` "
        "and `a2c`; or SBX (JAX; extra `sbx`).",
    )
    preset: str | None = Field(
        "auto", description="`auto` uses a tuned preset if one fits; null uses none."
    )
    policy: str | None = Field(
        None,
        description="`MlpPolicy`, `CnnPolicy`, `MultiInputPolicy`; null: chosen "
        "by the observation.",
    )
    args: dict[str, Any] = Field(
        default_factory=dict,
        description="Arguments with Stable-Baselines3's names; in a study, `{tune: [low, high]}` "
        "or `{tune: {choices: [a, b]}}` instead of a value.",
    )
    tune: Literal["default"] | None = later(
        description="`default` tunes every argument of the algorithm's ready-made search space "
        "that `args` does not set; needs a `study:`.",
    )
    init_from: str | None = later(
        description="Begin with the weights and normalisation of an "
        "earlier policy: `run:NAME/t0001-s1`, a bundle's folder, `gs://bucket/NAME/t0001-s1`, or "
        "`models:/NAME@champion`.",
    )
    clone_from: CloneSpec | None = later(
        description="Imitate demonstrations before training: `{trajectories: expert.npz}`.",
    )
    callbacks: list[Annotated[CallbackSpec, _alone("id")]] = Field(
        default_factory=list,
        description="`module:Class` each, or `{id: module:Class, args: {…}}`.",
    )

    @field_validator("args")
    @classmethod
    def _steps_with_units(cls, value: JsonObject, info: ValidationInfo) -> JsonObject:
        from drillyard.spec.algorithms.argument_table import ARGUMENTS, TABLE

        known = ARGUMENTS.get(info.data.get("algorithm", ""), {})
        counts = {k: read_steps(v) for k, v in value.items() if k in known and TABLE[k].in_steps}
        return {**value, **counts}

    @field_serializer("callbacks")
    def _short(self, value: list[CallbackSpec]) -> list[Any]:
        """Writes the short form, which older experiments recorded."""
        return [{"id": c.id, "args": c.args} if c.args else c.id for c in value]

    @field_validator("algorithm")
    @classmethod
    def _any_case(cls, value: str) -> str:
        return value if ":" in value else value.lower()


class StopSpec(Strict):
    """When a training ends before its budget is used up."""

    patience: PositiveInt | None = Field(
        None, description="Epochs without improvement after which it ends."
    )
    epoch: PositiveInt = Field(10, description="Training episodes of an epoch.")
    by: Literal["mean", "last"] = Field(
        "mean",
        description="Score of an epoch: the mean return, or the return of its last episode.",
    )
    min_improvement: Annotated[float, Field(ge=0), NotBool] = Field(
        0.0, description="Smallest improvement over the best epoch that counts."
    )
    mean_return: Annotated[float, NotBool] | None = Field(
        None, description="Training ends with the first epoch whose score is at least this."
    )

    @model_validator(mode="after")
    def _some_reason(self) -> StopSpec:
        if self.patience is None and self.mean_return is None:
            raise BadValue(
                "has no condition to stop",
                allowed="patience: …, or mean_return: …",
                hint="write `patience: 10`, or delete `stop:`",
            )
        return self


class TrainSpec(Strict):
    """Budget, copies and checkpoints of the training."""

    steps: Annotated[int, Field(ge=1, le=MAX_STEPS), NotBool, StepCount] | None = Field(
        None, description="Budget in environment steps, summed over copies; `50k` is 50_000."
    )
    episodes: PositiveInt | None = Field(None, description="Budget in episodes instead of steps.")
    max_time_s: Annotated[float, Field(gt=0), NotBool] | None = Field(
        None, description="Stop training after this many seconds (not reproducible)."
    )
    n_envs: Annotated[int, Field(ge=1, le=4096), NotBool] = Field(
        1, description="Copies of the simulator that are stepped together."
    )
    copies: Literal["auto"] | Way = later(
        "auto",
        description="How they are stepped: all "
        "at once over arrays, where the simulator can, one after the other, in processes side "
        "by side, or compiled together with the learner (`engine: jax`); `auto`: at once from 16 "
        "copies on, else one after the other, or in processes where that is faster and gives the "
        "same numbers.",
    )
    checkpoint_every: Annotated[PositiveInt, StepCount] | None = Field(
        None, description="Steps between checkpoints; default a tenth of the budget."
    )
    keep_checkpoints: PositiveInt | None = Field(
        3, description="Number of newest checkpoints to keep for each run; null: all."
    )
    stop: StopSpec | None = later(description="Early stopping; null: the whole budget is used.")
    log_interval: Annotated[PositiveInt, StepCount] | None = Field(
        None, description="Steps between two points of the training curve; default: 100 points."
    )

    @model_validator(mode="after")
    def _one_budget(self) -> TrainSpec:
        exactly_one(self, "steps", "episodes", "100_000")
        return self


class EverySpec(Strict):
    """Evaluation while training."""

    steps: Annotated[PositiveInt, StepCount] | None = Field(
        None, description="Environment steps between two evaluations."
    )
    after_episodes: PositiveInt | None = Field(
        None, description="Training episodes between two evaluations instead."
    )
    episodes: PositiveInt = Field(5, description="Episodes of each such evaluation.")

    @model_validator(mode="after")
    def _one_interval(self) -> EverySpec:
        exactly_one(self, "steps", "after_episodes", "20_000")
        return self


class VideosSpec(Strict):
    """Videos of episodes."""

    every: PositiveInt | None = Field(
        None,
        description="Also record during training: one episode of the current policy after each "
        "of this many training episodes.",
    )


def _films(value: Json) -> Json:
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


def _films_as_written(value: VideosSpec | None) -> Any:
    """Writes the form that older experiments recorded."""
    return value.model_dump(exclude_none=True) or True if value is not None else False


class EvaluateSpec(Strict):
    """The evaluation phase, and evaluations during training."""

    episodes: PositiveInt = Field(50, description="Episodes of the final evaluation.")
    seeds: Literal["fixed"] | list[Seed] = Field(
        "fixed", description="`fixed`: the same seeds for every agent and baseline; or a list."
    )
    deterministic: bool = Field(True, description="Whether to act without exploration noise.")
    policy: Literal["best", "final"] = Field(
        "best",
        description="Policy to evaluate: best of the training (if evaluated), or the last.",
    )
    every: EverySpec | None = Field(None, description="Evaluations during training; null: none.")
    videos: Annotated[
        VideosSpec | None,
        BeforeValidator(_films, json_schema_input_type=bool | VideosSpec | None),
        PlainSerializer(_films_as_written),
    ] = later(
        description="`true`: keep the best, median and worst episode "
        "as mp4 and gif (as a plot where the simulator does not render), and one episode of each "
        "checkpoint one after the other; `{every: 50}`: also while training.",
    )
    keep_best: Annotated[int, Field(ge=0, le=1000), NotBool] = later(
        0,
        description="Number of the best policies of these evaluations to keep, named with step "
        "and return.",
    )
    conditions: list[dict[str, Any]] | None = later(
        description="Initial conditions that are played too, each "
        "once, every step kept: a list of reset values, or a CSV, JSON or YAML file beside "
        "this one.",
    )
    lesson: dict[str, Any] | None = Field(
        None,
        description="Reset values for evaluation; default: those of training. A list of "
        "`values` is used in order, so that each comes equally often.",
    )
