"""Drillyard's wheels: what is in them, the one that travels, and how a machine starts from it."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from drillyard.backend import Order
from drillyard.cli.main import main
from drillyard.mailbox import open_store
from drillyard_backends import from_wheel, wheel
from tests.helpers import rules
from tests.helpers.environments import without_drillyard
from tests.helpers.processes import run_process

ROOT = Path(__file__).parents[3]
EMULATORS = ROOT / "backends" / "drillyard_emulators"
RUN = "import drillyard, sys; drillyard.run(sys.argv[1], store=sys.argv[2], flow=False)"
MOCK = "schema: 1\nname: a\nworkload: mock\nseeds: [1]\nresources: {workers: 1}\n"


def built(project: Path, folder: Path) -> zipfile.ZipFile:
    """The wheel of a project, as a release has it."""
    run_process(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=project,
        check=True,
    )
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return built(ROOT, tmp_path_factory.mktemp("wheel"))


def hash_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def packages(archive: zipfile.ZipFile) -> set[str]:
    return {name.partition("/")[0] for name in archive.namelist()}


def entry_points(archive: zipfile.ZipFile) -> str:
    (name,) = (n for n in archive.namelist() if n.endswith("/entry_points.txt"))
    return archive.read(name).decode()


@pytest.mark.heavy
def test_the_wheel_contains_no_emulator(own):
    assert packages(own) == {*wheel.PACKAGES, "drillyard-0.1.0.dist-info"}
    assert "emulat" not in entry_points(own)


@pytest.mark.heavy
def test_the_emulators_are_a_distribution_of_their_own(tmp_path):
    archive = built(EMULATORS, tmp_path)
    assert packages(archive) == {"drillyard_emulators", "drillyard_emulators-0.1.0.dist-info"}
    sources = (p for pattern in ("*.py", "*.sh") for p in EMULATORS.rglob(pattern))
    modules = {p.relative_to(EMULATORS.parent).as_posix() for p in sources}
    modules |= {"drillyard_emulators/py.typed", "drillyard_emulators/LICENSE"}
    assert modules == {n for n in archive.namelist() if n.startswith("drillyard_emulators/")}
    found = entry_points(archive)
    assert "[drillyard.commands]" in found and "[drillyard.rehearsals]" in found


def test_both_distributions_have_one_version():
    own, theirs = (
        tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        for folder in (ROOT, EMULATORS)
    )
    assert own["version"] == theirs["version"]
    pin = f"=={own['version']}"
    assert own["optional-dependencies"]["rehearse"] == [f"drillyard-emulators{pin}"]
    assert f"drillyard{pin}" in theirs["dependencies"]


@pytest.mark.heavy
def test_what_travels_is_what_a_release_has(own):
    """But for files that only ``drillyard deploy`` reads, and the notes of who built it."""
    with zipfile.ZipFile(io.BytesIO(wheel.pack().data)) as packed:
        names = {n for n in packed.namelist() if ".dist-info/" not in n}
        left_out = (".dist-info/", "drillyard_flows/deploying/files/")
        assert names == {n for n in own.namelist() if not any(part in n for part in left_out)}
        assert [n for n in names if packed.read(n) != own.read(n)] == []
        assert entry_points(packed) == entry_points(own)
    assert wheel.pack() == wheel.pack.__wrapped__()  # the same content gives the same file


def test_it_is_sent_once_and_named_by_its_hash(tmp_path):
    order = Order(lease_id="dy-0123456789", experiment="x", store_url=str(tmp_path))
    key = wheel.send(order)
    assert key == f"x/code/{wheel.pack().sha256}.whl"
    file = tmp_path / key
    assert hash_of(file) == wheel.pack().sha256
    before = file.stat().st_mtime_ns
    assert wheel.send(order) == key and file.stat().st_mtime_ns == before
    open_store(str(tmp_path)).put(key, b"half of it")
    wheel.send(order)
    assert hash_of(file) == wheel.pack().sha256


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    """The interpreter of a worker's environment: pip has installed the wheel, and no more."""
    folder = tmp_path_factory.mktemp("worker")
    python = without_drillyard(folder / "venv")
    file = folder / "drillyard-0.1.0-py3-none-any.whl"
    file.write_bytes(wheel.pack().data)
    run_process(
        [
            str(python),
            "-m",
            "pip",
            "install",
            "-q",
            "--no-index",
            "--no-deps",
            "--disable-pip-version-check",
            str(file),
        ],
        check=True,
    )
    return python


def run(python: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run_process(
        [str(python), *words],
        cwd=folder,
        more={"DRILLYARD_HOME": str(folder / "home"), "PATH": "/usr/bin:/bin"},
    )


@pytest.mark.heavy
def test_a_worker_with_the_wheel_alone_runs_a_ticket(worker, tmp_path):
    (tmp_path / "a.yaml").write_text(MOCK)
    done = run(worker, tmp_path, "-c", RUN, "a.yaml", "store")
    assert done.returncode == 0, done.stdout + done.stderr
    done = run(worker, tmp_path, "-m", "drillyard.cli.start", "results", "a", "--store", "store")
    assert "SUCCEEDED" in done.stdout, done.stdout + done.stderr
    look = "import drillyard; print(drillyard.__file__); import drillyard_emulators"
    done = run(worker, tmp_path, "-c", look)
    assert done.stdout.startswith(str(worker.parent.parent))
    assert "No module named 'drillyard_emulators'" in done.stderr


@pytest.mark.heavy
def test_without_its_extra_rehearse_is_refused_with_the_line_that_installs_it(worker, tmp_path):
    for words in (["a.yaml", "--on", "gcp", "--fault", "preempt=1"], []):
        done = run(worker, tmp_path, "-m", "drillyard.cli.start", "rehearse", *words)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert "drillyard rehearse needs packages that are not installed" in done.stderr
        assert "drillyard-emulators" in done.stderr
        assert "pip install 'drillyard[rehearse]'" in done.stderr
    done = run(worker, tmp_path, "-m", "drillyard.cli.start", "rehearse", "--help")
    assert done.returncode == 0 and "which is not installed" in done.stdout


def test_what_the_emulators_bring_is_built_in(capsys):
    assert metadata.distribution("drillyard-emulators")
    assert main(["list", "plugins"]) == 0
    assert "emulat" not in capsys.readouterr().out


def unpacked(folder: Path, *requirements: str) -> Path:
    info = folder / "drillyard-9.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.4", "Name: drillyard", "Version: 9", *requirements]
    (info / "METADATA").write_text("\n".join(lines) + "\n\nText.\n")
    return folder


def test_an_environment_without_what_a_wheel_requires_is_named(tmp_path):
    needs = unpacked(
        tmp_path / "a",
        "Requires-Python: >=3.99",
        "Requires-Dist: numpy>=1",
        "Requires-Dist: no-such-package<2,>=1",
        "Requires-Dist: no-such-extra; extra == 'gcp'",
    )
    found = from_wheel.missing(needs)
    assert found == [f"Python 3.99 (this is {sys.version.split()[0]})", "no-such-package"]
    assert from_wheel.missing(unpacked(tmp_path / "b", "Requires-Python: >=3.11")) == []


@pytest.mark.heavy
def test_a_program_starts_from_the_wheel_and_not_from_what_is_installed(tmp_path):
    file = tmp_path / "other.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for name in unpacked(tmp_path / "there").rglob("METADATA"):
            archive.write(name, name.relative_to(tmp_path / "there"))
        archive.writestr("drillyard_backends/__init__.py", "")
        archive.write(from_wheel.__file__, "drillyard_backends/from_wheel.py")
        archive.writestr(
            "drillyard/__init__.py",
            "import os; from importlib.metadata import version as v\n"
            "print(__file__, v('drillyard'), os.environ['PYTHONPATH'])\n",
        )
        archive.writestr("drillyard/program.py", "import sys; sys.exit(7)\n")
    done = run_process(
        [sys.executable, "-m", "drillyard_backends.from_wheel", str(file), "drillyard.program"],
        cwd=tmp_path,
        more={"PYTHONPATH": rules.path(file, "/others"), "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 7, done.stderr
    place, version, path = done.stdout.split()
    assert place.startswith(f"{tmp_path}/drillyard-") and version == "9"
    assert path == f"{Path(place).parent.parent}:{rules.path('/others')}"
