"""A building on the real EnergyPlus: names, time, lessons, errors, and what is left behind."""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import closing
from typing import Any

import pytest

from drillyard.cli.main import main
from drillyard.errors import ConfigError, RunFailed, SimulatorError
from drillyard.simulators.check import check_env_contract
from drillyard.simulators.make import make_env
from drillyard.simulators.streams import REPLAYED
from drillyard.simulators.wrappers import load_stack, silent_layers, stack_state
from drillyard.spec.learning import SimulatorSpec
from drillyard.system.import_path import importable
from tests.helpers.tanks import played

pytest.importorskip("pyenergyplus", reason="the extra energyplus is not installed")
pytestmark = pytest.mark.heavy

from drillyard.simulators.energyplus import building_model, points, simulation  # noqa: E402

NAMES = {
    "room": "Zone Mean Air Temperature/Core_ZN",
    "outdoor": "Site Outdoor Air Drybulb Temperature/Environment",
    "setpoint": "Schedule Value/HTGSETP_SCH",
    "energy": "Electricity:Facility",
    "gas": "NaturalGas:Facility",
    "heating": "Schedule:Compact/Schedule Value/HTGSETP_SCH",
    "insulation": "Material:NoMass/Attic/thermal_resistance",
    "wall": "Material/Mass NonRes Wall Insulation/thickness",
}
AGENT: dict[str, Any] = {
    "observes": {"room": {"min": 10, "max": 35, "unit": "°C"}, "hour": {"min": 0, "max": 24}},
    "acts": {"heating": {"min": 15, "max": 23, "unit": "°C"}},
    "reward": "-abs(room - 21) - energy / 1e8 - gas / 1e8",
    "logs": ["outdoor", "setpoint", "day_of_week", "day_of_year", "month", "time"],
    "resets": ["weather", "wall"],
}
ARGS = {
    "model": "small_office",
    "weather": "usa_il_chicago",
    "names": NAMES,
    "timestep_min": 30,
    "begin": "01-31",
    "end": "02-01",
    "warm_up_days": 3,
}


@pytest.fixture(autouse=True)
def nothing_left(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    from pyenergyplus.runtime import all_callbacks

    before = len(all_callbacks)
    yield
    assert not list(tmp_path.glob("energyplus-*")), "files of EnergyPlus were left behind"
    assert len(all_callbacks) == before, "the engine's package keeps what is over"


def spec(agent: dict[str, Any] | None = None, **args: Any) -> SimulatorSpec:
    return SimulatorSpec.model_validate(
        {
            "id": "energyplus",
            "args": {k: v for k, v in {**ARGS, **args}.items() if v is not None},
            "agent": {**AGENT, **(agent or {})},
        }
    )


def made(agent: dict[str, Any] | None = None, **args: Any) -> Any:
    return closing(make_env(spec(agent, **args), streams=REPLAYED))


def test_a_building_is_stepped_by_its_names_through_its_run_period():
    with made() as env:
        assert env.unwrapped.max_episode_steps == 96
        _, first = env.reset(seed=1)
        assert (first["state_hour"], first["state_month"], first["state_time"]) == (0.0, 1.0, 0.0)
        infos = played(env, 1000)
    assert len(infos) == 2 * 48
    assert [i["ends"] for i in infos[:-1]] == [(False, False)] * 95
    assert infos[-1]["ends"] == (False, True)
    # An action holds from the step that it is given in.
    assert {i["state_setpoint"] for i in infos} == {21.0} == {i["state_heating"] for i in infos}
    assert first["state_setpoint"] != 21.0
    days = [(i["state_day_of_year"], i["state_month"], i["state_hour"]) for i in infos]
    assert days[46] == (31.0, 1.0, 23.5) and days[47] == (32.0, 2.0, 0.0)
    # The model's year begins on a Sunday.
    assert (infos[0]["state_day_of_week"], infos[50]["state_day_of_week"]) == (3.0, 4.0)
    assert infos[50]["state_time"] == 51 * 1800
    rooms = [i["state_room"] for i in infos]
    assert min(rooms) > 15 and max(rooms) < 25 and rooms[40] == pytest.approx(21, abs=0.6)


def test_the_energy_is_what_the_engine_itself_reports(tmp_path):
    """The agent sets a schedule to the value that it has anyway."""
    always = {"heating": "Schedule:Compact/Schedule Value/ALWAYS_ON"}
    agent = {"acts": {"heating": {"min": 0, "max": 1}}, "logs": ["energy", "gas"]}
    with made(agent, names={**NAMES, **always}) as env:
        env.reset(seed=1)
        infos = played(env, 1000, 1.0)
        document = env.unwrapped.simulator._setting.document
    meters = {"Electricity:Facility": "energy", "NaturalGas:Facility": "gas"}
    reported = {"reporting_frequency": "RunPeriod"}
    document["Output:Meter"] = {name: {"key_name": name, **reported} for name in meters}
    weather = building_model.weather_path("usa_il_chicago")
    with closing(simulation.Simulation(weather, [], [])) as bare:
        bare.write_model(json.dumps(document))
        steps = 0
        while bare.advance():
            steps += 1
        lines = (bare.folder / "eplusout.mtr").read_text().splitlines()
    assert steps == len(infos) == 96
    for meter, name in meters.items():
        (number,) = (line.split(",")[0] for line in lines if meter in line)
        (total,) = (
            float(x.split(",")[1]) for x in lines if x.startswith(f"{number},") and meter not in x
        )
        assert (
            sum(i[f"state_{name}"] for i in infos) == pytest.approx(total, rel=1e-9) and total > 0
        )


def test_a_resume_is_equal_to_the_last_bit_and_copies_in_one_process_do_not_meet():
    with made() as first, made() as second:
        bad = [f for f in check_env_contract(first) if f.severity.value == "error"]
        assert not bad and silent_layers(first.env.env) == ["PlainEnv"]
        first.reset(seed=3)
        played(first, 20, 0.1)
        saved = stack_state(first)
        second.reset(seed=9)
        played(second, 5, -1.0)
        expected = played(first, 30, -0.3)
        assert load_stack(second, saved) == ""
        assert played(second, 30, -0.3) == expected


def test_lessons_change_the_weather_and_fields_of_the_model():
    with made() as env:
        rows = []
        for options in ({}, {"weather": "usa_az_phoenix"}, {"wall": 0.001}, {}):
            env.reset(seed=1, options=options)
            rows.append([(i["state_room"], i["state_outdoor"]) for i in played(env, 12, -1.0)])
        normal, warm, thin, again = rows
        assert again == normal
        assert min(o for _, o in warm) > max(o for _, o in normal)
        assert [o for _, o in thin] == [o for _, o in normal] and thin[-1][0] < normal[-1][0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weather": "moon"}, "lesson.weather: is neither FILE.epw"),
        ({"weather": "moon.epw"}, "does not exist beside the experiment file"),
        ({"weather": 3}, "is neither FILE.epw"),
    ],
)
def test_a_lesson_with_no_such_weather_is_refused(options, words):
    with made() as env, pytest.raises(SimulatorError, match=words):
        env.reset(seed=1, options=options)


def test_errors_of_the_engine_are_those_of_its_own_file():
    with made() as env:
        with pytest.raises(RunFailed, match=r"(?s)EnergyPlus ended.*thickness.*-1") as failed:
            env.reset(seed=1, options={"wall": -1.0})
        assert failed.value.hint and "eplusout" not in str(failed.value)
        env.reset(seed=1)  # the next episode is not concerned
        assert played(env, 1)


@pytest.mark.parametrize(
    ("agent", "args", "words"),
    [
        ({}, {"model": "castle"}, r"args.model.*FILE.epJSON or FILE.idf"),
        ({}, {"weather": "../city.epw"}, "outside the folder of the experiment"),
        ({}, {"timestep_min": 7}, "does not divide an hour"),
        ({}, {"begin": "13-01"}, "args.begin: is not a day"),
        ({}, {"begin": "03-01", "end": "02-01"}, "args.end: is before the begin, 03-01"),
        ({}, {"warm_up_days": 0}, "args.warm_up_days: is out of range"),
        ({}, {"steps": 3}, "steps"),
        ({"resets": ["Material/Wal/thickness"]}, {}, "resets: is not a field of the model"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(agent, args, words):
    with pytest.raises(ConfigError, match=words) as refusal:
        make_env(spec(agent, **args))
    assert refusal.value.hint or refusal.value.allowed


@pytest.mark.parametrize(
    ("name", "value", "words", "near"),
    [
        ("room", "Zone Mean Air Temperature/Core", "is not a variable", "CORE_ZN"),
        ("energy", "Electricty:Facility", "is not a meter", "Electricity:Facility"),
        (
            "heating",
            "Schedule:Compact/Schedule Value/HTGSETP",
            "is not an actuator",
            "HTGSETP_SCH",
        ),
    ],
)
def test_a_name_that_is_not_in_the_model_is_refused_with_the_nearest(name, value, words, near):
    with made(names={**NAMES, name: value}) as env:
        with pytest.raises(SimulatorError, match=words) as refusal:
            env.reset(seed=1)
        assert near in str(refusal.value.hint)
        assert "`drillyard list points small_office`" in str(refusal.value.allowed)


def test_a_unit_that_contradicts_the_model_is_refused():
    observes = {"room": {"min": 280, "max": 310, "unit": "K"}}
    with made({"observes": observes}) as env, pytest.raises(SimulatorError, match="two units: C"):
        env.reset(seed=1)


def test_an_agent_is_needed():
    with pytest.raises(SimulatorError, match="does not say what the agent observes") as refusal:
        make_env(SimulatorSpec.model_validate({"id": "energyplus", "args": ARGS}))
    assert "drillyard list points" in str(refusal.value.hint)


@pytest.fixture
def own(tmp_path):
    """A model and a weather of the user, in a folder on the path."""
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(building_model.weather_path("usa_co_denver"), folder / "city.epw")
    document = building_model.read(building_model.model_path("small_office"))
    document["RunPeriod"]["Second"] = dict(document["RunPeriod"]["Annual"])
    (folder / "office.epJSON").write_text(json.dumps(document))
    with importable(folder):
        yield folder


def test_a_model_of_ones_own_beside_the_experiment(own):
    mine = {"model": "office.epJSON", "weather": "city.epw"}
    with made(**mine) as env:
        env.reset(seed=1)
        assert len(played(env, 3)) == 3
    with pytest.raises(SimulatorError, match=r"args.begin: .*the model has 2 run periods"):
        make_env(spec(**mine, begin=None, end=None))


def test_a_weather_of_other_days_is_refused_by_name_although_the_warm_up_was_short(own):
    lines = (own / "city.epw").read_text(errors="replace").splitlines()
    july = [line for line in lines[8:] if line.split(",")[1] == "7"]
    period = lines[7].replace(" 1/ 1,12/31", " 7/ 1, 7/31")
    (own / "july.epw").write_text("\n".join([*lines[:7], period, *july]) + "\n")
    with made(weather="july.epw", warm_up_days=2) as env, pytest.raises(RunFailed) as ended:
        env.reset(seed=1)
    assert "in july.epw" in str(ended.value)
    assert "Start=01/31,End=02/01) requested not within Data Period" in str(ended.value)
    assert "CheckWarmupConvergence" not in str(ended.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"Version": {"a": {"version_identifier": "9.4"}}}', "a model of EnergyPlus 9.4"),
        ("{", "cannot be read as a model"),
        ("[]", "cannot be read as a model"),
        ('{"Version": {}}', "cannot be read as a model"),
    ],
)
def test_a_file_that_is_not_a_model_of_this_version_is_refused(own, text, words):
    (own / "other.epJSON").write_text(text)
    with pytest.raises(SimulatorError, match=words) as refusal:
        make_env(spec(model="other.epJSON"))
    assert refusal.value.hint


def test_an_idf_with_a_mistake_is_refused_in_the_engines_words(own):
    (own / "other.idf").write_text("hello")
    with pytest.raises(SimulatorError, match=r'(?s)cannot be read as a model.*Line: 1.*"hello'):
        make_env(spec(model="other.idf"))


def test_the_names_of_a_model_that_cannot_be_run_are_refused_in_the_engines_words(own, capsys):
    document = json.loads((own / "office.epJSON").read_text())
    document["Material"]["Mass NonRes Wall Insulation"]["thickness"] = -1.0
    (own / "thin.epJSON").write_text(json.dumps(document))
    assert main(["list", "points", str(own / "thin.epJSON")]) == 2
    assert "thickness" in capsys.readouterr().err


def test_capitals_do_not_matter():
    rows = []
    for kind in (str, str.lower, str.upper):
        names = {k: kind(v) if v.count("/") < 2 or k == "heating" else v for k, v in NAMES.items()}
        with made(names=names) as env:
            env.reset(seed=1)
            rows.append([i["reward"] for i in played(env, 3)])
    assert rows[0] == rows[1] == rows[2]


def test_an_episode_that_nothing_ended_leaves_nothing_when_its_copy_is_forgotten():
    env = make_env(spec())
    env.reset(seed=1)
    played(env, 3)
    env.close()
    env.close()


def test_the_names_of_a_model_are_listed(capsys):
    assert main(["list", "points", "small_office", "--like", "htgsetp_sch", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [r["name"] for r in rows] == [NAMES["heating"], "Schedule Value/HTGSETP_SCH"]
    names = {p.name: p.unit for p in points.points("small_office")}
    assert names["Zone Mean Air Temperature/CORE_ZN"] == "C"
    assert names["Electricity:Facility"] == "J"
