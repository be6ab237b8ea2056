"""Plain Python simulators as Gymnasium environments."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import numpy as np
from gymnasium import spaces
from pydantic import ValidationError

from drillyard.documents.json_types import Json, JsonObject
from drillyard.errors import ConfigError, RunFailed, SimulatorError, nearest
from drillyard.registry import importable
from drillyard.simulators.channels import Channel
from drillyard.simulators.state import State, Stateful, load_rng, rng_state
from drillyard.simulators.types import Action, Env, Info, Observation, Options, States
from drillyard.spec.agent import ENDS, Act, AgentSpec
from drillyard.system import step_marker, user_code


class NamedStates(NamedTuple):
    """What a simulator returned last.

    Attributes:
        observation: As the agent sees it, before wrappers.
        states: Those that are observed or logged, by name, in their units and not clipped.
        last: The current values of actions that are changes.
    """

    observation: np.ndarray
    states: dict[str, float]
    last: dict[str, float]


class Actuators:
    """All actions of a simulator, in the order of the table.

    Args:
        acts: Name -> range or values; never both kinds.
    """

    def __init__(self, acts: Mapping[str, Act]) -> None:
        self._acts = dict(acts)
        self._choices = [act.values for act in acts.values() if act.values is not None]
        self._last: dict[str, float] = {}
        self.space: spaces.Space[Observation]
        if not self._choices:
            self.space = spaces.Box(-1.0, 1.0, (len(acts),), np.float32)
        elif len(self._choices) == 1:
            self.space = spaces.Discrete(len(self._choices[0]))
        else:
            self.space = spaces.MultiDiscrete([len(values) for values in self._choices])

    def begin(self, states: Mapping[str, float]) -> None:
        """An episode begins: where actions that are changes start from."""
        self._last = {}
        for name, act in self._acts.items():
            if act.change is None or act.min is None or act.max is None:
                continue
            middle = (act.min + act.max) / 2
            first = states.get(name, middle) if act.start is None else act.start
            self._last[name] = min(max(float(first), act.min), act.max)

    def take(self, action: Action) -> JsonObject:
        """Values by name.

        Args:
            action: An element of ``space``; that of a Box is clipped to [-1, 1].
        """
        parts = np.atleast_1d(np.asarray(action))
        if self._choices:
            chosen = zip(self._acts, self._choices, parts, strict=True)
            return {name: values[int(part)] for name, values, part in chosen}
        values: JsonObject = {}
        for (name, act), part in zip(self._acts.items(), parts, strict=True):
            assert act.min is not None and act.max is not None  # the table has one of the two
            share = min(max(float(part), -1.0), 1.0)
            if act.change is None:
                values[name] = act.min + (share + 1.0) / 2.0 * (act.max - act.min)
            else:
                moved = self._last[name] + share * act.change
                values[name] = self._last[name] = min(max(moved, act.min), act.max)
        return values

    def state(self) -> dict[str, float]:
        """The current values of actions that are changes."""
        return dict(self._last)

    def load_state(self, state: State) -> None:
        """Continues from a state."""
        self._last = {name: float(value) for name, value in state.items()}


Reward = Callable[[States, bool, bool], dict[str, float]]


class PlainSimulator(Protocol):
    """The methods of a plain simulator.

    It may also have ``state()`` and ``load_state(state)`` (then a resumed run goes on in the
    middle of an episode), ``close()``, a parameter ``rng`` of ``reset`` (a
    ``numpy.random.Generator`` to draw from, seeded by the run), ``use_copy(index)``, called once
    before the first reset, ``notes()``: numbers by name for ``info``, and ``max_episode_steps``.
    """

    def reset(self, config: Options) -> States:
        """Begin an episode.

        Args:
            config: What the lesson drew; {} for the simulator's own choice.

        Returns:
            All states by name, numbers.
        """

    def step(self, actions: Options) -> States:
        """Steps once with these actions; returns all states by name."""

    def terminated(self) -> bool:
        """Returns whether the episode has ended by itself: a goal, a trip, a crash."""

    def truncated(self) -> bool:
        """Returns whether the time is up."""


class StatefulSimulator(PlainSimulator, Stateful, Protocol):
    """A plain simulator whose state can be saved."""


class PlainEnv(Env):
    """A plain simulator as a Gymnasium environment.

    Observation: ``Box(-1, 1, (n,), float32)``, the observed states scaled and clipped.
    Action: ``Box(-1, 1, (m,), float32)``, or ``Discrete``/``MultiDiscrete`` where all have values.
    ``info``: ``state_<name>`` of observed and logged states and of actions,
    ``reward_<term>`` where the reward has several, and ``kpi_clipped``, how many values were
    clipped in the episode so far.

    Args:
        simulator: What to wrap.
        agent: What the agent observes, does and is rewarded for.
        copy: Index of this copy, for messages.

    Raises:
        ConfigError: The agent's class is invalid.
        SimulatorError: A method of the simulator is missing.
    """

    def __init__(self, simulator: PlainSimulator, agent: AgentSpec, copy: int = 0) -> None:
        for method in ("reset", "step", "terminated", "truncated"):
            if not callable(getattr(simulator, method, None)):
                raise SimulatorError(
                    f"has no method {method}()",
                    field="simulator.id",
                    value=type(simulator).__name__,
                    allowed="reset(config), step(actions), terminated(), truncated()",
                    hint="`drillyard new simulator NAME` writes a whole one",
                )
        self._simulator = simulator
        self._spec, self._reward = resolve_agent(agent)
        self._copy = copy
        self._ranges = [(name, o.min, o.max - o.min) for name, o in self._spec.observes.items()]
        self._actuators = Actuators(self._spec.acts)
        self._notes = getattr(simulator, "notes", dict)
        self._takes_rng = "rng" in inspect.signature(simulator.reset).parameters
        self._steps, self._clipped, self._seed = 0, 0, 0
        self.observation_space = spaces.Box(-1.0, 1.0, (len(self._ranges),), np.float32)
        self.action_space = self._actuators.space
        self.reset_keys = self._spec.resets
        own_limit: int | None = getattr(simulator, "max_episode_steps", None)
        self.max_episode_steps = self._spec.max_episode_steps or own_limit
        if step_seconds := getattr(simulator, "step_seconds", None):
            self.step_seconds = float(step_seconds)
        logged = dict.fromkeys((*self._spec.observes, *self._spec.logs))
        self._logged = list(logged)
        units = {f"state_{name}": o.unit for name, o in self._spec.observes.items()}
        # The simulator's value has the unit; `action_<name>` is the agent's, from -1 to 1.
        units |= {f"state_{name}": a.unit for name, a in self._spec.acts.items()}
        self.metadata = {
            "render_modes": [],
            "units": units,
            "actions": list(self._spec.acts),
            "reference": {
                f"state_{n}": f"state_{o.reference}"
                for n, o in self._spec.observes.items()
                if o.reference
            },
        }
        use_copy = getattr(simulator, "use_copy", None)
        if callable(use_copy):
            use_copy(copy)

    @property
    def thread_safe(self) -> bool:
        """Whether copies may be in threads of one process, as the user's class says."""
        return getattr(self._simulator, "thread_safe", False) is True

    @property
    def simulator(self) -> PlainSimulator:
        """What is wrapped."""
        return self._simulator

    @property
    def simulator_name(self) -> str:
        """Name of the user's class or file, for messages."""
        return getattr(self._simulator, "simulator_name", type(self._simulator).__name__)

    def channels(self) -> dict[str, list[Channel]]:
        """What the agent sees and does, by name and unit.

        An action that is a change stands for a change of at most so much.
        """
        seen = [Channel(n, o.unit, o.min, o.max) for n, o in self._spec.observes.items()]
        done = [
            Channel(n, a.unit, values=a.values)
            if a.values is not None
            else Channel(n, a.unit, a.min, a.max)
            if a.change is None
            else Channel(n, a.unit, -a.change, a.change)
            for n, a in self._spec.acts.items()
        ]
        return {"observation": seen, "action": done}

    def reset(
        self, *, seed: int | None = None, options: Options | None = None
    ) -> tuple[np.ndarray, Info]:
        """Begin an episode; ``options`` are the simulator's ``config``."""
        super().reset(seed=seed)
        self._seed = self._seed if seed is None else seed
        config = dict(options or {})
        for key in config:
            if self.reset_keys is not None and key not in self.reset_keys:
                raise SimulatorError(
                    f"the simulator has no reset key {key!r}", hint=nearest(key, self.reset_keys)
                )
        self._steps, self._clipped = 0, 0
        states = self._checked(self._reset_simulator(config))
        self._actuators.begin(states)
        return self._observe(states), self._info(states, {})

    def step(self, action: Action) -> tuple[np.ndarray, float, bool, bool, Info]:
        """Steps once."""
        self._steps += 1
        actions = self._actuators.take(action)
        states = self._checked(self._stepped(actions))
        terminated = bool(self._simulator.terminated())
        truncated = bool(self._simulator.truncated()) or self._steps == self.max_episode_steps
        try:
            terms = self._reward(states, terminated, truncated)
        except KeyError as error:
            name = str(error.args[0])
            raise RunFailed(
                f"the reward asks for {name!r}, which the simulator did not return "
                f"{self._place()}",
                hint=nearest(name, [*map(str, states), *ENDS]),
            ) from error
        except (ArithmeticError, ValueError, TypeError) as error:
            raise RunFailed(
                f"the reward has no value {self._place()}: {error}; states {dict(states)}",
                hint="look at `simulator.agent.reward`",
            ) from error
        info = self._info(states, actions)
        if len(terms) > 1:
            info |= {f"reward_{name}": value for name, value in terms.items()}
        observation = self._observe(states)
        info |= {"kpi_clipped": self._clipped, **self._notes()}
        return observation, math.fsum(terms.values()), terminated, truncated, info

    def named_states(self) -> NamedStates:
        """What the simulator returned last, for a controller that acts by name."""
        states = {name: float(self._states[name]) for name in self._logged}
        return NamedStates(self._seen, states, self._actuators.state())

    def observed(self) -> dict[str, tuple[float, float]]:
        """Observed state -> its range, in the simulator's own unit."""
        return {name: (o.min, o.max) for name, o in self._spec.observes.items()}

    def close(self) -> None:
        """Close the simulator, where it can be."""
        close = getattr(self._simulator, "close", None)
        if callable(close):
            close()

    def _reset_simulator(self, config: Options) -> States:
        more = {"rng": self.np_random} if self._takes_rng else {}
        return self._simulator.reset(config, **more)

    def _stepped(self, actions: Mapping[str, Json]) -> States:
        try:
            return self._simulator.step(dict(actions))
        except KeyError as error:
            # Most often the name of an action: those of the file are what it was given.
            line = user_code.place(error)
            raise RunFailed(
                f"KeyError: {error} {self._place()}{f', in {line}' if line else ''}; `acts` gives "
                f"it {', '.join(actions)}",
                hint=f"if {error} is an action: {nearest(str(error.args[0]), list(actions))}; "
                "otherwise correct that line",
            ) from error

    def _checked(self, states: States) -> States:
        if not isinstance(states, Mapping):
            raise RunFailed(
                f"the simulator returned a {type(states).__name__}, not states by name, "
                f"{self._place()}",
                hint='return a dict: {"level": 0.5}',
            )
        for name in self._logged:
            if name not in states:
                known = [str(state) for state in states]
                raise RunFailed(
                    f"the simulator did not return the state {name!r} {self._place()}; it "
                    f"returned {', '.join(known) or 'no states'}",
                    hint=nearest(name, known)
                    if known
                    else "return a dict with every state that is observed or logged",
                )
            value = states[name]
            number = isinstance(value, int | float | np.number | np.bool_)
            if not number or not math.isfinite(value):
                raise RunFailed(
                    f"the state {name!r} is {value!r} {self._place()}",
                    hint="every state that is observed or logged is a finite number",
                )
        return states

    def _place(self) -> str:
        return f"at {step_marker.place(self._copy, self._steps, self._seed)}"

    def _observe(self, states: States) -> np.ndarray:
        # For some numbers, a fifth of the time that arrays take.
        scaled = [
            2.0 * (float(states[name]) - low) / span - 1.0 for name, low, span in self._ranges
        ]
        self._clipped += sum(abs(value) > 1.0 + 1e-12 for value in scaled)
        seen = np.array([min(max(value, -1.0), 1.0) for value in scaled], np.float32)
        self._seen, self._states = seen, states
        return seen

    def _info(self, states: States, actions: Mapping[str, Json]) -> Info:
        info = {f"state_{name}": float(states[name]) for name in self._logged}
        for name, value in actions.items():
            if isinstance(value, int | float) and f"state_{name}" not in info:
                info[f"state_{name}"] = float(value)
        return info


class StatefulPlainEnv(PlainEnv):
    """A plain simulator whose state can be saved."""

    _simulator: StatefulSimulator

    def state(self) -> State:
        """The simulator's own, and the adapter's."""
        return {
            "simulator": self._simulator.state(),
            "actuators": self._actuators.state(),
            "steps": self._steps,
            "clipped": self._clipped,
            "seed": self._seed,
            "rng": rng_state(self.np_random),
        }

    def load_state(self, state: State) -> None:
        """Continues from a state."""
        load_rng(self.np_random, state["rng"])
        if self._takes_rng:
            # It keeps the generator that it received: pass it this one.
            self._reset_simulator({})
            load_rng(self.np_random, state["rng"])
        self._simulator.load_state(state["simulator"])
        self._actuators.load_state(state["actuators"])
        self._steps, self._clipped = int(state["steps"]), int(state["clipped"])
        self._seed = int(state["seed"])


def make_plain(simulator: PlainSimulator, agent: AgentSpec, copy: int = 0) -> PlainEnv:
    """Wrap a simulator; with ``state()`` where it has one. Errors: see ``PlainEnv``.

    A simulator that knows its names and units has ``for_agent(agent)``, which refuses others and
    returns the simulator to use.
    """
    for_agent = getattr(simulator, "for_agent", None)
    if callable(for_agent):
        spec = resolve_agent(agent)[0]
        if callable(use_copy := getattr(simulator, "use_copy", None)):
            use_copy(copy)  # it may connect to the plant of its copy
        simulator = for_agent(spec)
    able = all(callable(getattr(simulator, m, None)) for m in ("state", "load_state"))
    return (StatefulPlainEnv if able else PlainEnv)(simulator, agent, copy)


def resolve_agent(agent: AgentSpec) -> tuple[AgentSpec, Reward]:
    """The table, and a function for the reward's terms.

    Raises:
        ConfigError: ``agent.id`` names no class with the three parts.
    """
    if agent.id is None:
        terms = agent.terms()

        def expressed(states: States, terminated: bool, truncated: bool) -> dict[str, float]:
            given = {**states, **dict(zip(ENDS, (int(terminated), int(truncated)), strict=True))}
            return {name: float(term.value(given)) for name, term in terms.items()}

        return agent, expressed
    field = "simulator.agent.id"
    kind = importable(agent.id, field)
    parts = kind() if isinstance(kind, type) else kind
    if not callable(getattr(parts, "reward", None)):
        raise ConfigError(
            "has no reward(states, terminated, truncated)",
            field=field,
            value=agent.id,
            allowed="observes, acts, reward()",
            hint="`drillyard new simulator NAME` writes a whole one",
        )
    names = ("observes", "acts", "logs", "resets", "max_episode_steps")
    table = {name: getattr(parts, name) for name in names if hasattr(parts, name)}
    try:
        spec = AgentSpec.model_validate({**table, "reward": "0"})
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            field=field,
            value=agent.id,
            allowed="class attributes as `simulator.agent` has them in a file",
            hint="`drillyard new simulator NAME` writes a whole one",
        ) from error

    def computed(states: States, terminated: bool, truncated: bool) -> dict[str, float]:
        reward = parts.reward(states, terminated, truncated)
        terms = reward if isinstance(reward, Mapping) else {"reward": reward}
        return {str(name): float(value) for name, value in terms.items()}

    return spec, computed
