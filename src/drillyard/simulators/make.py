"""From ``simulator:`` of an experiment to an environment."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import gymnasium as gym

from drillyard.documents.json_types import Json
from drillyard.errors import ConfigError, DrillyardError, SimulatorError
from drillyard.registry import importable, load_object
from drillyard.simulators.classes import Simulator, registered, simulator_class
from drillyard.simulators.episode_recorder import recorder
from drillyard.simulators.episode_replay import EpisodeReplay
from drillyard.simulators.flat_spaces import flattened
from drillyard.simulators.metric_wrapper import EpisodeMetrics
from drillyard.simulators.plain import make_plain
from drillyard.simulators.streams import REPLAYED
from drillyard.simulators.types import Env
from drillyard.simulators.vec_wrappers import refuse_names
from drillyard.simulators.wrappers import EpisodeMonitor, LessonWrapper, layers, silent_layers
from drillyard.spec.learning import SimulatorSpec, Wrapper
from drillyard.spec.references import reveal
from drillyard.spec.simulator.lessons import Lesson, validate_lesson
from drillyard.spec.simulator.wrapper_catalogue import (
    COPY_WRAPPERS,
    FOR_THE_LEARNER,
    VEC_WRAPPERS,
    check_wrappers,
)
from drillyard.system.user_code import described
from drillyard.system.watchdog import report_activity


def make_env(
    spec: SimulatorSpec,
    *,
    copy: int = 0,
    seed: int = 0,
    training: bool = True,
    streams: int = 1,
    flat: bool = True,
) -> Env:
    """Build one copy: simulator, its per-copy wrappers, replay, lesson, episode monitor.

    Args:
        spec: The simulator part of an experiment.
        copy: Index of the copy, for the lesson's draws.
        seed: For the lesson's draws until a seeded reset.
        training: False leaves the lesson out: an evaluation brings its own options.
        streams: Version of the random numbers, see ``streams``.
        flat: Put ``FlattenSpaces`` around spaces that learners do not take as they are.

    Returns:
        The environment; its ``info["episode"]`` at an episode's end has return and length.

    Raises:
        ConfigError: Unknown id, argument, wrapper or lesson form.
        SimulatorError: The id does not name a simulator, or its constructor raised.
        SpaceMismatch: Spaces that no learner takes.
    """
    check_wrappers(spec)
    env = bare_env(spec, copy)
    for wrapper in spec.wrappers:
        if wrapper.name not in VEC_WRAPPERS:
            env = _wrap(env, wrapper)
    if flat:
        env = flattened(env)
    if spec.metrics:
        env = EpisodeMetrics(env, spec.metrics)
    lesson = checked_lesson(spec, env)
    if training and streams >= REPLAYED and silent_layers(env):
        env = EpisodeReplay(env, seed)
    if training and (lesson or spec.curriculum is not None):
        env = LessonWrapper(env, lesson, seed, copy, streams)
    return EpisodeMonitor(env, copy, recorder(spec, copy, training, streams))


def raw_world(spec: SimulatorSpec) -> SimulatorSpec:
    """The same task with the simulator's own observations and actions, as baselines see it."""
    kept = [w for w in spec.wrappers if w.name not in FOR_THE_LEARNER]
    return spec.model_copy(update={"wrappers": kept})


def checked_lesson(spec: SimulatorSpec, env: Env) -> Lesson:
    """The first lesson of a training, after the lessons of all stages were checked.

    Raises:
        ConfigError: An invalid form, or a key that the simulator does not know.
    """
    keys = reset_keys(env)
    validate_lesson(spec.lesson, keys)
    stages = spec.curriculum.stages if spec.curriculum is not None else []
    for number, stage in enumerate(stages):
        validate_lesson(stage.lesson, keys, f"simulator.curriculum.stages[{number}].lesson")
    return spec.lesson_of_stage(0)


def reset_keys(env: Env) -> Collection[str] | None:
    """The reset keys that the simulator declares (``reset_keys``); None where it does not."""
    declared = getattr(layers(env)[-1], "reset_keys", None)
    return None if declared is None else [str(key) for key in declared]


def bare_env(spec: SimulatorSpec, copy: int) -> Env:
    """Builds the simulator, without any wrapper."""
    kind = simulator_class(spec)
    args = reveal(spec.args)  # secrets are references until here
    report_activity(f"making {spec.id}")
    with explained(spec, kind):
        if kind is None:
            # The passive checker warns at each start; `drillyard check` does its work, once.
            return _with_spaces(spec, gym.make(spec.id, disable_env_checker=True, **args))
        env = kind(**args)
        if isinstance(env, gym.Env):
            return _with_spaces(spec, env)
        if spec.agent is None:
            raise _must_be_env(spec, env)
        return make_plain(env, spec.agent, copy)


@contextlib.contextmanager
def explained(spec: SimulatorSpec, kind: Callable[..., Any] | None) -> Iterator[None]:
    """Turns what a simulator's constructor raises into an error of the experiment.

    Args:
        spec: The simulator part of the experiment.
        kind: What ``simulator_class`` found.

    Raises:
        ConfigError, SimulatorError: See ``make_env``.
    """
    try:
        yield
    except DrillyardError:
        raise
    except gym.error.DependencyNotInstalled as error:
        raise SimulatorError(
            f"needs a package that is not installed: {error}",
            field="simulator.id",
            value=spec.id,
            hint="install it, and name it in `requirements:` so that workers have it",
        ) from error
    except Exception as error:
        _explain_argument(spec, kind)
        raise SimulatorError(
            f"{spec.id} could not be made with these arguments: {described(error)}",
            field="simulator.args" if spec.args else "simulator.id",
            value=str(spec.args) if spec.args else spec.id,
            hint="look at `simulator.args` and at the simulator's constructor",
        ) from error


def _with_spaces(spec: SimulatorSpec, env: Env) -> Env:
    """Refuses an environment without spaces; Gymnasium's base class does not set them."""
    for what in ("observation_space", "action_space"):
        space = getattr(env, what, None)
        if not isinstance(space, gym.Space):
            raise SimulatorError(
                f"has no {what}"
                if space is None
                else f"has a {what} that is not a Gymnasium space",
                field="simulator.id",
                value=spec.id,
                allowed="gymnasium.spaces.Box, Discrete, Dict, …",
                hint=f"set self.{what} in the constructor",
            )
    return env


def _must_be_env(spec: SimulatorSpec, made: object) -> SimulatorError:
    """What a function made is not an environment."""
    return SimulatorError(
        f"returned a {type(made).__name__}, not a gymnasium.Env",
        field="simulator.id",
        value=spec.id,
        allowed="a class, or a function that returns a gymnasium.Env",
        hint="return the environment at the end of the function",
    )


def _explain_argument(spec: SimulatorSpec, kind: Callable[..., Simulator] | None) -> None:
    if kind is None:
        entry = registered(spec.id).entry_point
        maker = load_object(entry) if isinstance(entry, str) else entry
    else:
        maker = kind
    if maker is not None:
        _refuse_unknown(maker, spec.args, "simulator.args", skip=("self",))


def _refuse_unknown(
    made: Callable[..., object], args: Mapping[str, Json], field: str, skip: Collection[str]
) -> None:
    """Refuses an argument that a callable does not take."""
    parameters = inspect.signature(made).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    refuse_names(args, [name for name in parameters if name not in skip], field)


def _wrap(env: Env, wrapper: Wrapper) -> Env:
    field = f"simulator.wrappers.{wrapper.name}"
    kind = importable(COPY_WRAPPERS.get(wrapper.name, wrapper.name), field)
    if not callable(kind):
        raise ConfigError(
            f"is a {type(kind).__name__}, not a wrapper class", field=field, value=wrapper.name
        )
    try:
        wrapped = kind(env, **wrapper.args)
    except ConfigError as error:
        raise error.but(field=error.field or f"{field}.args") from error.__cause__
    except DrillyardError:
        raise
    except Exception as error:
        _refuse_unknown(kind, wrapper.args, f"{field}.args", skip=("self", "env"))
        raise ConfigError(
            f"could not be made: {described(error)}", field=field, value=wrapper.args
        ) from error
    if not isinstance(wrapped, gym.Env):
        raise ConfigError(
            f"gave a {type(wrapped).__name__}, not an environment", field=field, value=wrapper.name
        )
    return wrapped
