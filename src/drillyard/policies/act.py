"""Acts with an exported policy. Needs numpy and onnxruntime, and nothing of drillyard.

policy = Policy("my-bundle"); action = policy.act(observation)    # one observation, or a batch
policy.act_named({"level": 0.4, "inflow": 0.02})    # {"valve": 0.61}, both in their units
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # otherwise it reports every model
import onnxruntime

Space = dict[str, Any]  # a space or a channel, as spaces.json has it
Seen = np.ndarray | dict[str, np.ndarray]
Rng = np.random.Generator | None
Masks = np.ndarray | list[list[bool]] | None
States = dict[str, float] | list[dict[str, float]]
LARGEST = float(np.finfo(np.float32).max)  # the network computes with 32 bits


class Policy:
    """A bundle with ``policy.onnx``; call ``begin`` at a new episode if it has a memory."""

    def __init__(self, folder: str | Path, threads: int = 1) -> None:
        self.spaces = json.loads(Path(folder, "spaces.json").read_text(encoding="utf-8"))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(Path(folder, "policy.onnx")), options)
        self._types = {i.name: i.type for i in self._session.get_inputs()}
        self.memory: list[np.ndarray] = []

    def begin(self, copy: int | None = None) -> None:
        """An episode begins (in one copy of a batch): forget the one before."""
        for tensor in self.memory if copy is not None else ():
            tensor[:, copy] = 0
        self.memory = self.memory if copy is not None else []

    def act(
        self, observation: Seen, deterministic: bool = True, rng: Rng = None, masks: Masks = None
    ) -> np.ndarray:
        """The action for one observation, or those for a batch; ``masks``: which are possible."""
        space = self.spaces["observation"]
        parts = space["spaces"] if space["kind"] == "Dict" else {"": space}
        names = {key: f"observation.{key}".rstrip(".") for key in parts}
        seen = {n: np.asarray(observation[k] if k else observation) for k, n in names.items()}
        single = all(seen[n].ndim == len(shape_of(parts[k])) for k, n in names.items())
        feed = {k: self._typed(k, v[None] if single else v) for k, v in seen.items()}
        for name, values in feed.items():
            if np.isnan(values).any():
                at = np.argwhere(np.isnan(values))[0][single:].tolist()
                raise ValueError(f"the {name} has NaN at index {at}: the policy cannot act on it")
        n = len(next(iter(feed.values())))
        if noise := self.spaces["noise"]:
            feed["noise"] = np.zeros((n, noise["size"]), np.float32)
            if not deterministic:  # kind is the name of one of numpy's distributions
                draw = getattr(rng or np.random.default_rng(), noise["kind"])
                feed["noise"] = draw(size=feed["noise"].shape).astype(np.float32)
        if self.spaces["masks"]:
            possible = np.ones((n, self.spaces["masks"])) if masks is None else np.asarray(masks)
            feed["masks"] = np.atleast_2d(possible).astype(np.float32)
        if self.spaces["memory"]:
            layers, width = self.spaces["memory"]
            if not self.memory or self.memory[0].shape[1] != n:
                self.memory = [np.zeros((layers, n, width), np.float32) for _ in range(2)]
            feed["hidden"], feed["cell"] = self.memory
        action, *self.memory = self._session.run(None, feed)
        actions = np.asarray(action)
        return actions[0] if single else actions

    def act_named(
        self, states: States, deterministic: bool = True, rng: Rng = None, masks: Masks = None
    ) -> Any:
        """Actions by name, in their units, from states by name, in theirs; a list for a batch."""
        rows = [states] if isinstance(states, dict) else states
        self._must_be_known(rows)
        space = self.spaces["observation"]
        channels, given, start = self.spaces["channels"], {}, 0
        for key, part in (space["spaces"] if space["kind"] == "Dict" else {"": space}).items():
            end = start + int(np.prod(shape_of(part)))
            named_channels, start = channels["observation"][start:end], end
            flat = np.array([[row[c["name"]] for c in named_channels] for row in rows], float)
            given[key] = rescaled(flat, named_channels, part, True).reshape(
                len(rows), *shape_of(part)
            )
        acted = self.act(given.get("", given), deterministic, rng, masks)
        actions = np.asarray(acted).reshape(len(rows), -1)
        out = rescaled(actions, named_channels := channels["action"], self.spaces["action"], False)
        named = [
            {
                c["name"]: c["values"][int(v)] if c["values"] else v.item()
                for c, v in zip(named_channels, row, strict=True)
            }
            for row in out
        ]
        return named[0] if isinstance(states, dict) else named

    def _must_be_known(self, rows: list[dict[str, float]]) -> None:
        names = [c["name"] for c in self.spaces["channels"]["observation"]]
        for row in rows:
            for name in [n for n in row if n not in names] + [n for n in names if n not in row]:
                what = "unknown" if name in row else "missing"
                raise ValueError(f"{name} is {what}; there are: {', '.join(names)}")
            for name, value in row.items():
                if not isinstance(value, int | float | np.number) or not abs(value) <= LARGEST:
                    raise ValueError(f"{name} is {value!r}: not a finite number")

    def _typed(self, name: str, values: np.ndarray) -> np.ndarray:
        kinds = {"tensor(uint8)": np.uint8, "tensor(int64)": np.int64}
        return np.ascontiguousarray(values, kinds.get(self._types.get(name, ""), np.float32))


def shape_of(space: Space) -> list[int]:
    """The sizes of a value of a space, without the batch."""
    n = {"MultiBinary": space.get("n"), "MultiDiscrete": len(space.get("nvec", ()))}
    sizes = np.asarray(space.get("shape", n.get(space["kind"], [])))
    return [int(size) for size in np.atleast_1d(sizes)]


def rescaled(values: np.ndarray, channels: Any, space: Any, inwards: bool) -> np.ndarray:
    """Between units (``low`` to ``high`` of a channel) and the policy's own bounds."""
    out = np.array(values, np.float64 if space["kind"] == "Box" else values.dtype)
    for i, channel in enumerate(channels if space["kind"] == "Box" else ()):
        if channel["low"] is not None:
            bounds = [
                np.broadcast_to(np.array(space[e], float), space["shape"]).ravel()[i]
                for e in ("low", "high")
            ]
            ends = ((channel["low"], channel["high"]), bounds)
            (a, b), (c, d) = ends if inwards else ends[::-1]
            out[:, i] = c + (out[:, i] - a) / (b - a) * (d - c)
    return out
