"""What is wrong with an FMU, or does not fit it, is refused by name."""

from __future__ import annotations

import stat
import zipfile

import pytest

from drillyard.errors import (
    ConfigError,
    SimulatorError,
)
from drillyard.simulators.fmu.description import read_model
from drillyard.simulators.make import make_env
from tests.helpers.tanks import NAMES, made, spec

pytestmark = pytest.mark.heavy  # compiles models


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
        archive.writestr("modelDescription.xml", archive.read("modelDescription.xml"))
    assert read_model(twice.name).version == 2  # the same content: some tools write it
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
