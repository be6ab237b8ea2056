"""Which wrappers there are, and the order in which they make sense. Imports no library."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from drillyard.errors import ConfigError
from drillyard.spec.learning import SimulatorSpec, Wrapper

COPY_WRAPPERS = {
    "time_limit": "gymnasium.wrappers:TimeLimit",
    "csv_logger": "drillyard.simulators.csv_logger:CsvLogger",
    "reward_terms": "drillyard.simulators.reward_wrappers:RewardTerms",
    "reward_scale": "drillyard.simulators.reward_wrappers:RewardScale",
    "flatten_action": "drillyard.simulators.action_wrappers:FlattenAction",
    "rescale_action": "drillyard.simulators.action_wrappers:RescaleAction",
    "discretise_action": "drillyard.simulators.action_wrappers:DiscretiseAction",
    "flatten_observation": "gymnasium.wrappers:FlattenObservation",
    "rescale_observation": "drillyard.simulators.observation_wrappers:RescaleObservation",
    "time_aware": "drillyard.simulators.observation_wrappers:TimeAware",
    "history": "drillyard.simulators.observation_wrappers:History",
}
"""Wrappers around one copy that have a short name."""
VEC_WRAPPERS = ("normalize", "frame_stack")
"""Wrappers around all copies together."""
_REWARDS = ("reward_terms", "reward_scale")
_ACTIONS = ("flatten_action", "rescale_action", "discretise_action")
_OBSERVATIONS = ("flatten_observation", "rescale_observation", "time_aware", "history")
FAMILIES: dict[str, tuple[str, ...]] = {
    "weights first, since terms are what the simulator gave": _REWARDS,
    "parts are joined before their range is changed or cut": _ACTIONS,
    "ranges are those of the simulator's own parts, and a history repeats what is inside it": (
        _OBSERVATIONS
    ),
    "a log ends where the episode does": ("time_limit", "csv_logger"),
    "a log has what the simulator itself was given and gave": ("csv_logger", *_REWARDS),
    "a log has the actions that the simulator itself was given": ("csv_logger", *_ACTIONS),
    "a log has what the simulator itself showed": ("csv_logger", *_OBSERVATIONS),
}
"""Reason -> names, innermost first: the wrappers of an experiment must have this order."""
FOR_THE_LEARNER = frozenset((*_ACTIONS, *_OBSERVATIONS, *VEC_WRAPPERS))
"""Change what is seen or done, not the task: a baseline does without."""


def check_wrappers(spec: SimulatorSpec) -> None:
    """Check names and order of the wrappers.

    Raises:
        ConfigError: A name is unknown or listed twice, two wrappers do the same, or the order is
            wrong; gives the reason.
    """
    seen: list[str] = []
    for position, wrapper in enumerate(spec.wrappers):
        _check(wrapper, seen, f"simulator.wrappers[{position}]")
        seen.append(wrapper.name)


def _check(wrapper: Wrapper, seen: Sequence[str], field: str) -> None:
    name = wrapper.name
    wrong = partial(ConfigError, field=field, value=name)
    known = [*COPY_WRAPPERS, *VEC_WRAPPERS]
    if name not in known and ":" not in name:
        allowed = f"{', '.join(known)}, or module:Class"
        raise wrong("unknown wrapper", allowed=allowed, known=known)
    if name in known and name in seen:
        raise wrong("is listed twice", allowed="each wrapper once", hint="delete one of them")
    outer = [s for s in seen if s in VEC_WRAPPERS]
    if name not in VEC_WRAPPERS and outer:
        raise wrong(
            f"comes after {outer[-1]}, which is around all copies",
            allowed="those around each copy first",
            hint="put `normalize` and `frame_stack` last",
        )
    if {name, *seen} >= {"history", "frame_stack"}:
        raise wrong(
            "history and frame_stack both repeat past observations",
            allowed="one of the two",
            hint="delete one of them",
        )
    for why, order in FAMILIES.items():
        late = [
            s for s in seen if s in order and name in order and order.index(name) < order.index(s)
        ]
        if late:
            raise wrong(
                f"comes after {late[0]}: {why}",
                allowed=" before ".join(n for n in order if n in (*seen, name)),
                hint=f"put {name} before {late[0]}",
            )
