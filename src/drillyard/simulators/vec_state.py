"""Copies of a simulator that are stepped together: their state, normalisation and seeds.

Everything here takes a Stable-Baselines3 ``VecEnv`` as ``make_vec`` builds it, also with the
layers that a model adds around it.
"""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar

import numpy as np
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecCheckNan,
    VecEnv,
    VecFrameStack,
    VecNormalize,
    VecTransposeImage,
)
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs
from stable_baselines3.common.vec_env.stacked_observations import StackedObservations

from drillyard.errors import CorruptObject
from drillyard.simulators.shared_copies import SharedCopies
from drillyard.simulators.state import State
from drillyard.spec.simulator.lessons import Lesson

Arrays = dict[str, np.ndarray]
Frames: TypeAlias = "np.ndarray | dict[str, Frames]"
_COPIES = "copies"
"""Key of the states of copies that are objects; ``SharedCopies`` have other ones."""
_Kind = TypeVar("_Kind")


def _vec_layers(venv: VecEnv) -> list[VecEnv]:
    """The vectorised layers, outermost first; the last one holds the copies."""
    layers = [venv]
    while hasattr(layers[-1], "venv"):
        layers.append(layers[-1].venv)
    return layers


def _find(venv: VecEnv, kind: type[_Kind]) -> _Kind | None:
    return next((layer for layer in _vec_layers(venv) if isinstance(layer, kind)), None)


def silent_layers(venv: VecEnv) -> list[str]:
    """Names of the layers that cannot be frozen, without repetition; empty: all can."""
    *outer, base = _vec_layers(venv)
    known = (VecNormalize, VecFrameStack, VecTransposeImage, VecCheckNan)
    silent = [type(layer).__name__ for layer in outer if not isinstance(layer, known)]
    if not isinstance(base, SharedCopies):
        silent += [name for names in base.env_method("silent_layers") for name in names]
    return list(dict.fromkeys(silent))


def vec_state(venv: VecEnv) -> State | None:
    """Everything that the next steps depend on, except the normalisation's statistics.

    Returns:
        Arrays and JSON, or None when a layer is silent: such a stack is reset at barriers.
    """
    if silent_layers(venv):
        return None
    base = _vec_layers(venv)[-1]
    shared = isinstance(base, SharedCopies)
    state = {base.key: base.state()} if shared else {_COPIES: base.env_method("stack_state")}
    stack = _find(venv, VecFrameStack)
    if stack is not None:
        state["frames"] = _frames(stack.stacked_obs)
    normalize = _find(venv, VecNormalize)
    if normalize is not None:
        state["old_obs"] = _copy(normalize.old_obs)
    return state


def load_vec_state(venv: VecEnv, state: State) -> str:
    """Restores the state of all copies; no reset is needed afterwards.

    Returns:
        How a replayed episode differs from the one that was saved; empty if none does.

    Raises:
        CorruptObject: The state belongs to another stack.
    """
    base: Any = _vec_layers(venv)[-1]
    shared = isinstance(base, SharedCopies)
    key = base.key if shared else _COPIES
    if key not in state:
        raise CorruptObject("the checkpoint is that of copies that were stepped in another way")
    if not shared and base.num_envs != len(state[key]):
        raise CorruptObject(f"the checkpoint has {len(state[key])} copies, not {base.num_envs}")
    differences = base.load_state(state[key])
    frames = _find(venv, VecFrameStack)
    if frames is not None:
        _load_frames(frames.stacked_obs, state["frames"])
    normalize = _find(venv, VecNormalize)
    if normalize is not None:
        normalize.old_obs = _copy(state["old_obs"])
    return first_difference(differences or [])


def normalisation(venv: VecEnv) -> Arrays | None:
    """Statistics of the normalisation, or None where there is none.

    Returns:
        ``obs_mean``, ``obs_var``, ``obs_count`` (``obs_mean.<key>`` … for Dict observations),
        ``ret_mean``, ``ret_var``, ``ret_count``, ``returns`` (n_envs,), and the settings
        ``clip_obs`` and ``epsilon``; float64.
    """
    normalize = _find(venv, VecNormalize)
    if normalize is None:
        return None
    arrays: Arrays = {}
    for suffix, rms in _obs_rms(normalize).items():
        arrays |= _rms_arrays(f"obs_{{}}{suffix}", rms)
    arrays |= _rms_arrays("ret_{}", normalize.ret_rms)
    arrays["returns"] = np.array(normalize.returns, dtype=np.float64)
    arrays["clip_obs"] = np.array([normalize.clip_obs], dtype=np.float64)
    arrays["epsilon"] = np.array([normalize.epsilon], dtype=np.float64)
    return arrays


def load_normalisation(venv: VecEnv, arrays: Arrays) -> None:
    """Restores a state that was read by ``normalisation``.

    ``returns`` is taken only where the number of copies is the same (evaluation has its own).

    Raises:
        CorruptObject: The statistics are those of another observation, or there is no layer.
    """
    normalize = _find(venv, VecNormalize)
    if normalize is None:
        raise CorruptObject("there are statistics of a normalisation, and no `normalize` wrapper")
    for suffix, rms in _obs_rms(normalize).items():
        _load_rms(f"obs_{{}}{suffix}", rms, arrays)
    _load_rms("ret_{}", normalize.ret_rms, arrays)
    if arrays["returns"].shape == (venv.num_envs,):
        normalize.returns = np.array(arrays["returns"], dtype=np.float64)


def freeze_normalisation(venv: VecEnv) -> None:
    """For evaluation: statistics stay as they are, rewards are the simulator's own."""
    normalize = _find(venv, VecNormalize)
    if normalize is not None:
        normalize.training = False
        normalize.norm_reward = False


def failed(venv: VecEnv, copy: int) -> str:
    """Keeps the record of a copy's episode; returns where the copy is.

    Args:
        venv: The copies.
        copy: The one that returned something that cannot be used.
    """
    base = _vec_layers(venv)[-1]
    if isinstance(base, SharedCopies):
        return base.failed(copy)
    return str(venv.env_method("failed", indices=copy)[0])


def set_lesson(venv: VecEnv, lesson: Lesson) -> None:
    """Uses another lesson from the next episode of each copy on."""
    base: Any = _vec_layers(venv)[-1]
    if hasattr(base, "set_lesson"):
        base.set_lesson(lesson)
    else:
        base.env_method("set_lesson", lesson)


def at_barrier(venv: VecEnv, *, keep: bool) -> str:
    """Lets hosts of copies join and leave; the copies go on as they were.

    Args:
        venv: The copies.
        keep: False if the copies are reset afterwards.

    Returns:
        How a replayed episode differs on another host; empty if none does.
    """
    base: Any = _vec_layers(venv)[-1]
    return first_difference(base.at_barrier(keep)) if hasattr(base, "at_barrier") else ""


def replay_steps(venv: VecEnv, open_steps: list[int]) -> int:
    """Steps that a replay of all open episodes takes one after the other.

    Args:
        venv: The copies.
        open_steps: Steps of the open episode of each copy.
    """
    in_turn = isinstance(_vec_layers(venv)[-1], DummyVecEnv)
    return sum(open_steps) if in_turn else max(open_steps)


def first_difference(differences: list[str]) -> str:
    """The first replay that differs, with its copy; empty if none does."""
    lines = (f"copy {copy}: {text}" for copy, text in enumerate(differences) if text)
    return next(lines, "")


def reseed(venv: VecEnv, seed: int) -> VecEnvObs:
    """Start all copies anew from a seed (copy ``i`` from ``seed + i``); the first observations.

    Episodes under way are cut; lessons begin their draws anew from the seed.
    """
    venv.seed(seed)
    return venv.reset()


def _obs_rms(normalize: VecNormalize) -> dict[str, RunningMeanStd]:
    if not normalize.norm_obs:
        return {}
    if isinstance(normalize.obs_rms, dict):
        return {f".{key}": rms for key, rms in normalize.obs_rms.items()}
    return {"": normalize.obs_rms}


def _rms_arrays(name: str, rms: RunningMeanStd) -> Arrays:
    return {
        name.format("mean"): np.array(rms.mean, dtype=np.float64),
        name.format("var"): np.array(rms.var, dtype=np.float64),
        name.format("count"): np.array([rms.count], dtype=np.float64),
    }


def _load_rms(name: str, rms: RunningMeanStd, arrays: Arrays) -> None:
    mean, var = arrays.get(name.format("mean")), arrays.get(name.format("var"))
    if mean is None or var is None or mean.shape != np.shape(rms.mean):
        raise CorruptObject(f"{name.format('mean')}: shape is not {np.shape(rms.mean)}")
    rms.mean, rms.var = np.array(mean, dtype=np.float64), np.array(var, dtype=np.float64)
    rms.count = float(arrays[name.format("count")][0])


def _frames(stacked: StackedObservations) -> Frames:
    if hasattr(stacked, "sub_stacked_observations"):
        return {key: _frames(sub) for key, sub in stacked.sub_stacked_observations.items()}
    frames: np.ndarray = stacked.stacked_obs.copy()
    return frames


def _load_frames(stacked: StackedObservations, frames: Frames) -> None:
    if hasattr(stacked, "sub_stacked_observations"):
        for key, sub in stacked.sub_stacked_observations.items():
            _load_frames(sub, frames[key])
    else:
        stacked.stacked_obs = np.array(frames, dtype=stacked.stacked_obs.dtype)


def _copy(observation: VecEnvObs) -> VecEnvObs:
    if isinstance(observation, dict):
        return {key: np.array(value) for key, value in observation.items()}
    return np.array(observation)
