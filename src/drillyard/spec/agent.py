"""``simulator.agent``: observations, actions and reward for a plain-Python simulator.

It is a table for the common case, or ``module:Class`` if an expression is not enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from drillyard.documents.json_types import Json, JsonObject, as_list, as_object
from drillyard.errors import BadValue, ConfigError
from drillyard.spec.expressions import Expression, read_expression
from drillyard.spec.strict import PositiveInt, Strict

ENDS = ("terminated", "truncated")
"""Names that a reward can read besides states; 1 in the step that ends the episode that way."""


class Observed(Strict):
    """One state that the agent sees, scaled from [min, max] to [-1, 1]."""

    min: float = Field(description="Becomes -1; lower values are clipped and counted.")
    max: float = Field(description="Becomes 1; higher values are clipped and counted.")
    unit: str = Field("1", description="For tables and plots.")
    reference: str | None = Field(None, description="State that this one should follow.")

    @model_validator(mode="after")
    def _upwards(self) -> Self:
        _below(self.min, self.max)
        return self


class Act(Strict):
    """One value that the simulator's step receives."""

    min: float | None = Field(None, description="What -1 of the agent means.")
    max: float | None = Field(None, description="What 1 of the agent means.")
    values: list[Any] | None = Field(None, description="A choice instead of a range.")
    change: float | None = Field(
        None,
        gt=0,
        description="The agent changes the value by at most this much a step, within min and max.",
    )
    start: float | None = Field(
        None,
        description="With `change`: the value at an episode's begin; default: the state of "
        "the same name, else the middle.",
    )
    unit: str = Field("1", description="For tables and plots.")

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.values is not None:
            given = [n for n in ("min", "max", "change", "start") if getattr(self, n) is not None]
            if given or len(self.values) < 2:
                raise BadValue(
                    "`values` needs at least two values and no other key",
                    allowed="{values: [a, b]}, or {min, max}",
                    hint=f"delete {', '.join(given)}, or `values`"
                    if given
                    else "add another value, or write {min: 0, max: 1}",
                )
            return self
        if self.min is None or self.max is None:
            raise BadValue(
                "needs min and max, or values",
                hint="write {min: 0, max: 1}",
                allowed="{min, max} (with change, start), or {values: [a, b]}",
            )
        _below(self.min, self.max)
        if self.start is not None and not (
            self.change is not None and self.min <= self.start <= self.max
        ):
            raise BadValue(
                "`start` needs `change`, and must be within min and max",
                value=self.start,
                key="start",
                allowed="{min, max, change, start}",
                hint="remove `start`, or add `change`",
            )
        return self


class AgentSpec(Strict):
    """Makes a simulator without reinforcement learning usable for an agent."""

    id: str | None = Field(
        None,
        description="`module:Class` with `observes`, `acts` and `reward(states, terminated, "
        "truncated)` instead of the rest.",
    )
    observes: dict[str, Observed] = Field(
        default_factory=dict, description="State -> range and unit, in the observation's order."
    )
    acts: dict[str, Act] = Field(
        default_factory=dict, description="Name -> range or values, in the action's order."
    )
    reward: dict[str, str] = Field(
        default_factory=dict,
        description="An expression of states, `terminated` and `truncated`; or several by name, "
        "which are added up and logged one by one.",
    )
    logs: list[str] = Field(
        default_factory=list, description="States to log besides the observed ones."
    )
    resets: list[str] | None = Field(
        None, description="Keys of the simulator's `reset(config)`, which checks lessons."
    )
    max_episode_steps: PositiveInt | None = Field(
        None, description="Number of steps after which episodes are truncated."
    )

    @field_validator("reward", mode="before")
    @classmethod
    def _one_alone(cls, value: Json) -> Json:
        return {"reward": str(value)} if isinstance(value, str | int | float) else value

    @field_validator("reward")
    @classmethod
    def _readable(cls, value: dict[str, str]) -> dict[str, str]:
        BadValue.all_of(_unreadable(value))
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.id is not None:
            # A stored experiment names every field, so that only values count.
            if ":" not in self.id or self.model_dump(exclude={"id"}, exclude_defaults=True):
                raise BadValue(
                    "a class replaces the table",
                    value=self.id,
                    key="id",
                    allowed="agent: module:Class, or a table without id",
                    hint="move the table into the class, or delete `id`",
                )
            return self
        BadValue.all_of(_of_the_table(self.model_dump()))
        return self

    def terms(self) -> dict[str, Expression]:
        """The reward's expressions by name."""
        return {name: _read(text) for name, text in self.reward.items()}

    def reads(self, readable: Iterable[str]) -> list[str]:
        """The states that the experiment reads.

        Args:
            readable: All that the simulator has: a class that computes the reward may read any.
        """
        rewards = {name for term in self.terms().values() for name in term.names}
        more = sorted(rewards - {*ENDS}) if rewards else readable
        return list(dict.fromkeys([*self.observes, *self.logs, *more]))


def problems_of_agent(tree: JsonObject) -> Iterator[ConfigError]:
    """What only the whole table shows, for a tree with other faults, so that all are told."""
    agent = as_object(tree.get("simulator")).get("agent")
    if not isinstance(agent, dict) or agent.get("id") is not None:
        return
    for problem in _of_the_table(agent):
        key = (problem.key,) if isinstance(problem.key, str) else problem.key or ()
        yield ConfigError(
            str(problem),
            field=".".join(("simulator", "agent", *map(str, key))),
            value=problem.value,
            allowed=problem.allowed,
            hint=problem.hint,
        )


def _unreadable(rewards: Mapping[str, str]) -> Iterator[BadValue]:
    for name, text in rewards.items():
        try:
            _read(text)
        except BadValue as error:
            error.key = name
            yield error


def _of_the_table(agent: Mapping[str, Json]) -> Iterator[BadValue]:
    """What is missing, or does not fit together; the parts may be malformed."""
    for name in ("observes", "acts", "reward"):
        if not agent.get(name):
            yield BadValue(
                f"needs `{name}:`",
                key=name,
                allowed="observes, acts and reward, or agent: module:Class",
                hint=f"write {_EXAMPLES[name]}",
            )
    observes, acts = as_object(agent.get("observes")), as_object(agent.get("acts"))
    chosen = [name for name, act in acts.items() if as_object(act).get("values") is not None]
    if chosen and len(chosen) < len(acts):
        yield BadValue(
            f"{', '.join(chosen)}: choices and ranges cannot be combined",
            key="acts",
            allowed="all with values, or all with min and max",
            hint="write the ranges as values",
        )
    known = [*observes, *map(str, as_list(agent.get("logs"))), *acts]
    for name, state in observes.items():
        reference = as_object(state).get("reference")
        if isinstance(reference, str) and reference not in known:
            yield BadValue(
                "is neither observed nor logged",
                value=reference,
                key=("observes", name, "reference"),
                known=known,
            )


_EXAMPLES = {
    "observes": "observes: {level: {min: 0, max: 2, unit: m}}",
    "acts": "acts: {valve: {min: 0, max: 1}}",
    "reward": 'reward: "-abs(level - 0.5)"',
}


def _read(reward: str) -> Expression:
    return read_expression(reward, "reward", "-abs(level - 0.5) - 10 * terminated")


def _below(low: float, high: float) -> None:
    if not low < high:
        raise BadValue(
            "min is not below max", value=[low, high], allowed="min below max", hint="swap the two"
        )
