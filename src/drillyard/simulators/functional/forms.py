"""Finds the functional form of a simulator, and refuses what ``copies: compiled`` does not do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from drillyard.errors import ConfigError, ConfigErrors
from drillyard.registry import load_object
from drillyard.simulators.classes import registered, simulator_class
from drillyard.simulators.functional.protocol import FunctionalSimulator
from drillyard.simulators.horizon import horizon
from drillyard.simulators.wrappers import layers
from drillyard.spec.algorithms.engines import JAX, NETWORKS
from drillyard.spec.learning import LearnerSpec, SimulatorSpec
from drillyard.spec.references import reveal
from drillyard.spec.simulator.wrapper_catalogue import check_wrappers

if TYPE_CHECKING:  # its import takes seconds
    from drillyard.simulators.functional.copies import FunctionalEnv

WRAPPERS = ("normalize", "time_limit")
"""Wrappers that have a functional form."""
_OF_GYMNASIUM = {
    "gymnasium.envs.classic_control.cartpole:CartPoleEnv": (
        "drillyard.simulators.functional.cartpole:CartPole"
    )
}
"""Entry point of a Gymnasium id -> its form."""


def form_of(spec: SimulatorSpec) -> Callable[..., FunctionalSimulator] | None:
    """The class of a simulator's functional form, None if it has none.

    A class names its form in the attribute ``functional``, a class or ``"module:Class"``.

    Raises:
        PluginError: The name does not exist.
    """
    kind = simulator_class(spec)
    if kind is not None:
        form = getattr(kind, "functional", None)
        return load_object(form) if isinstance(form, str) else form
    entry = registered(spec.id)
    name = _OF_GYMNASIUM.get(str(entry.entry_point))
    if name is None or entry.additional_wrappers:
        return None
    form_class = load_object(name)
    limit = {"max_episode_steps": entry.max_episode_steps, **entry.kwargs}
    return lambda **args: form_class(**{**limit, **args})


_forms: dict[tuple[object, str], FunctionalSimulator] = {}


def make_form(spec: SimulatorSpec) -> FunctionalSimulator:
    """The form with the arguments of an experiment.

    A form has no state. So each process has one for the same arguments, and one program for it.

    Args:
        spec: A simulator that has one.
    """
    form = form_of(spec)
    assert form is not None
    args = reveal(spec.args)
    what = spec.id if simulator_class(spec) is None else form
    return _forms.setdefault((what, json.dumps(args, sort_keys=True)), form(**args))


def time_limit(spec: SimulatorSpec) -> int | None:
    """The limit of the wrapper ``time_limit``, None without it."""
    for wrapper in spec.wrappers:
        if wrapper.name == "time_limit":
            return int(wrapper.args["max_episode_steps"])
    return None


def make_copies(spec: SimulatorSpec, n: int, seed: int, streams: int) -> FunctionalEnv:
    """Copies for ``copies: compiled``, without ``normalize``.

    Args:
        spec: A simulator with a form.
        n: How many.
        seed: See ``make_vec``.
        streams: See ``make_vec``.
    """
    from drillyard.simulators.functional.copies import FunctionalEnv
    from drillyard.simulators.make import checked_lesson, make_env

    check_wrappers(spec)
    # It explains arguments that do not fit.
    one = make_env(spec.model_copy(update={"wrappers": [], "metrics": {}}), flat=False)
    try:
        limit = time_limit(spec)
        bounds = [bound for bound in (horizon(one), limit) if bound is not None]
        return FunctionalEnv(
            make_form(spec),
            n,
            checked_lesson(spec, one),
            type(layers(one)[-1]),
            (one.observation_space, one.action_space),
            min(bounds, default=None),
            limit,
            seed,
            streams,
        )
    finally:
        one.close()


def check_compiled(spec: SimulatorSpec, learner: LearnerSpec) -> None:
    """Refuse everything that cannot be part of one compiled program.

    Args:
        spec: The simulator part of an experiment.
        learner: Its learner.

    Raises:
        ConfigErrors: All of it, each with its field.
    """
    errors = list(_problems(spec, learner))
    if errors:
        raise ConfigErrors(errors)


def _problems(spec: SimulatorSpec, learner: LearnerSpec) -> Iterator[ConfigError]:
    if learner.engine != JAX or learner.algorithm not in NETWORKS[JAX]:
        yield ConfigError(
            "copies: compiled needs a learner that is compiled with the simulator",
            field="train.copies",
            value="compiled",
            allowed="engine: jax with algorithm: ppo or a2c",
            hint="write `engine: jax` under `learner:`, or delete `copies:`",
        )
    if form_of(spec) is None:
        yield ConfigError(
            f"{spec.id} has no functional form, which copies: compiled needs",
            field="train.copies",
            value="compiled",
            allowed="auto, vectorised, one-by-one, processes",
            hint="delete `copies:`, or name a form in the simulator's attribute `functional`",
        )
    for number, wrapper in enumerate(spec.wrappers):
        if wrapper.name not in WRAPPERS:
            yield ConfigError(
                "has no functional form, which copies: compiled needs",
                field=f"simulator.wrappers[{number}]",
                value=wrapper.name,
                allowed=", ".join(WRAPPERS),
                hint="delete the wrapper, or `copies: compiled`",
            )
    given = {
        "simulator.metrics": bool(spec.metrics),
        "simulator.agent": spec.agent is not None,
        "simulator.copies_on": spec.copies_on != "learner",
    }
    for field, there in given.items():
        if there:
            yield ConfigError(
                "is not offered with copies: compiled",
                field=field,
                allowed="none",
                hint=f"delete `{field.rpartition('.')[2]}:`, or `copies: compiled`",
            )
    for number, callback in enumerate(learner.callbacks):
        kind = load_object(callback.id)
        if not callable(getattr(kind, "on_point", None)):
            yield ConfigError(
                "is called at each step, and the steps of copies: compiled are one program",
                field=f"learner.callbacks[{number}]",
                value=callback.id,
                allowed="a class with on_point(step, metrics)",
                hint="write on_point, or delete `copies: compiled`",
            )
