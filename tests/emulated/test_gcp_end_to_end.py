"""The whole way on the emulated cloud: real command, start-up script, agents and training."""

import json
import os
import signal
import sys
import time
import zipfile
from pathlib import Path

import pytest

from drillyard.backend import Liveness
from drillyard.leases.ledger import Ledger
from drillyard.mailbox import Mailbox, open_store
from drillyard.mailbox.records import Phase
from drillyard.results.fingerprint import fingerprint
from drillyard_backends.gcp import wheelhouse
from drillyard_backends.gcp.backend import GcpBackend
from drillyard_emulators.http.handle import GcpEmulator
from tests.helpers import rules
from tests.helpers.environments import link_others, without_drillyard
from tests.helpers.mirrors import LiveServer
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.processes import run_process
from tests.helpers.records import order_of
from tests.helpers.rented import Lab
from tests.helpers.webhook import webhook

REACTOR = """
schema: 1
name: reactor
simulator:
  id: cstr
  wrappers: [normalize]
  lesson: {Cref_signal: {values: [1, 2, 3, 4, 5]}}
learner: {algorithm: ppo}
train: {steps: 8192, n_envs: 4, checkpoint_every: 2048}
evaluate: {episodes: 3}
seeds: [1, 2, 3]
budget: {max_hours: 1, max_cost: 5}
resources: {workers: 3, threads: 1}
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    with GcpEmulator(tmp_path / "cloud") as cloud:
        laptop = Lab(cloud, tmp_path, monkeypatch)
        try:
            yield laptop
        finally:
            laptop.close()


def local_hashes(lab: Lab, file: Path, runs: list[str]) -> dict[str, str]:
    """The same experiment on this machine."""
    store = lab.folder / "here"
    program = "import drillyard, sys; drillyard.run(sys.argv[1], store=sys.argv[2], flow=False)"
    done = run_process(
        [sys.executable, "-c", program, str(file), str(store)],
        cwd=lab.folder,
        more={"HOME": str(lab.folder), "DRILLYARD_HOME": str(lab.folder / ".local")},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    mailbox = Mailbox(open_store(str(store)), "reactor")
    return {run: fingerprint(mailbox, run) for run in runs}


@pytest.mark.parametrize("machines", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_machines_one_taken_away_and_the_hashes_of_local_runs(lab, machines):
    """One machine a run, results in the bucket, nothing left."""
    lab.cloud.ask("trigger", objects="checkpoints/.*manifest", count=1, what="preempt", times=1)
    seeds = list(range(1, machines + 1))
    file = lab.write(REACTOR.replace("seeds: [1, 2, 3]", f"seeds: {seeds}"))
    lab.run("run", str(file), "--on", "gcp")
    assert lab.left() == {}
    assert lab.cloud.state()["templates"] in ([], {})
    lived = lab.cloud.state()["all_machines"]
    # A machine that has done its own run may take the other one over before a new one is made.
    assert machines <= len(lived) <= machines + 1
    assert sum(m["preempted"] for m in lived) == 1
    mailbox = lab.mailbox("reactor")
    runs = [r.run for r in mailbox.runs()]
    assert len(runs) == machines
    endings = [mailbox.ending(t, n) for t, n, ended in mailbox.claims() if ended]
    causes = [e.cause.value for e in endings if e is not None and e.cause is not None]
    assert causes == ["preemption"]
    taken = next(e for e in endings if e is not None and e.cause is not None)
    resumed = mailbox.accepted(taken.ticket.partition(".")[0], Phase.TRAIN)
    assert resumed is not None and resumed.attempt == 2
    # Event files were uploaded by the machine that was taken away, not only at the end.
    first = f"/{taken.ticket.partition('.')[0]}/attempts/train-1/tensorboard/"
    assert any(first in key for key in lab.cloud.ask("objects", bucket=lab.bucket))
    assert {r: fingerprint(mailbox, r) for r in runs} == local_hashes(lab, file, runs)
    # Clients of Azure that other tests of this process left polling come by the same proxy.
    assert set(lab.cloud.state()["refused_hosts"]) <= {"management.azure.com"}


@pytest.mark.extended
@pytest.mark.parametrize("held", ["the answer is late", "no zone has room"])
def test_an_interrupt_while_machines_are_made_leaves_nothing(lab, held):
    if held == "the answer is late":
        lab.cloud.fault(r"instanceGroupManagers\?", method="POST", delay_s=5)
    else:
        lab.cloud.physics(stockouts=[{"zone": ".*"}])
    file = lab.write("name: quick\nworkload: mock\nbudget: {max_hours: 1, max_cost: 5}\n")
    child = lab.start("run", str(file), "--on", "gcp", "--no-prefect")

    def at_it() -> bool:
        if held == "the answer is late":  # the template is there, and the group is not
            return bool(lab.cloud.state()["templates"])
        return bool(lab.cloud.log("POST .*createInstances"))

    until(lambda: at_it() or child.poll() is not None, what="a request for machines")
    child.send_signal(signal.SIGINT)
    signalled = time.time()
    assert child.wait(PATIENCE_S) == 130, lab.said
    print(f"{held}: ended {time.time() - signalled:.1f} s after the signal")
    assert time.time() - signalled < 60
    assert lab.left() == {} and lab.cloud.state()["templates"] in ([], {})
    assert not [each.lease for each in Ledger(lab.mailbox("quick")).entries() if each.open]
    lab.cloud.clear_faults()
    lab.cloud.physics(stockouts=[])
    lab.run("run", str(file), "--on", "gcp", "--no-prefect")
    assert lab.left() == {}


@pytest.fixture
def hook():
    with webhook() as found:
        yield found


@pytest.fixture
def tracker(tmp_path):
    server = LiveServer(tmp_path / "tracker")
    server.start()
    yield server
    server.kill()


@pytest.mark.slow
def test_the_lid_is_closed_and_one_machine_dies_without_a_word(lab, hook, tracker):
    """Nobody drives: the machine that is left buries, finishes, stores, tells, and goes.

    What it tells is a webhook and a real MLflow server; curves are seen while it works.
    """
    two = REACTOR.replace("seeds: [1, 2, 3]", "seeds: [1, 2]")
    file = lab.write(f"{two}notify: {hook.url}\ntracking: {{mlflow: '{tracker.uri}'}}\n")
    driver = lab.start("run", str(file), "--on", "gcp")
    mailbox = lab.mailbox("reactor")

    def trained_a_little() -> bool:
        assert driver.poll() is None, lab.said
        found = list(lab.cloud.ask("objects", bucket=lab.bucket))
        return len([k for k in found if "checkpoints" in k and "manifest" in k]) >= 2

    until(trained_a_little, what="checkpoints")
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    curves = lab.run("tensorboard", f"gs://{lab.bucket}/reactor", "--no-serve", "--folder", "tb")
    assert "files of 2 runs in" in curves
    lab.cloud.happen("cut", lab.cloud.state()["machines"][0]["name"])
    until(lambda: lab.left() == {}, what=f"an empty project: {lab.left()}")
    for run in ("t0001-s1", "t0001-s2"):
        assert mailbox.accepted(run, Phase.STORE) is not None, lab.serials()
    assert [t["state"] for t in hook.told] == ["done"]
    assert hook.told[0]["counts"] == {"SUCCEEDED": 2}
    from mlflow import MlflowClient  # takes a second

    client = MlflowClient(tracker.uri)
    found = client.search_runs([client.get_experiment_by_name("reactor").experiment_id])
    ended = {r.info.run_name: r.info.status for r in found}
    assert ended["t0001-s1"] == ended["t0001-s2"] == "FINISHED"
    one = next(r for r in found if r.info.run_name == "t0001-s1")
    points = client.get_metric_history(one.info.run_id, "rollout/episodes")
    assert max(point.step for point in points) == 8192
    said = lab.run("run", str(file), "--on", "gcp")
    assert "nothing to do" in said
    made = len(lab.cloud.state()["all_machines"])
    assert made == 2
    assert lab.cloud.state()["templates"] in ([], {})


@pytest.fixture
def rented(lab):
    backend = GcpBackend(
        project=lab.cloud.project,
        bucket=lab.bucket,
        listing_lag_s=0.0,
        idle_s=1.0,
        service_account=lab.cloud.service_account,
    )
    backend.prepare_store(backend.store_url())
    # Of this test alone: processes are found by it on the whole machine.
    return backend, order_of(backend.store_url(), workers=2)


def test_two_last_machines_leave_nothing(lab, rented):
    """Both find nothing to do at the same moment; requests and answers get lost on top."""
    backend, order = rented
    lab.cloud.fault("deleteInstances", lose=True, after=True, times=1)
    lab.cloud.fault("instanceGroupManagers/dy", method="DELETE", status=503, times=1)
    lease = backend.provision(order)
    until(lambda: len(lab.cloud.state()["all_machines"]) == 2, what="two machines")
    until(lambda: lab.left() == {}, what=f"an empty project: {lab.left()}")
    assert backend.probe(lease) is Liveness.GONE
    assert all(m["ended_by"] == "deleted" for m in lab.cloud.state()["all_machines"])
    lines = "\n".join(backend.logs(lease))
    assert "nothing left to do" in lines or "ending" in lines
    backend.teardown(lease)
    assert list(backend.leases()) == []


def test_two_machines_that_cannot_start_end_the_run_with_their_words(lab):
    """Each says why and goes; the second is no on-demand machine, and there is no third."""
    lab.cloud.ask("machine_env", DRILLYARD_PREFIX="/nowhere", DRILLYARD_LAST_WORDS_S="6")
    path = lab.write(REACTOR.replace("seeds: [1, 2, 3]", "seeds: [1]"))
    child = lab.start("run", str(path), "--on", "gcp", "--no-prefect", ON_DEMAND_AFTER="1")
    assert child.wait(PATIENCE_S) == 4, lab.said
    assert "two machines in europe-west1-b ended in the same way" in lab.said
    assert "no /nowhere/bin/python on this image" in lab.said
    machines = lab.cloud.state()["all_machines"]
    assert [machine["spot"] for machine in machines] == [True, True]
    assert lab.left() == {}


def test_a_machine_works_with_the_drillyard_that_rents_it(lab, rented, tmp_path):
    """Its image has none: the wheel comes from the bucket. What google-auth asks for beside it
    (allowedLocations) may be refused, and nobody reads of that."""
    backend, order = rented
    python = without_drillyard(tmp_path / "image")
    lab.cloud.ask("machine_env", DRILLYARD_PREFIX=str(python.parent.parent))
    lease = backend.provision(order.model_copy(update={"workers": 1}))
    try:
        until(lambda: any("is ready" in x for x in backend.logs(lease)), what="an agent")
    except AssertionError as error:
        raise AssertionError(lab.serials()) from error
    until(lambda: lab.cloud.log("allowedLocations"), what="the question of google-auth")
    assert "Regional" not in lab.serials() and "WARNING" not in lab.serials()
    backend.teardown(lease)
    until(lambda: lab.left() == {}, what="an empty project")


def test_a_machine_installs_from_a_wheelhouse(lab, rented, tmp_path):
    """The wheel of this very tree, pip itself, and a stand-in for the hundreds of megabytes."""
    backend, order = rented
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    run_process(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "--disable-pip-version-check",
            "-w",
            str(wheels),
            str(Path(__file__).parents[2]),
        ],
        check=True,
    )
    _pack_pip(wheels)
    listing = json.loads(wheelhouse.index(wheels, ""))
    listing["install"] = ["--no-deps", "drillyard"]
    place = f"gs://{lab.bucket}/wheels"
    store = open_store(place)
    for name in listing["files"]:
        store.upload(name, wheels / name)
    store.put(wheelhouse.INDEX, json.dumps(listing).encode())

    prefix = tmp_path / "prefix"
    link_others(tmp_path / "others")
    lab.cloud.ask(
        "machine_env", DRILLYARD_PREFIX=str(prefix), PYTHONPATH=rules.path(tmp_path / "others")
    )
    own = GcpBackend(**{**backend.config.model_dump(exclude_unset=True), "wheelhouse": place})
    lease = own.provision(order.model_copy(update={"workers": 1}))
    try:
        until(lambda: any("is ready" in x for x in own.logs(lease)), what="an agent")
    except AssertionError as error:
        raise AssertionError(lab.serials()) from error
    assert (prefix / "bin" / "python").exists()
    assert list(prefix.glob("lib/python3*/site-packages/drillyard_backends/gcp/machine.py"))
    own.teardown(lease)
    until(lambda: lab.left() == {}, what="an empty project")


def _pack_pip(wheels: Path) -> None:
    """The pip that runs these tests, as the wheel that bootstraps it on a machine."""
    import pip

    folder = Path(pip.__file__).parent
    with zipfile.ZipFile(wheels / f"pip-{pip.__version__}-py3-none-any.whl", "w") as archive:
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, Path("pip") / path.relative_to(folder))
