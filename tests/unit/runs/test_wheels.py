"""Wheels of ``requirements:``: resolved here, sent once, installed without an index."""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path

import pytest

from drillyard.backend import Order
from drillyard.errors import CorruptObject, StoreUnavailable, UserError
from drillyard.mailbox import Mailbox, open_store
from drillyard.runs import wheel_resolution, wheels
from drillyard.runs.code_archive import install
from drillyard.runs.requirements import install_requirements
from drillyard.runs.wheel_resolution import Target
from drillyard.runs.wheels import THIS_PYTHON as HERE
from tests.helpers.wheel_index import serve, source_only, wheel

pytestmark = pytest.mark.heavy
NEXT = f"{sys.version_info[0]}.{sys.version_info[1] + 1}"
MACHINES = Target("gcp", HERE, ("rl", "gcs"))


@pytest.fixture(autouse=True)
def index(tmp_path, monkeypatch):
    wheel_resolution.resolve.cache_clear()
    folder = tmp_path / "index"
    wheel(folder, "dy_leaf", "1.5")
    wheel(folder, "dy_root", "2.0", "dy_leaf>=1,<3", "numpy>=1.26", "torch")
    wheel(folder, "dy_old", "1.0", "dy_leaf", f"dy_absent; python_version < '{HERE}'")
    wheel(folder, "dy_mac", "1.0", "dy_absent; sys_platform == 'darwin'")
    wheel(folder, "dy_for_next", "1.0", f"dy_leaf; python_version >= '{NEXT}'")
    wheel(folder, "dy_other", "1.0", "dy_leaf>=2")
    wheel(folder, "dy_first", "1.0", "dy_leaf<2")
    wheel(folder, "dy_new_numpy", "1.0", "numpy>=99")
    tag = f"cp{HERE.replace('.', '')}"
    wheel(folder, "dy_native", "1.0", tag=f"{tag}-{tag}-manylinux_2_17_x86_64")
    source_only(folder, "dy_source", "1.0")
    serve(folder, monkeypatch)
    return folder


@pytest.fixture
def mailbox(tmp_path):
    return Mailbox(open_store(str(tmp_path / "store")), "exp")


def order(mailbox: Mailbox, *lines: str, number: int = 1) -> Order:
    return Order(
        lease_id=f"dy-{number:010x}",
        experiment="exp",
        store_url=mailbox.store.url,
        requirements=list(lines),
    )


def stored(mailbox: Mailbox) -> list[str]:
    return [info.key for info in mailbox.store.list("exp/code/") if info.key.endswith(".whl")]


def pins(*lines: str, target: Target = MACHINES) -> list[str]:
    return sorted(wheel_resolution.resolve(lines, target))


def test_what_machines_have_stays_and_the_rest_travels():
    assert pins("dy_root==2.0") == ["dy_leaf==1.5", "dy_root==2.0"]


def test_conditions_are_judged_for_the_python_of_the_machines():
    assert pins("dy_old==1.0", "dy_mac==1.0") == ["dy_leaf==1.5", "dy_mac==1.0", "dy_old==1.0"]
    assert pins("dy_for_next==1.0") == ["dy_for_next==1.0"]
    there = Target("gcp", NEXT, ("rl", "gcs"))
    assert pins("dy_for_next==1.0", target=there) == ["dy_for_next==1.0", "dy_leaf==1.5"]


def test_what_drillyard_needs_on_other_systems_alone_is_on_no_machine(index):
    """MLflow's needs it on Python 3.10 and older; it may be installed here anyway."""
    wheel(index, "exceptiongroup", "9.0")
    wheel(index, "dy_groups", "1.0", "exceptiongroup")
    target = Target("gcp", HERE, ("rl", "mirror", "gcs"))
    assert pins("dy_groups==1.0", target=target) == ["dy_groups==1.0", "exceptiongroup==9.0"]


def test_an_extra_of_drillyard_is_a_requirement_like_any_other(index):
    wheel(index, "fmpy", "0.3.32", "dy_leaf")
    assert pins("drillyard[fmu]==0.1.0") == ["dy_leaf==1.5", "fmpy==0.3.32"]


def test_a_package_of_drillyards_travels_where_it_is_named(index):
    wheel(index, "numpy", "99.0")
    assert pins("dy_new_numpy==1.0", "numpy==99.0") == ["dy_new_numpy==1.0", "numpy==99.0"]


@pytest.mark.parametrize(
    ("lines", "python", "words", "fix"),
    [
        (
            ["dy_source==1.0"],
            HERE,
            "requirement dy_source==1.0 has no wheel for Python",
            "an image",
        ),
        (["dy_native==1.0"], NEXT, f"dy_native==1.0 has no wheel for Python {NEXT}", "a NAT"),
        (["dy_nowhere==1.0"], HERE, "dy_nowhere==1.0 has no wheel", "name and version"),
        (
            ["dy_first==1.0", "dy_other==1.0"],
            HERE,
            "contradict each other: dy-first 1.0 depends on dy_leaf<2; dy-other 1.0 depends on",
            "other versions",
        ),
        (["dy_new_numpy==1.0"], HERE, "numpy>=99; machines have numpy==", "other versions"),
    ],
)
def test_what_machines_cannot_install_is_refused_with_a_way_out(
    mailbox, index, lines, python, words, fix
):
    wheel(index, "dy_leaf", "2.5")
    target = Target("gcp", python, ("rl", "gcs"))
    with pytest.raises(UserError) as refused:
        wheels.send(order(mailbox, *lines), target)
    assert words in refused.value.message and fix in str(refused.value.hint)
    assert stored(mailbox) == []
    (finding,) = wheels.examine(order(mailbox, *lines), target)
    assert finding.message == refused.value.message and finding.severity.value == "error"


def test_an_environment_without_pip_says_how_to_get_it(mailbox, tmp_path, monkeypatch):
    """As uv makes them."""
    (tmp_path / "pip.py").write_text("raise ModuleNotFoundError(\"No module named 'pip'\")")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(UserError, match="has no pip") as refused:
        wheels.send(order(mailbox, "dy_leaf==1.5"), MACHINES)
    assert "ensurepip" in str(refused.value.hint)


def test_too_many_bytes_are_refused_before_they_are_sent(mailbox, monkeypatch):
    monkeypatch.setattr(wheel_resolution, "MAX_BYTES", 100)
    with pytest.raises(UserError, match="MB travel to machines"):
        wheels.send(order(mailbox, "dy_root==2.0"), MACHINES)
    assert stored(mailbox) == []


def test_a_server_of_files_that_answers_nonsense_tells_no_size():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as connection:
                connection.recv(1000)
                connection.sendall(b"nonsense\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/dy_leaf-1.5-py3-none-any.whl"
        assert wheel_resolution._size(address) == 0
        thread.join()


def test_wheels_are_sent_once_and_the_next_lease_asks_no_index(mailbox, monkeypatch, tmp_path):
    wheels.send(order(mailbox, "dy_root==2.0"), MACHINES)
    names = stored(mailbox)
    assert len(names) == 2
    wheel_resolution.resolve.cache_clear()
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    wheels.send(order(mailbox, "dy_root==2.0", number=2), MACHINES)
    assert stored(mailbox) == names
    assert wheels.fetch(mailbox, "dy-0000000002", tmp_path) == tmp_path


def test_the_same_versions_are_sent_again_after_the_wheels_were_deleted(mailbox, index):
    wheels.send(order(mailbox, "dy_root==2.0"), MACHINES)
    names = stored(mailbox)
    wheels.sweep(mailbox)
    assert stored(mailbox) == []
    wheel(index, "dy_leaf", "2.5")
    wheel_resolution.resolve.cache_clear()
    wheels.send(order(mailbox, "dy_root==2.0", number=2), MACHINES)
    assert stored(mailbox) == names


def test_wheels_that_cannot_be_deleted_do_not_fail_what_has_succeeded(mailbox, monkeypatch):
    wheels.send(order(mailbox, "dy_leaf==1.5"), MACHINES)

    def away(key):
        raise StoreUnavailable("503")

    monkeypatch.setattr(mailbox.store, "delete", away)
    wheels.sweep(mailbox)
    assert len(stored(mailbox)) == 1


def test_a_machine_installs_from_the_store_alone(mailbox, monkeypatch, tmp_path):
    wheels.send(order(mailbox, "dy_root==2.0"), MACHINES)
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.delenv("PIP_FIND_LINKS")
    (site,) = install(mailbox, None, ["dy_root==2.0"], tmp_path / "w", "dy-0000000001")
    assert sorted(path.name for path in site.glob("*.py")) == ["dy_leaf.py", "dy_root.py"]
    assert not list((tmp_path / "w").rglob("*.whl"))


def test_a_damaged_wheel_is_not_installed(mailbox, tmp_path):
    wheels.send(order(mailbox, "dy_leaf==1.5"), MACHINES)
    (key,) = stored(mailbox)
    mailbox.store.put(key, b"something else")
    with pytest.raises(
        CorruptObject, match=r"dy_leaf-1\.5-py3-none-any\.whl is not what was sent"
    ):
        install(mailbox, None, ["dy_leaf==1.5"], tmp_path / "w", "dy-0000000001")
    mailbox.store.delete(key)
    with pytest.raises(CorruptObject, match="is missing"):
        install(mailbox, None, ["dy_leaf==1.5"], tmp_path / "w", "dy-0000000001")


def test_wheels_for_another_python_are_refused_with_the_setting(mailbox, tmp_path):
    wheels.send(order(mailbox, "dy_leaf==1.5"), Target("gcp", NEXT, ("rl", "gcs")))
    with pytest.raises(UserError, match=f"are for Python {NEXT} .* has Python {HERE}") as refused:
        install(mailbox, None, ["dy_leaf==1.5"], tmp_path / "w", "dy-0000000001")
    assert f"python: '{HERE}'" in str(refused.value.hint)


def test_a_package_that_this_machine_has_in_another_version_is_named(mailbox, index, tmp_path):
    """Machines have another numpy than this computer."""
    wheel(index, "dy_numpy", "1.0", "numpy>=99")
    wheels.send(order(mailbox, "dy_leaf==1.5"), MACHINES)
    place = Path(str(wheels.fetch(mailbox, "dy-0000000001", tmp_path)))
    wheel(place, "dy_numpy", "1.0", "numpy>=99")
    with pytest.raises(UserError, match="numpy>=99 cannot be found") as refused:
        install_requirements(["dy_numpy==1.0"], tmp_path / "w", place)
    assert "name the package in `requirements:`" in str(refused.value.hint)


def test_an_index_that_is_away_is_said_and_decides_nothing(mailbox, monkeypatch):
    away = {"NO_INDEX": "0", "RETRIES": "0", "INDEX_URL": "http://127.0.0.1:9/simple"}
    for name, value in away.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (finding,) = wheels.examine(order(mailbox, "dy_absent==1.0"), MACHINES)
    assert finding.severity.value == "warning"
    assert "not checked" in finding.message and "does not answer" in finding.message


def test_machines_that_ask_an_index_themselves_need_a_way_to_it(mailbox):
    (finding,) = wheels.examine(order(mailbox, "dy_source==1.0"), None)
    assert finding.severity.value == "warning" and "a NAT" in str(finding.fix)
    wheels.send(order(mailbox, "dy_source==1.0"), None)
    assert stored(mailbox) == []
