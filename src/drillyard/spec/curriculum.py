"""``simulator.curriculum``: stages of growing difficulty, and when a run changes its stage."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from drillyard.errors import BadValue
from drillyard.spec.strict import NotBool, PositiveInt, StepCount, Strict


class RuleSpec(Strict):
    """Condition on the last episodes of a stage, for promotion or demotion."""

    mean_return: Annotated[float, NotBool] | None = Field(
        None, description="Mean return of the last `episodes`."
    )
    success_rate: Annotated[float, Field(ge=0, le=1), NotBool] | None = Field(
        None, description="Share of the last `episodes` whose `info` says `is_success`."
    )
    steps: Annotated[PositiveInt, StepCount] | None = Field(
        None, description="Environment steps in the stage, whatever the result."
    )
    episodes: PositiveInt = Field(20, description="Number of last episodes to use.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [
            n for n in ("mean_return", "success_rate", "steps") if getattr(self, n) is not None
        ]
        if len(given) != 1:
            raise BadValue(
                "give exactly one of `mean_return`, `success_rate` and `steps`",
                allowed="mean_return, success_rate or steps",
                hint="write {mean_return: 50}",
            )
        return self


class StageSpec(Strict):
    """One stage."""

    lesson: dict[str, Any] = Field(
        default_factory=dict, description="Replaces keys of `simulator.lesson` during the stage."
    )
    promote: RuleSpec | None = Field(
        None, description="Next stage at or above this; needed in every stage but the last."
    )
    demote: RuleSpec | None = Field(
        None, description="Previous stage at or below this; not in the first stage."
    )


class CurriculumSpec(Strict):
    """Stages in their order; the last one is the upper bound."""

    stages: list[StageSpec] = Field(description="At least two.")

    @model_validator(mode="after")
    def _a_way_up(self) -> Self:
        wrong = partial(BadValue, key="stages")
        if len(self.stages) < 2:
            raise wrong(
                "needs at least two stages",
                allowed="two and more",
                hint="for a single stage, use `simulator.lesson`",
            )
        for number, stage in enumerate(self.stages):
            last = number == len(self.stages) - 1
            allowed = "promote in every stage but the last"
            if last and stage.promote is not None:
                message = f"stage {number}: is the last one, so a run cannot be promoted"
                raise wrong(message, allowed=allowed, hint="delete `promote`")
            if not last and stage.promote is None:
                message = f"stage {number}: has no `promote`, so a run would never leave it"
                raise wrong(message, allowed=allowed, hint="write promote: {mean_return: 50}")
            self._check_demotion(number, stage)
        return self

    def _check_demotion(self, number: int, stage: StageSpec) -> None:
        wrong = partial(BadValue, key="stages")
        down, up = stage.demote, stage.promote
        if down is None:
            return
        if number == 0 or down.steps is not None:
            first = "is the first one, so a run cannot be demoted"
            raise wrong(
                f"stage {number}: {first if number == 0 else 'cannot demote by steps alone'}",
                allowed="demote: {mean_return} or {success_rate}, not in the first stage",
                hint="delete `demote`",
            )
        for name in ("mean_return", "success_rate"):
            low, high = getattr(down, name), getattr(up, name, None)
            if low is not None and high is not None and low >= high:
                raise wrong(
                    f"stage {number}: demotes at {low} and promotes at {high}",
                    allowed="demote below promote",
                    hint="lower the value of `demote`",
                )
