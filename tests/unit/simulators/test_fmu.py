"""FMUs of our own as simulators: what is read, refused, stepped and saved."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import zipfile
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from drillyard.authoring.scaffold.fmu import _names, around_fmu
from drillyard.errors import (
    ConfigError,
    DrillyardError,
    RunFailed,
    SimulatorError,
    UserError,
)
from drillyard.simulators.check import check_env_contract, check_simulator
from drillyard.simulators.fmu import isolated, state_test
from drillyard.simulators.fmu.description import read_model
from drillyard.simulators.make import make_env
from drillyard.simulators.streams import REPLAYED
from drillyard.simulators.wrappers import load_stack, silent_layers, stack_state
from drillyard.spec.learning import SimulatorSpec
from drillyard.spec.load import load
from tests.fmus import write_fmu

pytestmark = pytest.mark.heavy  # compiles models
AGENT: dict[str, Any] = {
    "observes": {"level": {"min": 0, "max": 2, "unit": "m"}, "flow": {"min": 0, "max": 0.02}},
    "acts": {"pump": {"min": 0, "max": 10, "unit": "V"}},
    "reward": "-abs(level - 1) - full",
    "resets": ["level", "area"],
    "max_episode_steps": 30,
}
NAMES = {"pump": "pump.voltage"}


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    return tmp_path_factory.mktemp("fmus")


@pytest.fixture
def fmu(libraries, monkeypatch, tmp_path):
    """Writes an FMU beside an experiment whose folder is on the path."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(libraries)])
    monkeypatch.setattr(state_test, "_KNOWN", {})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def write(*macros: str, name: str = "tank.fmu", **how: Any) -> str:
        return write_fmu(libraries / name, *macros, **how).name

    yield write
    assert not list(tmp_path.glob("fmu-*")), "the files of an FMU were left behind"


def spec(id_: str, agent: dict[str, Any] | None = None, **args: Any) -> SimulatorSpec:
    given = {"names": NAMES, **args} if id_ != "fmu" else args
    return SimulatorSpec.model_validate(
        {"id": id_, "args": given, "agent": {**AGENT, **(agent or {})}}
    )


def made(id_: str, agent: dict[str, Any] | None = None, **args: Any) -> Any:
    return closing(make_env(spec(id_, agent, **args), streams=REPLAYED))


def played(env: Any, steps: int = 5, action: float = 0.5) -> list[dict[str, Any]]:
    infos = []
    for _ in range(steps):
        _, reward, terminated, truncated, info = env.step(np.array([action], np.float32))
        infos.append({**info, "reward": reward, "ends": (terminated, truncated)})
        if terminated or truncated:
            break
    return infos


def test_a_model_is_stepped_in_its_own_units_from_the_values_of_a_lesson(fmu):
    with made(fmu()) as env:
        bad = [f for f in check_env_contract(env) if f.severity.value == "error"]
        assert not bad
        _, info = env.reset(seed=1, options={"level": 0.5, "area": 2.0})
        assert info["state_level"] == 0.5
        first = played(env, 1)[0]
        # 7.5 V give 0.015 m3/s, and the outlet takes 0.01 * sqrt(level).
        assert first["state_level"] == pytest.approx(0.5 + 5 * (0.015 - 0.00708) / 2, abs=2e-4)
        assert first["state_pump"] == 7.5
        assert first["reward"] == pytest.approx(-abs(first["state_level"] - 1))
        *_, last = played(env, 30)
        assert last["ends"] == (False, True)


@pytest.mark.parametrize(
    ("macros", "state", "args", "silent"),
    [
        ((), True, {}, []),
        ((), False, {}, ["PlainEnv"]),
        (("FORGETS",), True, {}, ["PlainEnv"]),
        ((), True, {"state": "replay"}, ["PlainEnv"]),
    ],
    ids=["own state", "no state", "incomplete state", "as asked"],
)
def test_a_resume_is_equal_to_the_last_bit(fmu, macros, state, args, silent):
    name = fmu(*macros, state=state)
    with made(name, **args) as first, made(name, **args) as second:
        assert silent_layers(first.env.env if silent else first) == silent
        first.reset(seed=3, options={"level": 0.3})
        played(first, 11)
        saved = stack_state(first)
        expected = played(first, 12, -0.3)
        second.reset(seed=9)
        assert load_stack(second, saved) == ""
        assert played(second, 12, -0.3) == expected


def test_check_says_that_a_state_is_incomplete_and_what_is_done_instead(fmu):
    findings = check_simulator(spec(fmu("FORGETS")), speed=False)
    (said,) = [f.message for f in findings if f.subject == "simulator: resume"]
    assert "its own state is incomplete: step 1 after the state was loaded differs" in said
    assert "a run replays the actions" in said


def test_the_test_of_a_state_goes_on_where_an_episode_ends_and_is_of_one_kind(fmu):
    name = fmu("FORGETS", kinds=("CoSimulation", "ModelExchange"))
    for kind, replays in (("model-exchange", False), ("co-simulation", True)):
        with made(name, kind=kind, ends="level > 0.5") as env:  # at the first step
            plant = env.unwrapped.simulator
            assert ("is incomplete" in plant.simulator_name) is replays


@pytest.mark.parametrize(
    ("agent", "args", "field", "words"),
    [
        ({"acts": {"pomp": {"min": 0, "max": 1}}}, {}, "acts.pomp", "is not a variable"),
        ({"acts": {"level": {"min": 0, "max": 1}}}, {}, "acts.level", "is not an input"),
        (
            {"observes": {"level": {"min": 0, "max": 200, "unit": "cm"}}},
            {},
            "observes.level.unit",
            "two units: m in the model, cm in the experiment",
        ),
        ({"acts": {"pump": {"min": 0, "max": 12}}}, {}, "acts.pump", "outside the range"),
        ({"acts": {"outlet": {"min": 0, "max": 1}}}, {}, "acts", "nothing sets the inputs pump"),
        ({"resets": ["flow"]}, {}, "resets", "cannot be set"),
        ({"reward": "-levle"}, {}, "simulator.agent", "is not a variable"),
        (
            {"acts": {"pump": {"min": 0, "max": 1}, "pump.voltage": {"min": 0, "max": 1}}},
            {},
            "acts.pump.voltage",
            "the same input as the action pump",
        ),
        ({}, {"names": {**NAMES, "x": "volume"}}, "names.x", "is not a variable"),
        ({}, {"step_s": -1}, "step_s", "is out of range"),
        ({}, {"tolerance": "fine"}, "tolerance", "is out of range"),
        ({}, {"communication_s": 3}, "communication_s", "does not divide"),
        ({}, {"kind": "model-exchange"}, "kind", "is not what tank.fmu offers"),
        ({}, {"ends": "level >"}, "ends", "is not a condition"),
        ({}, {"solver": "rk4"}, "solver", "is not known"),
        ({}, {"speed": 1}, "speed", "speed"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_by_name(fmu, agent, args, field, words):
    with pytest.raises(ConfigError) as refusal, made(fmu(), agent, **args):
        pass
    assert field in str(refusal.value.field) and words in str(refusal.value)
    assert refusal.value.hint or refusal.value.allowed


def test_a_start_value_outside_the_models_range_is_refused(fmu):
    with made(fmu()) as env, pytest.raises(SimulatorError, match=r"area is outside .* 0.1 to 10"):
        env.reset(seed=1, options={"area": 100.0})


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"files": {"../../evil.txt": "x"}}, "an entry outside its folder"),
        ({"files": {"/tmp/evil.txt": "x"}}, "an entry outside its folder"),
        ({"files": {"resources\\..\\evil.txt": "x"}}, "an entry outside its folder"),
        ({"files": {"modelDescription.xml": "<fmi"}}, "modelDescription.xml:"),
        ({"change": ('fmiVersion="2.0"', 'fmiVersion="1.0"')}, "breaks FMI's rules"),
        ({"change": ("<fmiModel", "<!DOCTYPE x><fmiModel")}, "document type"),
        ({"change": ('name="flow"', 'name="level"')}, "level"),
        ({"change": ('er="tank"', 'er="../../tank"')}, "a file outside its folder: '../../tank'"),
        ({"change": ('"tank2.c"', '"/etc/passwd"')}, "a file outside its folder: '/etc/passwd'"),
    ],
)
def test_a_bad_archive_is_refused_before_anything_of_it_is_extracted(fmu, how, words, tmp_path):
    with pytest.raises(SimulatorError) as refusal, made(fmu(name="bad.fmu", **how)):
        pass
    assert words in str(refusal.value) and refusal.value.hint
    assert not list(tmp_path.iterdir())


def test_two_variables_of_one_name_are_refused_also_without_validation(fmu):
    name = fmu(name="bad.fmu", change=('name="flow"', 'name="level"'))
    with pytest.raises(SimulatorError, match="two variables have the name 'level'"):
        made(name, validate=False)


def test_a_link_in_an_archive_is_refused(fmu, libraries):
    path = libraries / fmu(name="link.fmu")
    link = zipfile.ZipInfo("resources/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(SimulatorError, match="an entry outside its folder: 'resources/link'"):
        made(path.name)


def test_a_file_that_is_not_an_fmu_is_refused(fmu, libraries):
    (libraries / "text.fmu").write_text("hello")
    with pytest.raises(SimulatorError, match="cannot be read as an FMU"):
        made("text.fmu")
    for name, words in (("none.fmu", "does not exist"), ("../x.fmu", "outside the folder")):
        with pytest.raises(SimulatorError, match=words):
            made(name)


def test_an_archive_without_a_description_with_a_name_twice_or_too_large_is_refused(
    fmu, libraries, monkeypatch
):
    with zipfile.ZipFile(libraries / "empty.fmu", "w") as archive:
        archive.writestr("resources/x", "x")
    twice = libraries / fmu(name="twice.fmu")
    with zipfile.ZipFile(twice, "a") as archive, pytest.warns(UserWarning):
        archive.writestr("modelDescription.xml", "<other/>")
    for name, words in (("empty.fmu", "has no modelDescription"), (twice.name, "entries twice")):
        with pytest.raises(SimulatorError, match=words):
            read_model(name)
    monkeypatch.setattr("drillyard.simulators.fmu.archive.MAX_BYTES", 100)
    with pytest.raises(SimulatorError, match="is larger than"):
        read_model(fmu())


def test_a_damaged_archive_is_refused_as_one_and_leaves_nothing(fmu, libraries):
    path = libraries / fmu(name="whole.fmu")
    with zipfile.ZipFile(path) as archive:
        library = next(e for e in archive.infolist() if e.filename.endswith(".so"))
    data = bytearray(path.read_bytes())
    data[library.header_offset + 200] ^= 0xFF
    (libraries / "damaged.fmu").write_bytes(data)
    with pytest.raises(SimulatorError, match=r"cannot be extracted: Bad CRC-32") as refusal:
        make_env(spec("damaged.fmu"))
    assert "copy the file again" in str(refusal.value.hint)


def test_a_binary_for_another_system_is_refused_by_name(fmu, libraries):
    path = libraries / fmu(name="windows.fmu", change=('<File name="tank2.c"/>', ""))
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries["modelDescription.xml"] = entries["modelDescription.xml"].replace(
        b"<SourceFiles></SourceFiles>", b""
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name.replace("linux64", "win64"), data)
    with pytest.raises(SimulatorError, match=r"no binary for this system \(linux64\).*win64"):
        made(path.name)


def test_sources_are_compiled_once(fmu, monkeypatch, tmp_path):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    name = fmu(name="sources.fmu", binary=False)
    with made(name) as env:
        env.reset(seed=1)
        expected = played(env)
    (kept,) = (tmp_path / "home" / "fmu").rglob("*.so")
    written = kept.stat().st_mtime_ns
    with made(name) as env:
        env.reset(seed=1)
        assert played(env) == expected
    assert kept.stat().st_mtime_ns == written


def test_sources_without_a_compiler_are_refused(fmu, monkeypatch):
    name = fmu(name="sources.fmu", binary=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SimulatorError, match="no C compiler for its sources is on PATH"):
        make_env(spec(name))


def test_sources_that_do_not_compile_are_refused_with_the_compilers_words(
    fmu, monkeypatch, tmp_path
):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    name = fmu(name="broken.fmu", binary=False, files={"sources/tank2.c": "int x = ;"})
    with pytest.raises(SimulatorError, match=r"cannot be compiled here(.|\n)*expected expression"):
        made(name)


@pytest.mark.parametrize(
    ("macro", "words"),
    [("NAN_AT=3", "level is nan"), ("FAILS_AT=3", r"fmi2DoStep failed with status 3")],
)
def test_a_model_that_fails_ends_the_run_by_name_or_only_the_episode(fmu, macro, words):
    name = fmu(macro, state=False)
    with made(name) as env:
        env.reset(seed=1)
        with pytest.raises(
            RunFailed, match=f"tank.fmu failed at 1[05] s of the model.*{words}"
        ) as e:
            played(env)
        assert "on_error: cut" in str(e.value.hint)
    with made(name, on_error="cut") as env:
        env.reset(seed=1)
        *before, last = played(env)
        assert last["ends"] == (False, True) and last["kpi_restarts"] == 1
        assert last["state_level"] == before[-1]["state_level"]
        _, info = env.reset()
        assert info["state_level"] == 1.0 and played(env, 1)[0]["kpi_restarts"] == 0


def test_a_model_that_ends_itself_and_a_condition_end_the_episode(fmu):
    with made(fmu("ENDS_AT=4", state=False)) as env:
        env.reset(seed=1)
        assert [info["ends"][0] for info in played(env)] == [False, False, False, True]
    with made(fmu("ENDS_AT=2", state=False), communication_s=1.0) as env:
        env.reset(seed=1)
        assert played(env)[0]["ends"] == (True, False)  # within the first step
    with made(fmu(), ends="level > 1.05") as env:
        env.reset(seed=1)
        *before, last = played(env, 30, 1.0)
        assert before and last["ends"] == (True, False) and last["state_level"] > 1.05


def test_communication_points_make_steps_finer_and_constants_hold(fmu):
    with made(fmu(), communication_s=1.0, start={"area": 4.0}, start_s=100.0) as env:
        env.reset(seed=1)
        fine = played(env, 1)[0]["state_level"]
    with made(fmu(), start={"area": 4.0}) as env:
        env.reset(seed=1)
        assert played(env, 1)[0]["state_level"] == pytest.approx(fine, abs=1e-4)


def test_a_lesson_replaces_a_constant_and_the_time_can_be_observed(fmu):
    agent = {"observes": {**AGENT["observes"], "time": {"min": 0, "max": 100}}, "logs": ["area"]}
    with made(fmu(), agent, start={"area": 4.0}, start_s=20.0) as env:
        _, info = env.reset(seed=1)
        assert (info["state_area"], info["state_time"]) == (4.0, 20.0)
        _, info = env.reset(options={"area": 2.0})
        assert info["state_area"] == 2.0
        assert played(env, 2)[-1]["state_time"] == 30.0


def test_an_experiment_that_was_written_for_a_model_is_complete(fmu, libraries):
    name = fmu(name="My Tank.fmu")
    written = around_fmu(libraries / name)
    assert written.module.name == "my-tank.yaml"
    text = written.module.read_text()
    for line in (
        'level: {min: 0, max: 2, unit: "m"}  # Height of the water',
        'pump_voltage: {min: 0, max: 10, unit: "V"}  # Voltage of the pump',
        'pump_voltage: "pump.voltage"',
        "step_s: 5  # s, the step of the model's own experiment",
        "max_episode_steps: 100  # the model's own experiment: 500 s",
        "resets: [level, area, outlet]",
        "#   area: {min: 0.9, max: 1.1}  # the model's own is 1 m2, Area of the tank",
    ):
        assert line in text
    assert {what.partition(":")[0] for _, what in written.parts} == {"flow", "overflows", "error"}
    simulator = load(written.module).spec.simulator
    with closing(make_env(simulator)) as env:
        env.reset(seed=1, options={"area": 2.0})
        assert played(env, 2)
    with pytest.raises(UserError, match="already exists"):
        around_fmu(libraries / name)
    # A person removes the marks before the lesson.
    head, _, rest = text.partition("  # lesson:\n")
    lesson, _, tail = rest.partition("learner:")
    lines = "".join(f"  {line[4:]}\n" for line in lesson.splitlines())
    written.module.write_text(f"{head}  lesson:\n{lines}learner:{tail}")
    assert set(load(written.module).spec.simulator.lesson) == {"level", "area", "outlet"}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (("Voltage of the pump", "Voltage&#10;seeds: [9]"), '"V"}  # Voltage seeds: [9]'),
        (('"V"', '"&quot;H2O"'), r'max: 10, unit: "\"H2O"}'),
        (('min="0" max="10"', 'min="0" max="10.1234567"'), "{min: 0, max: 10.1234567, unit"),
    ],
    ids=["line in a description", "quote in a unit", "digits of a range"],
)
def test_words_and_ranges_of_the_model_keep_the_experiment_valid(fmu, libraries, change, line):
    path = libraries / fmu(name="words.fmu", change=change)
    written = around_fmu(path).module
    try:
        assert line in written.read_text()
        make_env(load(written).spec.simulator).close()
    finally:
        written.unlink()


def test_a_written_experiment_has_a_unit_only_where_the_model_has_one(fmu, libraries):
    path = libraries / fmu(name="plain.fmu", change=(' unit="m3/s"', ""))
    written = around_fmu(path).module
    text = written.read_text()
    written.unlink()
    (flow,) = (line for line in text.splitlines() if line.strip().startswith("flow:"))
    assert "unit" not in flow and 'unit: "1"' not in text
    (outlet,) = (line for line in text.splitlines() if "#   outlet:" in line)
    assert "the model's own is 0.01" in outlet and "0.01 1" not in outlet


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"files": {"binaries/linux64/tank.so": "MZ"}}, "other.fmu cannot be started"),
        ({"files": {"../../evil.txt": "x"}}, "an entry outside its folder"),
        ({}, "no binary for this system"),
    ],
    ids=["library of another system under this one's name", "path outside", "no binary"],
)
def test_nothing_is_written_for_a_model_that_cannot_be_loaded(
    fmu, libraries, monkeypatch, how, words
):
    path = libraries / fmu(name="other.fmu", **how)
    if not how:
        monkeypatch.setattr("fmpy.platform", "linux32")
        monkeypatch.setattr("fmpy.platform_tuple", "x86-linux")
        monkeypatch.setenv("PATH", "")
    before = os.getcwd()
    with pytest.raises(DrillyardError, match=words) as refusal:
        around_fmu(path)
    assert "\n" not in refusal.value.message and refusal.value.hint
    assert not (libraries / "other.yaml").exists() and os.getcwd() == before


def test_a_model_that_crashes_in_the_trial_is_written_as_isolated(fmu, libraries):
    path = libraries / fmu("CRASHES_AT=4", name="fragile.fmu")
    text = around_fmu(path).module.read_text()
    assert "isolate: true  # the model ended its process in a trial" in text
    assert "level: {min: 0, max: 2" in text


def test_a_licence_that_is_not_free_costs_an_episode_of_its_isolated_copy(
    fmu, tmp_path, monkeypatch
):
    seat = tmp_path / "seat"
    monkeypatch.setenv("TANK_SEAT", str(seat))
    monkeypatch.setattr(isolated, "PAUSE_S", 0.0)
    with made(fmu("SEATS"), isolate=True, restarts_per_hour=1) as env:
        env.reset(seed=1)
        played(env, 2)
        seat.touch()
        # Another program gives its licence back while this copy waits.
        monkeypatch.setattr(isolated.time, "sleep", lambda _: seat.unlink(missing_ok=True))
        env.reset()
        assert played(env, 1)[0]["kpi_restarts"] == 1
        seat.touch()
        monkeypatch.setattr(isolated.time, "sleep", lambda _: None)
        with pytest.raises(RunFailed, match=r"lost 2 times within an hour.*cannot be started"):
            env.reset()
    with made(fmu("SEATS"), isolate=True) as env, pytest.raises(RunFailed, match="cannot be st"):
        env.reset(seed=1)  # at once: it has never worked


def test_names_in_a_written_experiment_are_different_and_can_be_read_by_a_reward(fmu):
    level = read_model(fmu()).variables["level"]
    written = {"a.b": "a_b", "a_b": "a_b_", "class": "_class", "1x": "_1x", "time.": "time_"}
    assert _names(replace(level, name=name) for name in written) == written


def test_unit_and_range_come_from_the_type_of_a_variable(fmu):
    own = '<Real unit="m" min="0" max="2" start="1"/>'
    name = fmu(name="typed.fmu", change=(own, '<Real declaredType="Height" start="1"/>'))
    level = read_model(name).variables["level"]
    assert (level.unit, level.low, level.high) == ("m", 0.0, 2.0)


def test_an_enumeration_has_the_range_of_its_items(fmu):
    name = fmu(name="modes.fmu", change=("<Integer/>", '<Enumeration declaredType="Mode"/>'))
    mode = read_model(name).variables["overflows"]
    assert (mode.type, mode.low, mode.high) == ("Enumeration", 1.0, 3.0)


def test_an_unsigned_number_begins_at_zero(fmu):
    name = fmu(source="tank3", name="unsigned.fmu", change=("<Int32 ", "<UInt32 "))
    assert read_model(name).variables["overflows"].low == 0.0


def test_an_agent_is_needed_and_the_command_that_writes_it_is_named(fmu):
    with pytest.raises(SimulatorError) as refusal:
        make_env(SimulatorSpec.model_validate({"id": fmu()}))
    assert "drillyard new simulator tank.fmu" in str(refusal.value.hint)


@pytest.mark.parametrize("solver", ["cvode", "euler"])
def test_model_exchange_agrees_with_co_simulation_and_meets_the_event(fmu, solver):
    both = ("CoSimulation", "ModelExchange")
    finer = {"communication_s": 0.05} if solver == "euler" else {"tolerance": 1e-8}
    with made(fmu("NO_WEAR", kinds=both), communication_s=0.05) as env:
        env.reset(seed=1)
        expected = [i["state_level"] for i in played(env, 30, 1.0)]
    with made(fmu("NO_WEAR", kinds=both), kind="model-exchange", solver=solver, **finer) as env:
        assert silent_layers(env) == []  # its own state is complete: each step begins the solver
        env.reset(seed=1)
        infos = played(env, 30, 1.0)
        assert [i["state_level"] for i in infos] == pytest.approx(expected, abs=2e-3)
        assert max(expected) == 2.0  # the tank is full
        played(env, 3, -1.0)


def test_a_clock_whose_ticks_are_rounded_otherwise_than_the_steps_loses_none(fmu):
    name = fmu("TICKS=0.1", kinds=("ModelExchange",))
    with made(name, {"logs": ["overflows"]}, step_s=1.0, communication_s=0.1) as env:
        env.reset(seed=1)
        ticks = [info["state_overflows"] for info in played(env, 4)]
    assert ticks == [10.0, 20.0, 30.0, 40.0]


def test_one_solver_serves_all_episodes_because_fmpy_frees_none(fmu):
    with made(fmu(kinds=("ModelExchange",))) as env:
        plant, solvers = env.unwrapped.simulator, set()
        for _ in range(2):
            env.reset(seed=1)
            solvers |= {instance._solver for instance in plant._instances.values()}
    assert len(solvers) == 1


def test_a_resume_of_model_exchange_is_equal_to_the_last_bit(fmu):
    name = fmu(kinds=("ModelExchange",))
    for how in ({}, {"state": "replay"}):
        with made(name, **how) as first, made(name, **how) as second:
            first.reset(seed=3)
            played(first, 7, 1.0)
            saved = stack_state(first)
            expected = played(first, 12, -0.3)
            second.reset(seed=9)
            assert load_stack(second, saved) == ""
            assert played(second, 12, -0.3) == expected


def cascade(fmu: Any, **args: Any) -> SimulatorSpec:
    file = fmu()
    agent = {
        "observes": {
            "second.level": {"min": 0, "max": 2, "unit": "m"},
            "up": {"min": 0, "max": 2},
        },
        "acts": {"pump": {"min": 0, "max": 10, "unit": "V"}},
        "reward": "-abs(up - 1)",
        "logs": ["second.outlet"],
        "resets": ["first.area"],
    }
    given = {
        "models": {"first": file, "second": file},
        "names": {"pump": "first.pump.voltage", "up": "first.level"},
        "connections": {"second.outlet": "first.flow"},
        "start": {"second.pump.voltage": 0},
        "step_s": 5,
        **args,
    }
    return spec("fmu", agent, **given)


def test_connected_models_are_stepped_and_resumed_together(fmu):
    with closing(make_env(cascade(fmu))) as first, closing(make_env(cascade(fmu))) as second:
        _, info = first.reset(seed=1, options={"first.area": 2.0})
        assert info["state_second.outlet"] == 0.0  # connected before the first step
        before = played(first, 3, 1.0)
        # The flow of the first empties the second.
        assert [i["state_up"] for i in before] == sorted(i["state_up"] for i in before)
        levels = [i["state_second.level"] for i in before]
        assert levels == sorted(levels, reverse=True) and levels[0] < 1
        saved = stack_state(first)
        expected = played(first, 4)
        second.reset(seed=2)
        assert load_stack(second, saved) == ""
        assert played(second, 4) == expected


def test_a_connection_of_two_units_or_of_no_input_is_refused(fmu):
    connections = {
        "two units: V of the input, m of first.level": {"second.pump.voltage": "first.level"},
        "is not an input": {"second.level": "first.level"},
        "is not a variable": {"second.pump.voltage": "third.level"},
    }
    for words, connection in connections.items():
        with pytest.raises(SimulatorError, match=words):
            make_env(cascade(fmu, connections=connection))


@pytest.mark.parametrize("macro", ["CRASHES_AT=4", "HANGS_AT=4"])
def test_a_crash_or_a_hang_of_an_isolated_model_costs_its_episode(fmu, macro):
    with made(fmu(macro), isolate=True, step_timeout_s=5.0) as env:
        env.reset(seed=1)
        *before, last = played(env)
        assert len(before) == 3 and last["ends"] == (False, True)
        assert last["kpi_restarts"] == 1
        _, info = env.reset()
        assert info["state_level"] == 1.0 and played(env, 2)[-1]["kpi_restarts"] == 0


def test_an_isolated_model_steps_as_in_process_and_its_process_is_replaced(fmu):
    name = fmu("LEAKS", once=True)
    with made(fmu("LEAKS", name="free.fmu")) as env:
        env.reset(seed=1)
        expected = [info["state_level"] for info in played(env, 30)]
    with made(name, restart_after=2) as first, made(name, restart_after=2) as second:
        assert silent_layers(first.env.env) == ["PlainEnv"], "one instance a process: isolated"
        first.reset(seed=1)
        assert [info["state_level"] for info in played(first, 30)] == expected
        for replaced in (0, 1, 0):
            first.reset()
            assert played(first, 2)[-1]["kpi_restarts"] == replaced
        saved = stack_state(first)
        expected_rest = played(first, 5)
        second.reset(seed=9)
        assert load_stack(second, saved) == ""
        assert [i["state_level"] for i in played(second, 5)] == [
            i["state_level"] for i in expected_rest
        ]


def test_nothing_is_called_after_a_fatal_error(fmu):
    with made(fmu("FATAL_AT=2"), isolate=True, on_error="cut") as env:
        env.reset(seed=1)
        assert played(env)[-1]["kpi_restarts"] == 1
        env.reset()
        assert played(env, 1)[-1]["kpi_restarts"] == 0, "its process ended"


def test_a_failing_isolated_model_says_so_by_name(fmu):
    with made(fmu("FAILS_AT=2"), isolate=True) as env:
        env.reset(seed=1)
        with pytest.raises(RunFailed, match=r"tank.fmu failed at 5 s .*on_error: cut"):
            played(env)


THREE: dict[str, Any] = {
    "observes": {"levels[1]": {"min": 0, "max": 2, "unit": "m"}, "low": {"min": 0, "max": 2}},
    "acts": {"inflow": {"min": 0, "max": 1}},
    "reward": "-abs(low - 1) - full",
    "logs": ["overflows", "valves[2]"],
    "resets": ["levels[2]", "area"],
    "max_episode_steps": 60,
}
ARRAYS = {"inflow": "valves[1]", "low": "levels[2]"}


@pytest.mark.parametrize("kind", ["co-simulation", "model-exchange"])
@pytest.mark.parametrize("state", [True, False])
def test_fmi_3_with_arrays_and_events(fmu, kind, state):
    name = fmu(source="tank3", state=state, kinds=("CoSimulation", "ModelExchange"))
    how = {"kind": kind, "names": ARRAYS, "start": {"valves[2]": 0.3}}
    with made(name, THREE, **how) as first, made(name, THREE, **how) as second:
        assert silent_layers(first.env if state else first.env.env) == (
            [] if state else ["PlainEnv"]
        )
        _, info = first.reset(seed=1, options={"levels[2]": 1.5, "area": 1.5})
        assert (info["state_levels[1]"], info["state_low"]) == (1.0, 1.5)
        infos = played(first, 50, 1.0)
        assert {i["state_valves[2]"] for i in infos} == {0.3}  # beside an action in one array
        levels = [i["state_levels[1]"] for i in infos]
        assert levels == sorted(levels) and infos[0]["state_low"] != 1.5
        if kind == "co-simulation":
            assert infos[-1]["state_overflows"] == 1.0 and levels[-1] == 2.0
        saved = stack_state(first)
        expected = played(first, 4, -0.5)
        second.reset(seed=2)
        assert load_stack(second, saved) == ""
        assert played(second, 4, -0.5) == expected


def test_an_event_of_fmi_3_ends_a_step_early_and_the_rest_of_it_follows(fmu, monkeypatch):
    from fmpy.fmi3 import FMU3Slave

    ends: list[list[float]] = []
    early: list[int] = []
    do_step = FMU3Slave.doStep

    def watched(*args: Any) -> Any:
        answer = do_step(*args)
        early[-1] += answer[2]
        return answer

    monkeypatch.setattr(FMU3Slave, "doStep", watched)
    for events in (True, False):
        name = fmu(source="tank3")
        how = {"names": ARRAYS, "start": {"valves[2]": 0.3}, "events": events}
        early.append(0)
        with made(name, THREE, **how) as env:
            env.reset(seed=1)
            ends.append([i["state_low"] for i in played(env, 60, 1.0)])
    assert ends[0] == pytest.approx(ends[1], abs=1e-2) and early == [1, 0]
