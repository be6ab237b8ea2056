"""From ``simulator:`` of an experiment to copies that are stepped together."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from drillyard.errors import SimulatorError
from drillyard.registry import load_object
from drillyard.simulators.batch_protocol import VectorSimulator
from drillyard.simulators.classes import registered, simulator_class
from drillyard.simulators.episode_recorder import recorder
from drillyard.simulators.flat_spaces import needs_flattening
from drillyard.simulators.horizon import horizon
from drillyard.simulators.make import bare_env, checked_lesson, make_env
from drillyard.simulators.reached import Reached
from drillyard.simulators.types import Env
from drillyard.simulators.vec_wrappers import vec_wrapped
from drillyard.simulators.wrappers import layers
from drillyard.spec.learning import SimulatorSpec, Way
from drillyard.spec.references import reveal
from drillyard.spec.simulator.wrapper_catalogue import (
    VEC_WRAPPERS,
    check_wrappers,
)

if TYPE_CHECKING:  # its import takes seconds
    from stable_baselines3.common.vec_env import VecEnv

    from drillyard.simulators.hosts.vec_env import Hosts


def make_vec(
    spec: SimulatorSpec,
    n_envs: int,
    seed: int,
    *,
    training: bool = True,
    gamma: float | None = None,
    around: Callable[[Env, int], Env] | None = None,
    how: Way = "one-by-one",
    streams: int = 1,
    hosts: Hosts | None = None,
) -> VecEnv:
    """Builds copies that are stepped together, as Stable-Baselines3 expects them.

    Args:
        spec: The simulator part of an experiment.
        n_envs: Number of copies.
        seed: What the copies are reset with at the first reset comes from it (``streams``).
        training: False: no lesson, statistics of the normalisation frozen, rewards raw.
        gamma: The learner's discount, for the normalisation of rewards.
        around: Puts something around each copy: (environment, copy) -> environment.
        how: How they are stepped; one after the other where the simulator cannot do it at once
            (``can_vectorise``), in an evaluation, and with ``around``.
        streams: Version of the random numbers, see ``streams``.
        hosts: Where the copies are, if they are on other machines.

    Returns:
        ``FunctionalEnv``, ``VectorisedEnv``, ``ProcessesEnv``, ``HostedEnv`` or a ``DummyVecEnv``,
        inside ``VecNormalize`` and ``VecFrameStack`` where the experiment has them.

    Raises:
        ConfigError, SimulatorError: See ``make_env``.
    """

    def one(copy: int) -> Env:
        env = make_env(spec, copy=copy, seed=seed, training=training, streams=streams)
        return env if around is None else around(env, copy)

    makers: list[Callable[[], Env]] = [partial(one, copy) for copy in range(n_envs)]
    if hosts is not None:
        from drillyard.simulators.hosts.vec_env import HostedEnv

        venv: VecEnv = HostedEnv(spec, n_envs, seed, streams, hosts)
    else:
        alone = training and around is None
        venv = _copies(spec, makers, seed, streams, how if alone else "one-by-one")
    for wrapper in spec.wrappers:
        if wrapper.name in VEC_WRAPPERS:
            venv = vec_wrapped(venv, wrapper, training, gamma)
    venv.seed(seed)
    return venv


def _copies(
    spec: SimulatorSpec, makers: list[Callable[[], Env]], seed: int, streams: int, how: Way
) -> VecEnv:
    if how == "compiled":
        from drillyard.simulators.functional.forms import make_copies

        return make_copies(spec, len(makers), seed, streams)
    if how == "vectorised" and can_vectorise(spec):
        return _vectorised(spec, len(makers), seed, streams)
    if how == "processes":
        from drillyard.simulators.processes import ProcessesEnv

        return ProcessesEnv(makers, streams)
    from drillyard.simulators.in_turn import InTurnEnv

    return InTurnEnv(makers, streams)


def most_copies(spec: SimulatorSpec, wanted: int) -> int:
    """Returns how many copies an evaluation makes.

    Args:
        spec: The simulator part of an experiment.
        wanted: How many it makes of a simulator that starts as often as is wanted. Of servers
            that run already, or places in a service, only one is known to be there.
    """
    return wanted if running_server(spec) is None else 1


def running_server(spec: SimulatorSpec) -> type[Reached] | None:
    """Returns the class of a simulator on a server that runs already; None for any other."""
    kind = simulator_class(spec)
    if isinstance(kind, type) and issubclass(kind, Reached) and not spec.args.get("command"):
        return kind
    return None


def can_vectorise(spec: SimulatorSpec) -> bool:
    """Returns whether the simulator can step many copies at once in this experiment."""
    plain = all(wrapper.name in VEC_WRAPPERS for wrapper in spec.wrappers)
    return plain and not spec.metrics and load_vectorised(spec) is not None


def by_rule(at_once: bool, spec: SimulatorSpec) -> Way:
    """The way whose numbers ``train.copies: auto`` reproduces, whatever is measured.

    Args:
        at_once: There are enough copies to step them at once (``VECTORISED_FROM``).
        spec: The simulator part of an experiment.
    """
    return "vectorised" if at_once and can_vectorise(spec) else "one-by-one"


def _vectorised(spec: SimulatorSpec, n_envs: int, seed: int, streams: int) -> VecEnv:
    from drillyard.simulators.sb3_vec_env import VectorisedEnv

    check_wrappers(spec)
    one = bare_env(spec, 0)  # explains arguments that do not fit
    try:
        lesson, make = checked_lesson(spec, one), load_vectorised(spec)
        assert make is not None
        if needs_flattening(one):
            raise SimulatorError(
                "its copies at once have spaces that must be flattened",
                field="train.copies",
                allowed="one-by-one, processes",
                hint="write train.copies: one-by-one, or flatten the spaces in the simulator",
            )
        simulator = make(n_envs, **reveal(spec.args))
        return VectorisedEnv(
            simulator,
            n_envs,
            lesson,
            type(layers(one)[-1]),
            horizon(one),
            seed,
            streams,
            recorder(spec, 0, True, streams, n_envs),
        )
    finally:
        one.close()


def load_vectorised(spec: SimulatorSpec) -> Callable[..., VectorSimulator] | None:
    """The factory of all copies of a simulator at once: (n, **args); None if there is none.

    A class may name its vectorised counterpart; a Gymnasium id may have a vector entry point.

    Raises:
        PluginError: The name does not exist.
    """
    kind = simulator_class(spec)
    if kind is None:
        from drillyard.simulators.gymnasium_adapter import adapter

        return adapter(registered(spec.id))
    form = getattr(kind, "vectorised", None)
    # A name, if the libraries of the counterpart are expensive to import.
    return load_object(form) if isinstance(form, str) else form
