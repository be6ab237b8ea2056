"""What all tests share: a home of their own, and one finished main job."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import hypothesis
import pytest

from drillyard_flows import settings
from tests.helpers import quick, rules
from tests.helpers.prefect_homes import begin
from tests.helpers.processes import run_process
from tests.helpers.quick import pytest_addoption
from tests.helpers.side_by_side import (
    made_once,
    pytest_collection,
    pytest_collection_modifyitems,
    pytest_xdist_make_scheduler,
)
from tests.helpers.summary import pytest_unconfigure

__all__ = [
    "pytest_addoption",
    "pytest_collection",
    "pytest_collection_modifyitems",
    "pytest_unconfigure",
    "pytest_xdist_make_scheduler",
]

# Four processes on two cores: where each computes with two threads, they mostly wait for one
# another while spinning (one recurrent network: 38 s of a core instead of 8). Read when torch and
# numpy are imported, and inherited by every command. Workers set their own number for each run.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

# Each HTTP client, Prefect's many too, reads the certificates of all authorities of the web: 20 ms
# of a processor. Nobody beyond this machine is asked, so that one certificate is as good.
os.environ["SSL_CERT_FILE"] = str(Path(__file__).parent / "helpers" / "nobody.pem")

# A shell starts what runs in the background with Ctrl-C ignored, which every child inherits; tests
# that send it would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long a random value takes says something about the machine, and nothing about drillyard.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


def pytest_configure(config: pytest.Config) -> None:
    """What holds for each test."""
    quick.pytest_configure(config)
    config.pluginmanager.register(rules.Rules(config))
    # A program is compiled once on this machine: each took seconds of the processor in each run.
    # What is read back is the same machine code, which test_jax_fused.py proves.
    cache: pytest.Cache | None = getattr(config, "cache", None)
    folder = cache.mkdir("programs") if cache else Path(rules.Rules.folder, "programs")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory):
    """No test reads or writes the user's home, Prefect profile, store or tracking server."""
    home = tmp_path_factory.mktemp("home")
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith(("DRILLYARD_", "PREFECT_", "MLFLOW_")):
            del os.environ[name]
    # matplotlib's font list is the same for every home, and slow to make.
    os.environ.setdefault("MPLCONFIGDIR", str(Path.home() / ".cache" / "matplotlib"))
    os.environ["HOME"] = str(home)
    os.environ["XDG_RUNTIME_DIR"] = str(home / "runtime")
    (home / "runtime").mkdir(mode=0o700)
    yield home
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def chromium():
    """Path of a Chromium that headless tests can start."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        if path:
            return path
    pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")


@pytest.fixture(scope="session")
def prefect_home(own_home, tmp_path_factory):
    """Prefect's home, the same for all processes of this run; its database is begun.

    Our server counts its users in there: the first process starts it, it serves all of them, and
    it ends with the last.
    """
    home = settings.home()
    if not home.exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        home.symlink_to(made_once(tmp_path_factory, "prefect", begin), target_is_directory=True)
    return home


@pytest.fixture(scope="session")
def finished_cstr(prefect_home, tmp_path_factory):
    """The store after the main job, run once for all tests by its own command: read it only."""
    return made_once(tmp_path_factory, "main-job", _main_job) / "drillyard-runs"


def _main_job(folder: Path) -> None:
    shutil.copytree(ROOT / "experiments", folder / "experiments")
    done = run_process([str(BIN / "drillyard"), "run", "experiments/cstr.yaml"], cwd=folder)
    (folder / "output.txt").write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
