"""``--quick``: the tests that start no process and no server, and train nothing.

A test that does one of these is marked ``heavy``. With ``--quick`` heavy tests are left out, and
one that should have been marked fails, so that the mark stays true.
"""

from __future__ import annotations

import multiprocessing.util
import re
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from drillyard.system.platform_info import platform_info

ACTS = {
    "subprocess.Popen": "starts a process",
    "os.fork": "starts a process",
    "os.forkpty": "starts a process",
    "os.posix_spawn": "starts a process",
    "os.system": "starts a process",
    "socket.bind": "starts a server",
}
"""Audit events of Python -> what they mean."""
NOT_COUNTED = {
    # Takes milliseconds, and only happens where no earlier test imported torch.
    ("os.fork", "drillyard.system.watchdog"),
    # Finds out at its import whether this machine has IPv6.
    ("socket.bind", "urllib3.util.connection"),
}
"""(event, module of the caller) that no test is blamed for: which one causes it is chance."""
WHOLE = re.compile(r"^pytestmark = .*\bpytest\.mark\.heavy\b", re.M)
"""What a file has whose tests are all heavy; some of these import what takes seconds."""
seen: set[str] = set()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--quick", action="store_true", help="leave out the tests marked heavy")


def pytest_configure(config: pytest.Config) -> None:
    """Listen to what tests do."""
    if not config.getoption("--quick"):
        return
    # What this machine is, is asked of programs once, whichever test comes first.
    platform_info()
    sys.addaudithook(lambda event, _: _note(event) if event in ACTS else None)
    spawn = multiprocessing.util.spawnv_passfds  # raises no audit event

    def noted(*given: Any) -> int:
        seen.add("starts a process")
        return spawn(*given)

    multiprocessing.util.spawnv_passfds = noted
    config.pluginmanager.register(Watch())


def _note(event: str) -> None:
    """Note an act, unless one of the modules in ``NOT_COUNTED`` does it."""
    frame = sys._getframe()
    callers: list[str] = []
    while frame.f_back is not None:
        frame = frame.f_back
        callers.append(f"{frame.f_globals.get('__name__')}:{frame.f_lineno}")
        if (event, frame.f_globals.get("__name__")) in NOT_COUNTED:
            return
    # A caller may be a library, or a thread of an earlier test.
    seen.add(f"{ACTS[event]} ({threading.current_thread().name}: {' < '.join(callers[1:7])})")


class Watch:
    """Deselects what is marked, and refuses what should have been."""

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Do not import files of which nothing would be left."""
        if collection_path.suffix != ".py" or not collection_path.name.startswith("test_"):
            return None
        return True if WHOLE.search(collection_path.read_text()) else None

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Leave out heavy tests."""
        heavy = [item for item in items if item.get_closest_marker("heavy")]
        config.hook.pytest_deselected(items=heavy)
        items[:] = [item for item in items if item not in set(heavy)]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        """Forget what happened between two tests; notice trainings from now on."""
        seen.clear()
        _notice_training()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None]:
        """Refuse a test that does what takes long."""
        yield
        if seen:
            pytest.fail(f"this test {' and '.join(sorted(seen))}: mark it `heavy`", pytrace=False)


def _notice_training() -> None:
    """Wrap what every algorithm calls first, once its library is imported."""
    module = sys.modules.get("stable_baselines3.common.base_class")
    if module is None or hasattr(module.BaseAlgorithm._setup_learn, "noticed"):
        return
    real = module.BaseAlgorithm._setup_learn

    def noticed(*given: Any, **more: Any) -> Any:
        seen.add("trains")
        return real(*given, **more)

    noticed.noticed = True  # type: ignore[attr-defined]
    module.BaseAlgorithm._setup_learn = noticed
