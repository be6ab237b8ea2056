"""A store that an older commit wrote resumes to the same weights that the old code reaches.

The archives in ``stores/`` were interrupted in the middle (see ``make``). Each test unpacks one
elsewhere, resumes it with the code under test and compares the result with what the old code
reaches from the same archive: weights, normalisation, curves, returns, and the trials of a study.

``recorded.json`` has the old code's results, and the processor and library versions behind them.
On such a machine they are what the old code reaches. On any other machine, the old code is built
from git and resumes the same archive beside the code under test; its results are kept in pytest's
cache. Without the history (a shallow clone) the recorded results count if they are equal;
otherwise such a machine cannot tell, and the test is skipped with the difference between machines.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.compatibility import old_code, stores
from tests.compatibility.make import traces
from tests.compatibility.stores import CASES, Case
from tests.helpers.side_by_side import made_once

Reached = dict[str, Any]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture
def by_old_code(tmp_path, tmp_path_factory):
    """Resume a stored experiment with the old code; raises ``NoHistory``."""

    def resume(case: Case) -> Reached:
        folder = made_once(tmp_path_factory, "old-code", _build)
        return stores.resume(case, stores.unpack(case, tmp_path / "old"), folder / "code")

    return resume


@each_case
def test_resume_reaches_what_the_old_code_reaches(case, tmp_path, by_old_code, request):
    recorded = stores.recorded()["stores"][case.name]
    assert recorded["sha256"] == stores.digest(stores.archive(case)), "run the script make again"
    here, cache = stores.machine(), request.config.cache
    assert cache is not None
    other = _differences(recorded["machine"], here)
    key = hashlib.sha256(json.dumps([recorded["sha256"], here]).encode()).hexdigest()
    place = f"compatibility/{case.name}-{key[:16]}"
    known = cache.get(place, None) if other else recorded["reached"]
    with ThreadPoolExecutor(1) as threads:
        beside = None if known else threads.submit(by_old_code, case)
        reached = _resume(case, tmp_path)
    if reached == known:
        return
    try:
        # Known and different: two machines may differ in something that is not compared.
        expected = beside.result() if beside else by_old_code(case)
        cache.set(place, expected)
    except old_code.NoHistory as error:
        expected = recorded["reached"]
        if other and reached != expected:
            pytest.skip(
                f"git cannot read commit {old_code.COMMIT[:7]} here ({error}), and its results "
                f"were recorded on another machine: {'; '.join(other)}"
            )
    assert not (found := _differences(expected, reached)), "\n".join(found)


@pytest.mark.slow
@each_case
def test_resume_reaches_what_the_old_code_reaches_here_and_now(case, tmp_path, by_old_code):
    """Without the record and the cache: both versions of the code resume the store here."""
    try:
        expected = by_old_code(case)
    except old_code.NoHistory as error:
        pytest.skip(f"git cannot read commit {old_code.COMMIT[:7]} here ({error})")
    assert not (found := _differences(expected, _resume(case, tmp_path))), "\n".join(found)


@each_case
def test_stored_records_do_not_name_the_machine_that_wrote_them(case):
    with tarfile.open(stores.archive(case)) as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None and (member.uid, member.uname) == (0, ""), member.name
            assert not (found := traces(Path(member.name), content.read())), found


def _build(folder: Path) -> None:
    try:
        old_code.build(folder)
    except old_code.NoHistory:
        folder.rmdir()  # the next test makes it again, and gets the same answer
        raise


def _resume(case: Case, scratch: Path) -> Reached:
    """Resume with the code under test, and check that it did not begin again."""
    folder = stores.unpack(case, scratch / "new")
    experiment = folder / stores.STORE / case.name
    step, finished = stores.checkpoints(experiment, case.run)[-1], stores.accepted(experiment)
    assert step > 0 and case.run not in finished
    reached = stores.resume(case, folder)
    run = reached["runs"][case.run]
    assert (run["attempt"], run["resumed"]) == (2, [1, step])
    assert run["steps"] > step and run["streams"]["train"][0] > 0
    assert all(reached["runs"][name]["attempt"] == 1 for name in finished)
    return reached


def _differences(one: Any, other: Any, place: str = "") -> list[str]:
    """List where two results differ: ``runs.t0001-s1.steps: 2048 -> 1024``."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return [] if one == other else [f"{place}: {one} -> {other}"]
    found = []
    for key in sorted({*one, *other}):
        found += _differences(one.get(key), other.get(key), f"{place}.{key}".lstrip("."))
    return found
