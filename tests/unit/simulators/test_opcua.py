"""Plants behind OPC UA: the real server of asyncua, in this process."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drillyard.errors import ConfigError, RunFailed, SimulatorError
from drillyard.evaluation.episodes import Planned, run_baseline, run_episodes
from drillyard.simulators.make import make_env
from drillyard.spec import ExperimentSpec
from drillyard.spec.learning import SimulatorSpec
from drillyard.workloads.rl import _copies
from tests.helpers.patience import PATIENCE_S

asyncua = pytest.importorskip("asyncua", reason="the extra opcua is not installed")
from asyncua import Server, ua  # noqa: E402
from asyncua.crypto.cert_gen import setup_self_signed_certificate  # noqa: E402
from cryptography.x509.oid import ExtendedKeyUsageOID  # noqa: E402

from experiments.mixer.server import mixer  # noqa: E402

pytestmark = pytest.mark.heavy
AGENT = {
    "observes": {"temperature": {"min": 0, "max": 100, "unit": "°C"}},
    "acts": {"heater": {"min": 0, "max": 120, "unit": "kW"}},
    "reward": "-abs(temperature - 45)",
    "resets": ["temperature"],
}
NAMES = {"temperature": "Temperature", "heater": "Heater"}


class Plant:
    """A server in a thread of its own."""

    def __init__(self, port: int, secure: Path | None = None) -> None:
        self.url = f"opc.tcp://127.0.0.1:{port}/mixer"
        self._port, self._secure = port, secure
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.do(self._start())

    def do(self, work: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(PATIENCE_S)

    async def _start(self) -> None:
        self.server = await mixer(self._port, self._secure)
        await self._extend(self.server)
        await self.server.start()

    async def _extend(self, server: Server) -> None:
        tank = await server.nodes.objects.get_child("1:Mixer")
        self.flag = await tank.add_variable(1, "Go", False)
        await self.flag.set_writable()
        for _ in range(2):
            await tank.add_variable(1, "Twin", 1.0)
        valve = await tank.add_variable(1, "Valve", 0, ua.VariantType.UInt16)
        await valve.set_writable()
        await valve.add_property(0, "EURange", ua.Range(Low=0.0, High=0.0))  # nobody has set it

        async def slow(_: ua.NodeId) -> list[ua.Variant]:
            time.sleep(2.5)  # a simulator that answers nothing else meanwhile
            return []

        await tank.add_method(1, "Slow", slow)

    def node(self, name: str) -> Any:
        return self.do(self.server.nodes.objects.get_child(["1:Mixer", f"1:{name}"]))

    def stop(self) -> None:
        self.do(self.server.stop())

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def plant(free_port_of_module):
    one = Plant(free_port_of_module)
    yield one
    one.close()


@pytest.fixture(scope="module")
def free_port_of_module():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def spec(url: str, agent: dict[str, Any] | None = None, **args: Any) -> SimulatorSpec:
    given = {"url": url, "root": "Mixer", "step": "Step", "reset": "Reset", "names": NAMES}
    given |= {"step_timeout_s": PATIENCE_S, "start_timeout_s": PATIENCE_S, **args}
    given = {key: value for key, value in given.items() if value is not None}
    tree = {"id": "opcua", "args": given, "agent": {**AGENT, **(agent or {})}}
    return SimulatorSpec.model_validate(tree)


@pytest.fixture
def made():
    opened: list[Any] = []

    def make(*args: Any, **more: Any) -> Any:
        opened.append(make_env(spec(*args, **more)))
        return opened[-1]

    yield make
    for env in opened:
        env.close()
    assert not [t for t in threading.enumerate() if t.name == "opcua"]


def played(env: Any, steps: int = 3) -> list[float]:
    env.reset(seed=1, options={"temperature": 30.0})
    action = np.array([0.5], np.float32)
    return [float(env.step(action)[4]["state_temperature"]) for _ in range(steps)]


def test_an_episode_is_repeated_to_the_last_bit(plant, made):
    env = made(plant.url)
    first = played(env)
    assert first == sorted(first) and first[0] > 30.0 and played(env) == first
    # By node ids, with a Boolean that the server sets back, and an end of the experiment's own.
    ids = {name: plant.node(own).nodeid.to_string() for name, own in NAMES.items()}
    again = made(plant.url, names=ids, ends="temperature > 31.5")
    again.reset(seed=1, options={"temperature": 30.0})
    ends = [again.step(np.array([0.5], np.float32))[2] for _ in range(len(first))]
    assert ends == [value > 31.5 for value in first] and any(ends)


def test_a_boolean_makes_a_step_and_a_server_that_never_does_costs_the_episode(plant, made):
    env = made(plant.url, step="Go")
    env.reset(seed=1)
    stop = threading.Event()

    def answers() -> None:
        while not stop.is_set():
            if plant.do(plant.flag.read_value()):
                plant.do(plant.flag.write_value(False))

    thread = threading.Thread(target=answers)
    thread.start()
    try:
        info = env.step(np.array([0.0], np.float32))[4]
    finally:
        stop.set()
        thread.join()
    assert info["kpi_restarts"] == 0
    env.close()
    env = made(plant.url, step="Go", step_timeout_s=0.5)
    env.reset(seed=1)
    *_, truncated, info = env.step(np.array([0.0], np.float32))
    assert truncated and info["kpi_restarts"] == 1
    plant.do(plant.flag.write_value(False))


def test_steps_by_time_take_that_time(plant, made):
    env = made(plant.url, step=None, step_s=0.1)
    env.reset(seed=1)
    began = time.monotonic()
    for _ in range(3):
        env.step(np.array([0.0], np.float32))
    assert time.monotonic() - began > 0.29
    # The time of a step is not a part of the time for its answer.
    env = made(plant.url, step=None, step_s=2.0, step_timeout_s=1.0)
    env.reset(seed=1)
    assert env.step(np.array([0.0], np.float32))[4]["kpi_restarts"] == 0


def test_a_server_that_answers_nothing_while_it_computes_a_step_is_not_lost(plant, made):
    env = made(plant.url, step="Slow")
    env.reset(seed=1)
    assert env.step(np.array([0.0], np.float32))[4]["kpi_restarts"] == 0


def test_a_range_that_nobody_set_is_none_and_a_value_of_another_type_is_named(plant, made):
    acts = {"valve": {"min": -5, "max": 9}}
    env = made(plant.url, {"acts": acts}, names={**NAMES, "valve": "Valve"})
    env.reset(seed=1)
    assert not env.step(np.array([1.0], np.float32))[3]
    assert plant.do(plant.node("Valve").read_value()) == 9
    with pytest.raises(SimulatorError, match=r"acts: a variable cannot hold this.*Valve: UInt16"):
        env.step(np.array([-1.0], np.float32))
    acts = {"valve": {"values": ["open", "closed"]}}
    env = made(plant.url, {"acts": acts}, names={**NAMES, "valve": "Valve"})
    env.reset(seed=1)
    with pytest.raises(SimulatorError, match="could not convert string to float: 'open'"):
        env.step(0)


@pytest.mark.parametrize(
    ("agent", "args", "expected"),
    [
        ({}, {"names": {**NAMES, "heater": "Heaterr"}}, "did you mean 'Heater'"),
        ({}, {"names": {**NAMES, "heater": "Time"}}, "cannot be set"),
        ({}, {"names": {**NAMES, "temperature": "Twin"}}, "is there twice on the server"),
        ({}, {"step": "Stepp"}, "did you mean 'Step'"),
        ({}, {"root": "Mixerr"}, "simulator.args.root: is not on the server"),
        ({}, {"step": None}, "needs one of `step` and `step_s`"),
        ({}, {"certificate": "a.der", "key": "a.pem"}, "certificate: is a relative path"),
        ({}, {"password": "x"}, "would be sent without encryption"),
        ({}, {"url": "http://x"}, "is not an address of OPC UA"),
        (
            {"acts": {"heater": {"min": 0, "max": 120, "unit": "W"}}},
            {},
            "heater has two units: kW on the server, W in the experiment",
        ),
        ({"acts": {"heater": {"min": 0, "max": 150}}}, {}, "allowed: 0 to 120 kW"),
        ({"resets": ["heat"]}, {}, "simulator.agent.resets: is not on the server"),
        (
            {"acts": {"a": {"min": 0, "max": 1}, "heater": {"min": 0, "max": 1}}},
            {"names": {**NAMES, "a": "Heater"}},
            "sets the same point as the action a",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(plant, made, agent, args, expected):
    with pytest.raises(SimulatorError) as error:
        made(args.pop("url", plant.url), agent, **args).reset()
    assert expected in f"{error.value} {error.value.hint}"


def test_two_copies_of_one_plant_are_refused(plant):
    with pytest.raises(SimulatorError, match="is the same plant for several copies"):
        make_env(spec(plant.url), copy=1)


def test_evaluations_use_one_copy_and_never_the_episode_of_a_training(plant, made):
    env = made(plant.url)
    env.reset(seed=1)
    planned = [Planned(number, number, {"temperature": 30.0}) for number in range(3)]
    limited = spec(plant.url, {"max_episode_steps": 2})
    for played in (
        run_episodes(limited, lambda seen: np.zeros((len(seen), 1), np.float32), planned),
        run_baseline("hold", limited, planned),
    ):
        assert [episode.length for episode in played.episodes] == [2, 2, 2]
    with pytest.raises(RunFailed, match="another copy began an episode on the same plant"):
        env.step(np.array([0.0], np.float32))


def test_runs_at_the_same_time_are_refused_for_one_plant():
    url = "opc.tcp://127.0.0.1:9"
    tree = {"name": "x", "simulator": spec(url).model_dump(), "train": {"steps": 9}}
    given = ExperimentSpec.model_validate({**tree, "learner": {"algorithm": "ppo"}, "seeds": [1]})
    both = {"seeds": [1, 2]}
    assert _copies(given) == []
    with pytest.raises(ConfigError, match=r"resources\.workers: runs that train at"):
        _copies(given.model_copy(update=both))
    one = given.resources.model_copy(update={"workers": 1})
    assert _copies(given.model_copy(update={**both, "resources": one})) == []


def test_nan_and_a_bad_status_end_the_run_by_name(plant, made):
    env = made(plant.url)
    env.reset(seed=1)
    node, good = plant.node("Temperature"), 40.0
    plant.do(node.write_value(float("nan")))
    with pytest.raises(RunFailed, match="the state 'temperature' is nan"):
        env.step(np.array([0.0], np.float32))
    energy = plant.node("Energy")
    bad = ua.DataValue(StatusCode=ua.StatusCode(ua.StatusCodes.BadSensorFailure))
    env = made(plant.url, {"logs": ["energy"]}, names={**NAMES, "energy": "Energy"}, reset=None)
    plant.do(node.write_value(good))
    plant.do(plant.server.write_attribute_value(energy.nodeid, bad))
    with pytest.raises(RunFailed, match="Energy has no value: BadSensorFailure"):
        env.reset(seed=1)
    plant.do(energy.write_value(0.0))


def test_a_server_that_goes_away_costs_the_episode_and_one_that_never_was_is_named(
    made, unused_tcp_port_factory
):
    port = unused_tcp_port_factory()
    plant = Plant(port)
    try:
        env = made(plant.url)
        before = played(env)
        plant.stop()
        *_, truncated, info = env.step(np.array([0.5], np.float32))
        assert truncated and info["kpi_restarts"] == 1
        plant.do(plant._start())
        assert played(env) == before
    finally:
        plant.close()
    with pytest.raises(SimulatorError, match=r"simulator\.args\.url: .*Connect"):
        made(plant.url)


@pytest.fixture
def unused_tcp_port_factory():
    import socket

    def unused() -> int:
        with socket.create_server(("127.0.0.1", 0)) as free:
            return free.getsockname()[1]

    return unused


def test_only_a_trusted_server_a_trusted_client_and_a_known_user_meet(
    made, tmp_path, unused_tcp_port_factory
):
    ours = {"certificate": str(tmp_path / "ours.der"), "key": str(tmp_path / "ours.key")}
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
    name = "urn:example.org:client"
    asyncio.run(
        setup_self_signed_certificate(
            Path(ours["key"]), Path(ours["certificate"]), name, "localhost", uses, {}
        )
    )
    who = {"user": "operator", "password": "stir-it"}
    port = unused_tcp_port_factory()
    plant = Plant(port, tmp_path / "plant")
    try:
        with pytest.raises(SimulatorError, match="so it is not trusted") as error:
            made(plant.url, **ours, **who)
        trusted = {**ours, "fingerprint": error.value.allowed}
        with pytest.raises(SimulatorError, match="is not trusted by the server"):
            made(plant.url, **trusted, **who)
        with pytest.raises(SimulatorError, match="is not offered by the server"):
            made(plant.url, **trusted, **who, policy="Aes256Sha256RsaPss")
        with pytest.raises(SimulatorError, match="does not exist on this machine"):
            made(plant.url, **{**trusted, "key": "/gone.key"}, **who)
    finally:
        plant.close()
    (tmp_path / "plant/trusted/ours.der").write_bytes(Path(ours["certificate"]).read_bytes())
    plant = Plant(port, tmp_path / "plant")
    try:
        with pytest.raises(SimulatorError, match=r"simulator\.args\.user: the server does not"):
            made(plant.url, **trusted, user="operator", password="wrong")
        assert len(played(made(plant.url, **trusted, **who))) == 3
    finally:
        plant.close()
