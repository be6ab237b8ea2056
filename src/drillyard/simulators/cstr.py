"""A continuous stirred tank reactor: one exothermic reaction, cooled by a jacket.

The agent changes the coolant's temperature so that the concentration follows a reference from low
to high conversion. The middle of the way is unstable without control: cool too little and the
temperature runs away, too much and the reaction dies.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from drillyard.documents.json_types import Json, JsonObject
from drillyard.simulators.batch_protocol import must_be_one_of, number_of
from drillyard.simulators.channels import Channel
from drillyard.simulators.cstr_physics import (
    ACTION_SCALE_K,
    CR_HIGH_CONVERSION,
    CR_LOW_CONVERSION,
    EPISODE_TIME,
    MAX_CHANGE_PER_TIME_K,
    TR_HIGH_CONVERSION,
    TR_LOW_CONVERSION,
    coolant_at_first,
    integrate,
    outcome,
    reference,
    transition,
)
from drillyard.simulators.state import State, load_rng, rng_state
from drillyard.simulators.types import Info, Options

log = logging.getLogger(__name__)

_DEFAULTS: dict[str, float] = {
    "Cref_signal": 1,
    "noise_percentage": 0.0,
    "step_time": 1.0,
    "transition_start": 1.0,
    "edo_solver_n_its": 2,
}

_STATE = "cr", "tr", "tc", "cref", "measured_cr", "measured_tr", "time", "steps", "squares"


class CstrEnv(gym.Env[np.ndarray, np.ndarray]):
    """The reactor as a Gymnasium environment.

    Observation, ``(4,)`` float32, clipped to [-1, 1]:

    | index | meaning                          | min | max | unit        |
    |-------|----------------------------------|-----|-----|-------------|
    | 0     | reactor temperature Tr / 600     | -1  | 1   | 600 K       |
    | 1     | concentration Cr / 10            | -1  | 1   | 10 kmol/m3  |
    | 2     | reference Cref / 10              | -1  | 1   | 10 kmol/m3  |
    | 3     | coolant temperature Tc / 600     | -1  | 1   | 600 K       |

    Action, ``(1,)`` float32:

    | index | meaning                          | min | max | unit        |
    |-------|----------------------------------|-----|-----|-------------|
    | 0     | change of the coolant Tc         | -1  | 1   | 10 K a step |

    A change of more than ``int(10 * step_time)`` K is capped (with a message); NaN counts as 0.

    Reward: ``exp(-|Cr - Cref|)`` with the measured Cr, plus -10 when terminated. The best return
    is 91.

    Terminated: measured Tr >= 400 K, measured Cr <= 0, a change over ``10 * step_time`` K, or
    Tc < 50 K. Truncated: after time 90, that is 91 steps of 1.

    Reset keys (``options``, or a lesson):

    | key              | meaning                                       | default | allowed     |
    |------------------|-----------------------------------------------|---------|-------------|
    | Cref_signal      | which reference, see ``reference``            | 1       | 0 to 6      |
    | noise_percentage | noise in % of the ranges 6.5698 and 61.8699   | 0       | 0 to 100    |
    | step_time        | time units of a step                          | 1       | 0.001 to 10 |
    | transition_start | signal 1: transition begins one unit before   | 1       | 0 to 91     |
    | edo_solver_n_its | sub-intervals of a step                       | 2       | 1 to 100    |

    ``info`` has ``state_Tr``, ``state_Cr`` (both as measured), ``state_Cref``, ``state_Tc``,
    ``state_Tc_adjust`` and ``kpi_rms_conc_error``, the root mean square of Cr - Cref so far.

    Args:
        coolant_rule: ``held``: the changed Tc acts in the whole step, as a valve would.
            ``first-sub-interval``: it acts in the first sub-interval only and the old Tc in the
            others, as an older system had it; for comparison with its results.
        render_mode: Always None.

    Version history: v0, the first. Its functional form (``copies: compiled``) has versions of its
    own: 1, the first, with the same steps to 1e-9.
    """

    metadata: ClassVar[JsonObject] = {  # type: ignore[misc]
        "render_modes": [],
        "units": {
            "state_Tr": "K",
            "state_Cr": "kmol/m³",
            "state_Cref": "kmol/m³",
            "state_Tc": "K",
            "state_Tc_adjust": "K",
            "action_Tc_adjust": "10 K",
        },
        "reference": {"state_Cr": "state_Cref"},
        "actions": ["Tc_adjust"],
    }
    reset_keys: ClassVar[tuple[str, ...]] = tuple(_DEFAULTS)
    vectorised = "drillyard.simulators.cstr_vector:VecCstr"
    functional = "drillyard.simulators.functional.cstr:Cstr"
    max_episode_steps = 91
    """At the default ``step_time``; budgets in episodes count with it."""

    def __init__(
        self,
        coolant_rule: Literal["held", "first-sub-interval"] = "held",
        render_mode: str | None = None,
    ) -> None:
        rules = ["held", "first-sub-interval"]
        must_be_one_of("coolant rule", "coolant_rule", coolant_rule, rules)
        self.render_mode = render_mode
        self._held = coolant_rule == "held"
        self._time, self._steps, self._squares = 0.0, 0, 0.0
        self._cr, self._tr, self._tc, self._cref = 0.0, 0.0, 0.0, 0.0
        self._measured_cr, self._measured_tr = 0.0, 0.0
        self.observation_space = spaces.Box(-1.0, 1.0, (4,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self._start(_DEFAULTS)

    def channels(self) -> dict[str, list[Channel]]:
        """See the tables above."""
        seen = (
            ("Tr", "K", 600.0),
            ("Cr", "kmol/m³", 10.0),
            ("Cref", "kmol/m³", 10.0),
            ("Tc", "K", 600.0),
        )
        return {
            "observation": [Channel(name, unit, -scale, scale) for name, unit, scale in seen],
            "action": [Channel("Tc_adjust", "K", -10.0, 10.0)],
        }

    def reset(
        self, *, seed: int | None = None, options: Options | None = None
    ) -> tuple[np.ndarray, Info]:
        """Begin an episode on the reference of time 1.

        Args:
            seed: Seed of the measurement noise.
            options: Reset keys, see the class.

        Raises:
            SimulatorError: An unknown key, or a value that is not allowed.
        """
        super().reset(seed=seed)
        self._start(checked(options or {}))
        self._measure()
        return self._observation(), self._info(0.0)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, Info]:
        """Change the coolant and let ``step_time`` pass.

        Args:
            action: ``(1,)``, in 10 K.
        """
        change = self._change(float(action[0]))
        self._cref, _ = reference(self._signal, self._time, self._transition_start)
        cr, tr, new_tc = self._cr, self._tr, self._tc + change
        for interval in range(self._n_its):
            tc = new_tc if self._held or interval == 0 else self._tc
            cr, tr = integrate(cr, tr, tc, self._step_time / self._n_its)
        self._cr, self._tr, self._tc = cr, tr, new_tc
        self._time += self._step_time
        self._steps += 1
        self._measure()

        error = self._measured_cr - self._cref
        self._squares += error * error
        reward, terminated = outcome(
            self._measured_cr,
            self._measured_tr,
            self._cref,
            new_tc,
            change,
            self._step_time,
        )
        truncated = self._time > EPISODE_TIME
        return self._observation(), reward, terminated, truncated, self._info(change)

    def state(self) -> State:
        """Everything that the next steps depend on."""
        numbers = {name: getattr(self, f"_{name}") for name in _STATE}
        return {**numbers, "options": dict(self._options), "rng": rng_state(self.np_random)}

    def load_state(self, state: State) -> None:
        """Continues from a state."""
        self._start(state["options"])
        for name in _STATE:
            setattr(self, f"_{name}", state[name])
        self._steps = int(state["steps"])
        load_rng(self.np_random, state["rng"])

    def _start(self, options: Mapping[str, float]) -> None:
        self._options = dict(options)
        self._signal = int(options["Cref_signal"])
        self._noise = float(options["noise_percentage"]) / 100.0
        self._step_time = float(options["step_time"])
        self._transition_start = float(options["transition_start"])
        self._n_its = int(options["edo_solver_n_its"])
        # The state, its measurement and the reference agree from the first observation on.
        self._cref, self._tr = reference(self._signal, 1.0, self._transition_start)
        self._cr = self._cref
        self._tc = coolant_at_first(self._signal)
        self._measured_cr, self._measured_tr = self._cr, self._tr
        self._time, self._steps, self._squares = 0.0, 0, 0.0

    def _change(self, action: float) -> float:
        change = action * ACTION_SCALE_K
        if change != change:
            return 0.0
        cap = float(int(MAX_CHANGE_PER_TIME_K * self._step_time))
        if abs(change) > cap:
            log.info("a coolant change of %.6g K is capped to %g K", change, cap)
            return math.copysign(cap, change)
        return change

    def _measure(self) -> None:
        self._measured_cr, self._measured_tr = self._cr, self._tr
        if self._noise:
            cr_range = CR_LOW_CONVERSION - CR_HIGH_CONVERSION
            tr_range = TR_HIGH_CONVERSION - TR_LOW_CONVERSION
            noise = self.np_random.uniform(-self._noise, self._noise, 2)
            self._measured_cr += float(noise[0]) * cr_range
            self._measured_tr += float(noise[1]) * tr_range

    def _observation(self) -> np.ndarray:
        values = (
            self._measured_tr / 600.0,
            self._measured_cr / 10.0,
            self._cref / 10.0,
            self._tc / 600.0,
        )
        return np.array([min(max(v, -1.0), 1.0) for v in values], dtype=np.float32)

    def _info(self, change: float) -> Info:
        return {
            "state_Tr": self._measured_tr,
            "state_Cr": self._measured_cr,
            "state_Cref": self._cref,
            "state_Tc": self._tc,
            "state_Tc_adjust": change,
            "kpi_rms_conc_error": math.sqrt(self._squares / max(self._steps, 1)),
        }


_RANGES: dict[str, tuple[float, float]] = {
    "Cref_signal": (0, 6),
    "noise_percentage": (0.0, 100.0),
    "step_time": (1e-3, 10.0),
    "transition_start": (0.0, 91.0),
    "edo_solver_n_its": (1, 100),
}
_INTEGERS = ("Cref_signal", "edo_solver_n_its")


def checked(options: Mapping[str, Json]) -> dict[str, float]:
    """Reset values: what the options say, else the defaults.

    Raises:
        SimulatorError: An unknown key, or a value that is not allowed.
    """
    return number_of("cstr", options, _RANGES, _DEFAULTS, _INTEGERS)


def beginning(options: Mapping[str, Json]) -> tuple[float, ...]:
    """What an episode begins with, for the forms that step many copies.

    Returns:
        Cr, Tr, Tc, the time at which the reference begins to change (``transition``), the noise as
        a part of the ranges, the time of a step, and its sub-intervals.

    Raises:
        SimulatorError: An unknown key, or a value that is not allowed.
    """
    values = checked(options)
    signal, start = int(values["Cref_signal"]), values["transition_start"]
    return (
        *reference(signal, 1.0, start),
        coolant_at_first(signal),
        transition(signal, start),
        values["noise_percentage"] / 100.0,
        values["step_time"],
        values["edo_solver_n_its"],
    )
