"""Compiles an exported ``policy.c`` and acts with it, to compare it with the trained policy."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from drillyard.errors import RunFailed
from drillyard.policies.act import rescaled, shape_of
from drillyard.policies.bundles import Described
from drillyard.policies.c_code import SOURCE, numeric

FLAGS = ("-std=c99", "-O2", "-shared", "-fPIC")


def compiler() -> str | None:
    """Returns a C compiler of this machine."""
    return next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)


class CompiledPolicy:
    """A policy as its C program acts: the counterpart of ``act.Policy``, for one observation.

    Args:
        folder: With ``policy.c``; the library is written there.
        described: ``spaces.json``.
        command: A C compiler.
        flags: Its options.

    Raises:
        RunFailed: It does not compile, or its library cannot be loaded.
    """

    def __init__(
        self, folder: Path, described: Described, command: str, flags: tuple[str, ...] = FLAGS
    ) -> None:
        library = folder / "policy.so"
        done = subprocess.run(
            [command, *flags, str(folder / SOURCE), "-o", str(library), "-lm"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RunFailed(
                f"the exported C does not compile with {command}: {done.stderr[:500].strip()}",
                hint="repair this compiler; without one in the PATH, the program is not compared",
            )
        try:
            self._act = np.ctypeslib.load_library(library.name, str(folder)).policy_act
        except OSError as error:
            raise RunFailed(
                f"the compiled policy cannot be loaded: {error}",
                hint="name a folder whose programs may run in TMPDIR",
            ) from error
        self.spaces = described
        self.begin()

    def begin(self) -> None:
        """An episode begins: forget the one before."""
        size = int(np.prod(self.spaces.get("memory") or (0,)))
        self._memory = np.zeros(2 * size, np.float32)

    def act(self, observation: Any, masks: object = None) -> np.ndarray:
        """Returns the action in the policy's own bounds.

        Raises:
            RunFailed: The program refuses the observation.
        """
        channels, space = self.spaces["channels"], self.spaces["observation"]
        seen = units(observation, self.spaces)
        done = np.zeros(len(channels["action"]))
        more = [self._memory.ctypes] if self.spaces.get("memory") else []
        if masks is not None:
            more.append(np.asarray(masks, np.uint8).ravel().ctypes)
        if (code := self._act(seen.ctypes, done.ctypes, *more)) > 0:
            raise RunFailed(f"the exported C refuses observation {code} of {space['kind']}")
        for i, channel in enumerate(channels["action"]):
            if numeric(channel):
                done[i] = (channel["values"] or []).index(done[i])
        action: Any = self.spaces["action"]
        inner: np.ndarray = rescaled(done[None], channels["action"], action, True)[0]
        return inner.reshape(shape_of(action))


def units(value: Any, described: Described, kind: str = "observation") -> np.ndarray:
    """Returns an observation or an action as its channels have it: flat, in their units.

    Args:
        value: In the bounds of the policy's own space.
        described: ``spaces.json``.
        kind: ``observation`` or ``action``.
    """
    space: Any = described["observation"] if kind == "observation" else described["action"]
    channels = described["channels"][kind]
    parts = space["spaces"] if space["kind"] == "Dict" else {"": space}
    flat, start = [], 0
    for key, part in parts.items():
        values = np.atleast_1d(value[key] if key else value).ravel().astype(float)
        named = channels[start : start + values.size]
        start += values.size
        inner = rescaled(values[None], named, part, False)[0]
        for i, channel in enumerate(named):
            if numeric(channel):
                inner[i] = (channel["values"] or [])[int(inner[i])]
        flat.append(inner)
    return np.concatenate(flat)
