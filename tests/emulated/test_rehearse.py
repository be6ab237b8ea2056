"""A user's own experiment on the emulated cloud, and the account at the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.processes import run_process

pytest.importorskip("google.cloud.compute_v1")

from drillyard.errors import ConfigError
from drillyard_emulators.faults import Fault, parse_faults
from drillyard_emulators.gcp.rehearsal import KINDS, GcpRehearsal
from tests.helpers.compute_client import Compute
from tests.helpers.patience import PATIENCE_S

BUDGET = ("--set", "budget.max_hours=1", "--set", "budget.max_cost=1")
BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]


MOCK = str(ROOT / "experiments" / "mock.yaml")


def rehearse(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run_process([str(BIN / "drillyard"), "rehearse", *words], cwd=folder)


def account_of(folder: Path, file: str, kind: str, *words: str, faults: Sequence[str] = ()) -> Any:
    """The account of a rehearsal that succeeds and leaves nothing."""
    given = [word for fault in faults for word in ("--fault", fault)]
    done = rehearse(folder, MOCK, "--on", kind, "--json", *words, *given)
    assert done.returncode == 0, done.stdout + done.stderr
    account = json.loads(done.stdout)
    assert account["left"] == [] and account["made"] >= 1
    return account


def played(account: Any) -> dict[str, int]:
    """How often each fault of an account was played."""
    return {entry["fault"]: entry["played"] for entry in account["faults"]}


def test_a_rehearsal_needs_no_budget_and_says_what_it_takes(tmp_path):
    done = rehearse(tmp_path, MOCK, "--on", "gcp", "--json", "--set", "budget.max_cost=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["made"] >= 1
    (said,) = [line for line in done.stderr.splitlines() if "for this rehearsal" in line]
    assert "budget.max_hours=1 " in said and "max_cost" not in said and "--set" in said


def test_a_rehearsal_of_several_backends_reaches_one_emulated_cloud():
    from drillyard.errors import ConfigError
    from drillyard_emulators.commands import rehearsed

    assert rehearsed(["local", "gcp/prod"]) == "gcp/prod"
    assert rehearsed(["azure/a", "azure/b", "local"]) == "azure/a"
    for places in (["ssh/den", "gcp"], ["azure", "gcp"]):
        with pytest.raises(ConfigError, match="one emulated cloud") as raised:
            rehearsed(places)
        assert raised.value.hint and "--on gcp" in raised.value.hint


def test_the_fix_for_a_missing_azurite_installs_it(tmp_path, monkeypatch):
    pytest.importorskip("azure.ai.ml")
    own = tmp_path / "with space"
    own.mkdir()
    monkeypatch.setenv("DRILLYARD_AZURITE", str(own))
    done = rehearse(tmp_path, MOCK, "--on", "azure", *BUDGET)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Azurite, which is not installed" in done.stderr
    fix = f"npm install --prefix '{own}' azurite@3.35.0"
    assert fix in " ".join(done.stderr.split()), done.stderr
    assert "emulator.log" not in done.stderr


def test_an_experiment_with_bad_luck(tmp_path):
    """The file knows nothing of Google: all of it is rehearsed, kept, and gone."""
    faults = ("stockout=europe-west1-b", "lost=0.05", "boot=1")
    account = account_of(tmp_path, MOCK, "gcp", *BUDGET, "--keep", "kept", faults=faults)
    assert account["refused_hosts"] == []
    assert {m["zone"] for m in account["machines"]} == {"europe-west1-c"}
    assert all(m["ended_by"] and m["cost"] > 0 for m in account["machines"])
    times = played(account)
    assert times["stockout=europe-west1-b"] >= 1 and times["boot=1"] == 1
    kept = run_process(
        [str(BIN / "drillyard"), "results", "--store", "kept/store"], cwd=tmp_path, check=True
    )
    assert "SUCCEEDED" in kept.stdout


def test_an_application_and_its_benchmark(tmp_path):
    """An application on a rented machine, and its benchmark on this one: three stages."""
    file = str(ROOT / "experiments" / "served.yaml")
    words = (*BUDGET, "--keep", "kept", "--set", "children[2].seeds=[1]")
    account = account_of(tmp_path, file, "gcp", *words)
    assert account["made"] == 1 and account["refused_hosts"] == []
    shown = run_process(
        [str(BIN / "drillyard"), "results", "served", "--store", "kept/store", "--json"],
        cwd=tmp_path,
        check=True,
    )
    stages = json.loads(shown.stdout)["stages"]
    assert [(s["name"], s["status"], s["backend"]) for s in stages] == [
        ("numbers", "succeeded", "local"),
        ("app", "succeeded", "gcp"),
        ("benchmark", "succeeded", "local"),
    ]
    assert "wrong 0," in stages[2]["verdict"]


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        (["no-groups=europe-west1-b"], "Quota 'INSTANCE_GROUP_MANAGERS' exceeded"),
        (["policy=europe-west1-b", "boot-throttle=1"], "constraints/compute.vmExternalIpAccess"),
        (["undeletable=30"], "PERMISSIONS_ERROR"),
        (["throttle=10"], "fault throttle=10: played"),
    ],
)
def test_a_refusal_is_said_and_changes_no_result(tmp_path, faults, said):
    """A quota of groups, a policy, a machine that may not be deleted, and a busy minute."""
    given = [word for fault in faults for word in ("--fault", fault)]
    done = rehearse(tmp_path, MOCK, "--on", "gcp", *BUDGET, "--set", "seeds=[1]", *given)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    assert said in text and "played 0 times" not in text and "left: 0" in text
    assert "no permission" not in text


def test_a_search_without_room_leaves_nothing_that_becomes_a_machine(tmp_path):
    """A delete was refused once, the command ended, and three machines booted without a driver."""
    faults = ("stockout=europe-west1-b:90", "kept-groups=2", "preempt=1")
    given = [word for fault in faults for word in ("--fault", fault)]
    zone = ("backends.gcp.zones=[europe-west1-b]", "backends.gcp.capacity_s=6")
    settings = [word for text in (*zone, "backends.gcp.spot=false") for word in ("--set", text)]
    done = rehearse(tmp_path, MOCK, "--on", "gcp", *BUDGET, *settings, *given)
    text = done.stdout + done.stderr
    assert done.returncode == 4 and "no room for 3 machines" in text, text
    assert "fault kept-groups=2: played 2 times" in text and "left: 0" in text
    assert "machines: 0 made" in text
    assert "warning: fault preempt=1 was played 0 times" in text


@pytest.mark.slow
def test_a_service_as_bad_as_it_can_be_changes_no_result(tmp_path):
    faults = ("outage=5", "rate=2", "unreachable=2", "soft-delete=7", "form=lost-row-goes")
    times = played(account_of(tmp_path, MOCK, "gcp", *BUDGET, faults=faults))
    assert times["outage=5"] >= 1 and times["unreachable=2"] == 2


def test_the_roles_that_ship_are_enough_for_an_experiment(tmp_path):
    """With conflicts beside them: a group that is being changed takes no second change."""
    account_of(tmp_path, MOCK, "gcp", *BUDGET, faults=("roles=shipped", "form=one-change"))


def test_only_the_roles_that_ship_can_be_asked_for(tmp_path):
    with pytest.raises(ConfigError, match="roles"):
        GcpRehearsal("gcp", {}, parse_faults(["roles=owner"], KINDS), tmp_path)


@pytest.mark.slow
def test_a_permission_that_nobody_has_is_named_and_nothing_is_made(tmp_path):
    denied = "denied=compute.instanceGroupManagers.delete"
    done = rehearse(tmp_path, MOCK, "--on", "gcp", *BUDGET, "--json", "--fault", denied)
    assert done.returncode == 2
    assert denied.partition("=")[2] in done.stderr + done.stdout
    assert json.loads(done.stdout[done.stdout.index("{") :])["made"] == 0


LISTED = """schema: 1
name: ten
workload: mock
seeds: [1]
study:
  chooser: list
  objectives: [{metric: evaluate/score, direction: max}]
  experiments: [{label: a}, {label: b}, {label: c}]
"""


@pytest.mark.slow
def test_a_list_gets_a_machine_each(tmp_path):
    (tmp_path / "ten.yaml").write_text(LISTED)
    assert account_of(tmp_path, "ten.yaml", "gcp", *BUDGET)["made"] == 3


def test_what_is_left_is_named(tmp_path):
    """By the emulator's own books, whoever made it; what was there before is not counted."""
    given = {"project": "my-project", "template": "mine"}
    rehearsal = GcpRehearsal("gcp", given, [], tmp_path)
    try:
        compute = Compute(rehearsal._cloud)
        assert compute.project == "my-project"
        # Ctrl-C reaches the group of a terminal: the cloud must live until its machines are gone.
        assert os.getpgid(rehearsal._cloud.pid) != os.getpgrp()
        assert rehearsal.account(0).left == []
        group = compute.group(compute.template(disks=[{"boot": True}]))
        compute.create(group, "forgotten")
        left = rehearsal.account(0).left
        assert f"zones/europe-west1-b/instanceGroupManagers/{group}" in left
        assert any(name.startswith("global/instanceTemplates/t-") for name in left)
        compute.drop(group)
        left = rehearsal.account(10).left
        assert "zones/europe-west1-b/disks/forgotten" in left
        assert not any("Managers" in name for name in left)
    finally:
        rehearsal.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("preemt=1", "preempt"),
        ("preempt", "has no value"),
        ("preempt=0", "1 to 10000"),
        ("lost=2", "0 to 0.9"),
        ("stockout=mars", "is not a zone"),
        ("stockout=us-east1-b:many", "1 to 10000"),
        ("policy=mars", "is not a zone"),
        ("quota=CPUS", "METRIC:LIMIT"),
        ("outage=0", "1 to 600"),
        ("form=lost-row-stays", "lost-row-goes"),
        ("denied=compute.instances.paint", "compute.instances.list"),
    ],
)
def test_bad_faults_are_refused_before_anything_starts(tmp_path, text, said):
    with pytest.raises(ConfigError) as raised:
        GcpRehearsal("gcp", {}, parse_faults([text], KINDS), tmp_path / "cloud")
    whole = f"{raised.value} {raised.value.hint}"
    assert said in whole and "--fault" in whole
    assert not (tmp_path / "cloud").exists()


def test_every_fault_is_understood(tmp_path):
    values = {
        "stockout": "us-east1-b",
        "quota": "CPUS:8",
        "lag": "3",
        "skew": "60",
        "soft-delete": "7",
        "denied": "compute.instances.delete",
        "form": "lost-row-goes",
        "roles": "shipped",
        "no-groups": "us-east1-b",
        "policy": "us-east1-c",
    }
    faults = [
        Fault(name, values.get(name, "0.5" if "SHARE" in kind.value else "2"))
        for name, kind in KINDS.items()
    ]
    rehearsal = GcpRehearsal("gcp", {}, faults, tmp_path)
    try:
        # Asked without the emulator's proxy, so that the faults themselves are not met.
        state: dict[str, Any] = rehearsal._cloud.state()
        assert {t["what"] for t in state["triggers"]} == {"preempt", "cut", "crash", "hang"}
        assert len(state["faults"]) == 12 and len(state["physics"]["false_done"]) == 2
        assert state["physics"]["unreachable_lists"] == 2
        assert state["physics"]["lost_stay_listed"] is False
        (bucket,) = state["buckets"].values()
        assert bucket["document"]["softDeletePolicy"]["retentionDurationSeconds"] == "604800"
        assert state["physics"]["listing_lag_s"] == 3 and state["physics"]["boot_failures"] == 2
        account = rehearsal.account(0)
        assert [text for text, _ in account.faults] == [fault.text for fault in faults]
    finally:
        rehearsal.close()


def test_a_backend_without_a_cloud(tmp_path):
    done = rehearse(tmp_path, MOCK, "--on", "local")
    assert done.returncode == 2 and "there is an emulated cloud for: azure, gcp" in done.stderr


def test_the_list_of_faults_needs_no_file(tmp_path):
    """As it is typed first: nothing is run, so there is nothing that a file could say."""
    done = rehearse(tmp_path, "--fault", "list")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {line.partition("=")[0] for line in done.stdout.splitlines()} >= {"preempt", "outage"}
    without = rehearse(tmp_path, "--fault", "preempt=1")
    assert without.returncode == 2 and "Missing argument 'FILE'" in without.stderr
    assert "Traceback" not in without.stderr


def test_ctrl_c_stops_the_experiment_and_not_the_emulated_cloud(tmp_path):
    """A terminal sends it to each process of the group: the cloud ended before its machines."""
    words = ["rehearse", MOCK, "--on", "gcp"]
    process = subprocess.Popen(
        [str(BIN / "drillyard"), *words, "--set", "mock.duration_s=300"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # Who starts these tests in the background may have it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    said: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        if "train: running" in line and not any("train: running" in one for one in said):
            os.killpg(process.pid, signal.SIGINT)
        said.append(line)
    text = "".join(said)
    assert process.wait(PATIENCE_S) == 130, text
    assert "machines: 3 made, 3 deleted; left: 0" in text
    assert "does not answer" not in text
