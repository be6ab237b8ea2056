"""The reactor, n copies at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from gymnasium import spaces

from drillyard.documents.json_types import Json
from drillyard.simulators import cstr, cstr_compiled
from drillyard.simulators import cstr_compiled as columns
from drillyard.simulators import cstr_physics as physics
from drillyard.simulators.state import State
from drillyard.simulators.types import Info, Observation

_RANGES = np.array(
    [
        physics.CR_LOW_CONVERSION - physics.CR_HIGH_CONVERSION,
        physics.TR_HIGH_CONVERSION - physics.TR_LOW_CONVERSION,
    ]
)
_INFO = {
    "state_Tr": columns.TR_SEEN,
    "state_Cr": columns.CR_SEEN,
    "state_Cref": columns.CREF,
    "state_Tc": columns.TC,
    "state_Tc_adjust": columns.CHANGE,
}


class VecCstr:
    """See ``CstrEnv``; its steps are the same to 1e-9."""

    def __init__(self, n: int, coolant_rule: str = "held") -> None:
        one = cstr.CstrEnv(coolant_rule)  # type: ignore[arg-type]  # it checks the rule
        self.observation_space: spaces.Space[Observation] = one.observation_space
        self.action_space: spaces.Space[Observation] = one.action_space
        self.rngs = [np.random.default_rng(copy) for copy in range(n)]
        self._held = coolant_rule == "held"
        self._at, self._steps = np.zeros((n, 13)), np.zeros(n, np.int64)
        self._noise = np.zeros((n, 2))
        self._noisy = np.zeros(n, np.bool_)
        for copy in range(n):
            self.begin(copy, {})

    def begin(self, copy: int, options: Mapping[str, Json]) -> None:
        """See ``VectorSimulator.begin``."""
        cr, tr, tc, *rest = cstr.beginning(options)
        noise = rest[1]
        self._noisy[copy], self._steps[copy], self._noise[copy] = noise > 0.0, 0, 0.0
        row = self._at[copy]
        # Columns as `cstr_compiled` has them.
        row[:] = (cr, tr, tc, cr, cr, tr, 0.0, 0.0, 0.0, *rest)
        if noise:
            self._draw([copy])
            row[[columns.CR_SEEN, columns.TR_SEEN]] += self._noise[copy]

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See ``VectorSimulator.step``."""
        if self._noisy.any():
            self._draw(np.flatnonzero(self._noisy))
        self._steps += 1
        outcome: tuple[np.ndarray, np.ndarray, np.ndarray] = cstr_compiled.step(
            self._at, np.asarray(actions, np.float32), self._noise, self._held
        )
        return outcome

    def observe(self) -> np.ndarray:
        """See ``VectorSimulator.observe``."""
        seen: np.ndarray = cstr_compiled.observe(self._at)
        return seen

    def info(self, copy: int) -> Info:
        """See ``VectorSimulator.info``."""
        row = self._at[copy]
        mean = row[columns.SQUARES] / max(int(self._steps[copy]), 1)
        states = {name: float(row[column]) for name, column in _INFO.items()}
        return {**states, "kpi_rms_conc_error": float(np.sqrt(mean))}

    def state(self) -> State:
        """See ``VectorSimulator.state``."""
        return {"at": self._at.copy(), "steps": self._steps.copy()}

    def load_state(self, state: State) -> None:
        """See ``VectorSimulator.load_state``."""
        self._at, self._steps = np.array(state["at"]), np.array(state["steps"], np.int64)
        self._noise[:] = 0.0  # drawn anew at each step, where there is any
        self._noisy = self._at[:, columns.NOISE] > 0.0

    def _draw(self, copies: Iterable[int]) -> None:
        """Noise of the next measurement."""
        for copy in copies:
            noise = self._at[copy, columns.NOISE]
            self._noise[copy] = self.rngs[copy].uniform(-noise, noise, 2) * _RANGES
