"""Copies on other machines as the VecEnv that Stable-Baselines3 trains on.

Each copy has the seed, the lesson and the layers that it has in one process, and is stepped by the
same code. So the numbers are the same for any number of hosts. A step is one message to each host
and one answer from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env.base_vec_env import (
    VecEnvIndices,
    VecEnvObs,
    VecEnvStepReturn,
)
from stable_baselines3.common.vec_env.util import dict_to_obs, obs_space_info

from drillyard.errors import HostLost, NoCapacity, SpaceMismatch
from drillyard.simulators.horizon import horizon
from drillyard.simulators.hosts import troubles
from drillyard.simulators.hosts.copy_process import described
from drillyard.simulators.hosts.copy_thread import thread_safe
from drillyard.simulators.hosts.listener import JoinedHost
from drillyard.simulators.make import make_env
from drillyard.simulators.shared_copies import NoObjects
from drillyard.simulators.state import SavedStack
from drillyard.spec.learning import SimulatorSpec
from drillyard.spec.simulator.lessons import Lesson

Hosts = Callable[[], Sequence[JoinedHost]]
"""The hosts that are there now."""


def shares(copies: int, most: Sequence[int | None]) -> list[int]:
    """How many copies each host gets: as even as their limits allow.

    Args:
        copies: Number of copies.
        most: Limit of each host; None: no limit.

    Raises:
        NoCapacity: The hosts may not have that many together.
    """
    given = [0] * len(most)
    for _ in range(copies):
        able = [i for i, limit in enumerate(most) if limit is None or given[i] < limit]
        if not able:
            raise NoCapacity(
                f"the hosts offer {sum(given)} copies, and the training has {copies}",
                hint="start more hosts, raise their --copies, or lower train.n_envs",
            )
        given[min(able, key=lambda i: given[i])] += 1
    return given


class HostedEnv(NoObjects):
    """Copies on hosts.

    Args:
        spec: The simulator part of an experiment.
        n: Number of copies.
        seed: Seed of the run.
        streams: Version of the random numbers, see ``streams``.
        hosts: The hosts that are there now; each gets a share of the copies.

    Raises:
        SpaceMismatch: A host's copies have other spaces than this machine's.
        HostLost: A host is lost.
        NoCapacity: The hosts offer too few copies.
        DrillyardError: A copy cannot be made.
    """

    form, instead = "stepped on other machines", "delete `simulator.copies_on`"

    def __init__(self, spec: SimulatorSpec, n: int, seed: int, streams: int, hosts: Hosts) -> None:
        self.streams, self._seed, self._available = streams, seed, hosts
        self._spec = spec
        self._lesson: dict[str, Any] | None = None
        one = make_env(spec, seed=seed, streams=streams)
        try:
            self.max_episode_steps = horizon(one)
            self._render_mode = getattr(one, "render_mode", None)
            self._threads = thread_safe(one)
            observation, action = one.observation_space, one.action_space
        finally:
            one.close()
        self._hosts: list[tuple[JoinedHost, int, int]] = []
        super().__init__(n, observation, action)
        self._keys, shapes, dtypes = obs_space_info(observation)
        self._buffers = {k: np.zeros((n, *shapes[k]), dtypes[k]) for k in self._keys}
        self._unsent: HostLost | None = None
        self._place(hosts())

    def _place(self, hosts: Sequence[JoinedHost]) -> None:
        """Makes the copies on these hosts."""
        ends = np.cumsum([0, *shares(self.num_envs, [host.most for host in hosts])]).tolist()
        parts = zip(hosts, ends, ends[1:], strict=False)
        self._hosts = [(host, begin, end) for host, begin, end in parts if end > begin]
        order = {
            "simulator": self._spec.model_dump(mode="json", by_alias=True),
            "seed": self._seed,
            "streams": self.streams,
            "threads": self._threads,
        }
        answers = self._all("make", lambda a, b: order | {"copies": list(range(a, b))})
        for (host, _, _), abouts in zip(self._hosts, answers, strict=True):
            self._compare(host, abouts)

    def at_barrier(self, keep: bool) -> list[str]:
        """Uses hosts that have joined since, and none that left; the copies go on as they were.

        Args:
            keep: False if the copies are reset afterwards.

        Returns:
            How the replay of each copy differs on its host (``load_stack``).

        Raises:
            HostLost: A host is lost.
        """
        hosts = list(self._available())
        if len(hosts) > self.num_envs or {h for h, _, _ in self._hosts} == set(hosts):
            return []
        saved = self.env_method("stack_state") if keep else None
        self.close()
        self._place(hosts)
        if self._lesson is not None:
            self.set_lesson(self._lesson)
        if saved is None:
            return []
        # As a resumed run does it: some simulators make in `reset` what `load_state` fills.
        self.seed(self._seed)
        self.reset()
        return self.load_state(saved)

    @property
    def placed(self) -> dict[str, int]:
        """Name of a host -> its number of copies."""
        return {host.name: end - begin for host, begin, end in self._hosts}

    def reset(self) -> VecEnvObs:
        """Begin all copies.

        Raises:
            HostLost: A host is lost.
            DrillyardError: What a copy raised.
        """
        answers = self._all(
            "reset", lambda a, b: (list(self._seeds[a:b]), [dict(o) for o in self._options[a:b]])
        )
        self.reset_infos = self._keep(answers)
        self._reset_seeds()
        self._reset_options()
        return self._observations()

    def step_async(self, actions: np.ndarray) -> None:
        """Sends the actions to all hosts."""
        actions = np.asarray(actions)
        self._send("step", [(host, actions[begin:end]) for host, begin, end in self._hosts])

    def step_wait(self) -> VecEnvStepReturn:
        """Step; raises as ``reset`` does."""
        answers = self._collected()
        infos = self._keep(answers)
        rewards = np.concatenate([a["r"] for a in answers]).astype(np.float32)
        dones = np.concatenate([a["d"] for a in answers])
        cut = np.concatenate([a["t"] for a in answers])
        for info, truncated in zip(infos, cut.tolist(), strict=True):
            info["TimeLimit.truncated"] = truncated
        begun = self._infos(answers, "j")
        for copy in np.flatnonzero(dones).tolist():
            self.reset_infos[copy] = begun[copy]
        return self._observations(), rewards, dones, infos

    def load_state(self, copies: list[SavedStack]) -> list[str]:
        """Continues from a state; returns how the replay of each copy differs (``load_stack``)."""
        everyone = range(self.num_envs)
        return self._call("call", lambda copy: ("load_stack", (copies[copy],), {}), everyone)

    def set_lesson(self, lesson: Lesson) -> None:
        """Draw from another lesson from the next episode on."""
        self._lesson = dict(lesson)
        self.env_method("set_lesson", self._lesson)

    def close(self) -> None:
        """Ends the copies; the hosts stay."""
        hosts = [host for host, _, _ in self._hosts if not host.lost]
        for host in hosts:
            try:
                host.ask("end")
            except HostLost:
                continue

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of the copies: numbers, texts, arrays."""
        chosen = list(self._get_indices(indices))
        if attr_name == "render_mode":  # asked for before there are copies
            return [self._render_mode for _ in chosen]
        return self._call("attribute", lambda _: attr_name, chosen)

    def env_method(
        self, method_name: str, *args: object, indices: VecEnvIndices = None, **kwargs: object
    ) -> list[Any]:
        """Calls a method of the copies with numbers, texts and arrays."""
        chosen = list(self._get_indices(indices))
        return self._call("call", lambda _: (method_name, args, kwargs), chosen)

    # -- messages -----------------------------------------------------------------------------

    def _all(self, kind: str, body: Callable[[int, int], object]) -> list[Any]:
        self._send(kind, [(host, body(begin, end)) for host, begin, end in self._hosts])
        return self._collected()

    def _send(self, kind: str, bodies: Sequence[tuple[JoinedHost, object]]) -> None:
        """Asks hosts; the answers tell of a loss."""
        self._unsent = None
        for host, body in bodies:
            try:
                host.send(kind, body)
            except HostLost as lost:
                self._unsent = lost

    def _call(self, kind: str, body: Callable[[int], object], copies: Sequence[int]) -> list[Any]:
        placed = [
            (host, begin, here)
            for host, begin, end in self._hosts
            if (here := [copy for copy in copies if begin <= copy < end])
        ]
        self._send(
            kind,
            [(host, {copy - begin: body(copy) for copy in here}) for host, begin, here in placed],
        )
        answers = self._collected([host for host, _, _ in placed])
        by_copy = {
            copy: answer
            for (_, _, here), given in zip(placed, answers, strict=True)
            for copy, answer in zip(here, given, strict=True)
        }
        return [by_copy[copy] for copy in copies]

    def _collected(self, hosts: Sequence[JoinedHost] | None = None) -> list[Any]:
        """The answers of all hosts. All are read, also after a loss, so that none is left over.

        They are read from the last, which was asked last: the others are there by then. Of two
        losses or errors, that of the first host is raised.
        """
        lost, raised, bodies = self._unsent, None, []
        for host in reversed(hosts if hosts is not None else [h for h, _, _ in self._hosts]):
            if host.lost:
                continue
            try:
                kind, body = host.answer()
            except HostLost as error:
                lost = error
                continue
            if kind == "raised":
                raised = troubles.from_json(body)
            bodies.append(body)
        if lost is not None:
            raise lost
        if raised is not None:
            raise raised
        return bodies[::-1]

    def _keep(self, answers: list[Any]) -> list[dict[str, Any]]:
        for (_, begin, end), answer in zip(self._hosts, answers, strict=True):
            for key in self._keys:
                self._buffers[key][begin:end] = answer["o"]["" if key is None else key]
        return self._infos(answers, "i")

    def _infos(self, answers: list[Any], key: str) -> list[dict[str, Any]]:
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for (_, begin, _), answer in zip(self._hosts, answers, strict=True):
            for place, info in answer[key].items():
                infos[begin + place] = info
        return infos

    def _observations(self) -> VecEnvObs:
        return dict_to_obs(
            self.observation_space, {key: buffer.copy() for key, buffer in self._buffers.items()}
        )

    def _compare(self, host: JoinedHost, abouts: list[Mapping[str, Any]]) -> None:
        spaces = {"observation": self.observation_space, "action": self.action_space}
        for about in abouts:
            for what, space in spaces.items():
                here = described(space)
                if about[what] != here:
                    raise SpaceMismatch(
                        f"the copies on the host {host.name} have the {what} space {about[what]}, "
                        f"and those of the learner have {here}",
                        field="simulator.copies_on",
                        allowed="the same simulator on all machines",
                        hint="install the same version of the simulator and of its packages on "
                        "the host, and give both the same settings",
                    )
