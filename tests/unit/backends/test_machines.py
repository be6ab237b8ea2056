"""Hardware by requirement on Google Cloud and Azure ML: what is taken, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from drillyard.backend import HasMachineTypes
from drillyard.backend.hardware import Hardware, MachineType
from drillyard.backend.settings.experiment import given, packing
from drillyard.backend.settings.resolve import prices_file
from drillyard.checks import trial
from drillyard.checks.trial import fits
from drillyard.checks.trial_process import Heard
from drillyard.errors import ConfigError
from drillyard.findings import Severity
from drillyard.registry import load as load_registered
from drillyard.runs import identity
from drillyard.spec.load import Loaded, load
from drillyard.spec.running import Gpu
from drillyard_backends.azure import prices as azure_prices
from drillyard_backends.gcp import plan, prices
from drillyard_backends.gcp.settings import read_settings
from drillyard_backends.gcp.zones import candidates
from tests.helpers.gcp_examined import order
from tests.helpers.google_world import SETTINGS

CLOUDS = ("gcp", "azure")
AZURE = {"subscription_id": "0" * 8 + "-0000-0000-0000-" + "0" * 12, "resource_group": "g"}
FILE = (
    "name: hw\nsimulator: {id: cstr}\nlearner: {algorithm: ppo}\ntrain: {steps: 100}\n"
    "budget: {max_hours: 2, max_cost: 5}\n"
)


def types(kind: str) -> tuple[MachineType, ...]:
    factory = load_registered("backends", kind)
    assert isinstance(factory, HasMachineTypes)
    return factory.machine_types().types


def written(folder: Path, backend: str, resources: str, **settings: Any) -> Loaded:
    path = folder / "hw.yaml"
    section = json.dumps({backend: settings})
    path.write_text(f"{FILE}backend: {backend}\nresources: {resources}\nbackends: {section}\n")
    return load(path)


def chosen(folder: Path, backend: str, resources: str, **settings: Any) -> dict[str, Any]:
    return given(written(folder, backend, resources, **settings).spec)


def project(**more: Any) -> dict[str, Any]:
    names = ("project", "bucket", "service_account")
    return {**{name: SETTINGS[name] for name in names}, **more}


# -- the tables -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CLOUDS)
def test_every_machine_has_its_source_with_a_date(kind):
    folder = Path(plan.__file__).parents[1] / kind
    table = json.loads((folder / "machines.json").read_text())
    for name, machine in table["machines"].items():
        named = machine["source"].split(", ")
        assert set(named) <= set(table["sources"]), name
    for machine in types(kind):
        assert machine.source.endswith(table["date"])
        assert machine.cpus > 0 and machine.memory_gb > 0 and machine.places
        assert (machine.gpu is None) == (machine.gpus == 0)
        assert machine.gpu is None or machine.gpu in get_args(Gpu)


def test_each_gpu_is_on_one_of_the_clouds_and_what_is_missing_is_known():
    there = {kind: {machine.gpu for machine in types(kind)} - {None} for kind in CLOUDS}
    assert set(get_args(Gpu)) - there["gcp"] == {"A10"}
    assert set(get_args(Gpu)) - there["azure"] == {"L4", "B200"}


def test_what_google_bills_by_parts_is_what_a_machine_costs():
    """88.49 an hour: 208 CPUs and 1872 GB at 9.46006, eight GPUs, and 6,000 GB of local SSD."""
    parts = prices.parts("a3-highgpu-8g")
    assert parts == {
        "nvidia-h100-80gb": 8.0,
        "a3 core": 208,
        "a3 ram": 1872,
        "local-ssd": pytest.approx(6000 / 730),
    }
    sum_ = 9.46006 + 8 * 9.796550569 + 6000 / 730 * 0.08
    assert prices.price("a3-highgpu-8g", "us-central1", False) == pytest.approx(sum_, rel=1e-3)


# -- the choice -----------------------------------------------------------------------------------


def test_google_gets_the_cheapest_type_that_fits_in_zones_that_have_it(tmp_path):
    found = chosen(tmp_path, "gcp", "{gpu: L4, cpus: 8, memory_gb: 32, spot: true}", **project())
    assert found["machine_types"] == ["g2-standard-8", "g2-standard-12", "g2-standard-16"]
    assert found["zones"] == ["europe-west1-b", "europe-west1-c"]  # -d has no L4
    assert found["spot"] is True and found["gpu_type"] is None


def test_the_order_of_a_run_has_the_machine_and_its_price(tmp_path):
    settings = chosen(tmp_path, "gcp", "{gpu: A100, spot: false}", **project())
    assert settings["machine_types"] == ["a2-highgpu-1g"]
    assert {zone[:12] for zone in settings["zones"]} == {"europe-west4"}  # the nearest with one
    cost = plan.estimate(read_settings(settings), order(workers=2, gpus=1))
    assert cost.per_hour > 2 * 3.67 and cost.unpriced == []


def test_a_t4_is_attached_to_an_n1(tmp_path):
    found = chosen(tmp_path, "gcp", "{gpu: T4, gpus: 2, cpus: 12}", **project())
    assert found["machine_types"][0] == "n1-standard-16"
    assert (found["gpu_type"], found["gpu_count"]) == ("nvidia-tesla-t4", 2)


def test_several_runs_on_a_machine_need_more_of_it(tmp_path):
    asked = "{gpu: L4, cpus: 6, memory_gb: 20}"
    found = chosen(tmp_path, "gcp", asked, **project(workers_per_machine=2))
    assert found["machine_types"][0] == "g2-standard-24"


@pytest.mark.parametrize("kind", CLOUDS)
def test_runs_that_share_a_machine_and_a_gpu(tmp_path, kind):
    """Four runs of one GPU each, two to a GPU: a machine with two, and four times the CPUs."""
    own = project() if kind == "gcp" else AZURE
    asked = "{gpu: T4, cpus: 2, memory_gb: 8, runs_per_machine: 4, runs_per_gpu: 2}"
    found = chosen(tmp_path, kind, asked, **own)
    names = found["machine_types"] if kind == "gcp" else [found["vm_size"]]
    rented = next(
        t for t in types(kind) if t.gpu == "T4" and t.name.split()[0] == names[0] and t.gpus >= 2
    )
    assert rented.cpus >= 8 and rented.memory_gb >= 32
    per_machine = "workers_per_machine" if kind == "gcp" else "runs_per_machine"
    assert (found[per_machine], found["runs_per_gpu"]) == (4, 2)
    packed = packing(written(tmp_path, kind, asked, **own).spec)
    assert packed is not None and packed.runs == 4
    assert packed.machines[names[0]] == rented.memory_gb
    alone = chosen(tmp_path, kind, "{gpu: T4, cpus: 2}", **own)
    assert per_machine not in alone and "runs_per_gpu" not in alone


@pytest.mark.parametrize("kind", CLOUDS)
def test_runs_per_machine_without_other_needs_keeps_the_machine(tmp_path, kind):
    own = project() if kind == "gcp" else AZURE
    found = chosen(tmp_path, kind, "{runs_per_machine: 3}", **own)
    per_machine = "workers_per_machine" if kind == "gcp" else "runs_per_machine"
    assert found == {**own, per_machine: 3, "runs_per_gpu": 1}


@pytest.mark.parametrize("kind", CLOUDS)
def test_runs_per_machine_said_twice_is_refused(tmp_path, kind):
    per_machine = "workers_per_machine" if kind == "gcp" else "runs_per_machine"
    own = {**(project() if kind == "gcp" else AZURE), per_machine: 2}
    with pytest.raises(ConfigError) as refused:
        chosen(tmp_path, kind, "{runs_per_machine: 3}", **own)
    assert refused.value.field == f"backends.{kind}.{per_machine}" and refused.value.hint


def test_runs_that_share_a_machine_need_its_memory(tmp_path, monkeypatch):
    """Against what the trial measured: 3 GB each, and 1 GB for the system."""
    monkeypatch.setattr("drillyard.checks.trial.measured", lambda loaded: 3 << 30)
    for runs, size, severity in (
        (2, "Standard_F4s_v2", Severity.OK),  # 8 GB
        (3, "Standard_F4s_v2", Severity.ERROR),
        (3, "Standard_Mine", Severity.WARNING),
    ):
        asked = f"{{runs_per_machine: {runs}}}"
        (finding,) = fits(written(tmp_path, "azure", asked, **AZURE, vm_size=size))
        assert finding.severity is severity, finding
        assert "3.00 GB each, measured" in finding.message
        assert severity is not Severity.ERROR or finding.fix.startswith("runs_per_machine: 2;")
    assert fits(written(tmp_path, "azure", "{cpus: 2}", **AZURE)) == []
    assert fits(written(tmp_path, "local", "{runs_per_machine: 2}")) == []


def test_the_memory_of_every_place_is_looked_at(tmp_path, monkeypatch):
    """3 runs of 3 GB: a free machine has no such limit, one size has room, the other has not."""
    monkeypatch.setattr("drillyard.checks.trial.measured", lambda loaded: 3 << 30)
    sizes = ["Standard_F8s_v2", "Standard_F4s_v2"]  # 16 GB and 8 GB
    loaded = written(tmp_path, "azure", "{runs_per_machine: 3}", **AZURE, vm_sizes=sizes)
    loaded.spec = loaded.spec.model_copy(update={"backend": "local", "elsewhere": ["azure"]})
    found = fits(loaded)
    assert [finding.severity for finding in found] == [Severity.OK, Severity.ERROR]
    assert all(size in finding.message for size, finding in zip(sizes, found, strict=True))


def test_what_a_trial_took_is_remembered(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_HOME", str(tmp_path / "home"))
    loaded = written(tmp_path, "azure", "{runs_per_machine: 2}", **AZURE)
    monkeypatch.setattr(trial, "_run", lambda *given: Heard(done="trained", peak=5 << 20))
    assert trial.measured(loaded) is None and fits(loaded) == []
    trial.try_training(loaded)
    assert trial.measured(loaded) == 5 << 20
    assert "trained" in trial.try_training(loaded)[0].message  # the second is not tried
    assert len(fits(loaded)) == 1


def test_without_gpus_none_is_paid_for(tmp_path):
    found = chosen(tmp_path, "gcp", "{cpus: 8, memory_gb: 32}", **project())
    assert found["machine_types"][0] == "e2-standard-8"


def test_what_is_only_rented_as_spot_falls_back_to_nothing_else(tmp_path):
    found = chosen(tmp_path, "gcp", "{gpu: H100, spot: true}", **project())
    assert found["machine_types"] == ["a3-highgpu-1g"] and found["on_demand_after"] is None
    dear = chosen(tmp_path, "gcp", "{gpu: H100, spot: false}", **project())
    assert dear["machine_types"] == ["a3-highgpu-8g"]


def test_azure_gets_a_size_and_a_cluster_of_its_own(tmp_path):
    found = chosen(tmp_path, "azure", "{gpu: T4, cpus: 8, spot: true}", **AZURE)
    assert found["vm_size"] == "Standard_NC8as_T4_v3" and found["low_priority"] is True
    assert found["compute"] == "dy-nc8ast4v3-low"
    named = chosen(tmp_path, "azure", "{gpu: A10}", **AZURE, compute="mine")
    assert named["compute"] == "mine" and named["vm_size"] == "Standard_NV36ads_A10_v5"


def test_machine_types_of_the_users_own_stay(tmp_path):
    own = project(machine_types=["g2-standard-16"], zones=["us-central1-a"])
    found = chosen(tmp_path, "gcp", "{gpu: L4, cpus: 8}", **own)
    assert found["machine_types"] == ["g2-standard-16"] and found["zones"] == ["us-central1-a"]
    unknown = project(machine_types=["x9-huge-1"])
    assert chosen(tmp_path, "gcp", "{gpu: L4}", **unknown)["machine_types"] == ["x9-huge-1"]
    sized = chosen(tmp_path, "azure", "{cpus: 4}", **AZURE, vm_size="Standard_F8s_v2")
    assert sized["vm_size"] == "Standard_F8s_v2" and "compute" not in sized


def test_the_requirement_goes_before_a_machine_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_GCP_MACHINE_TYPES", '["n2-highcpu-8"]')
    found = chosen(tmp_path, "gcp", "{gpu: L4}", **project())
    assert found["machine_types"][0] == "g2-standard-4"


# -- cheapest first, elsewhere when full ----------------------------------------------------------


def test_what_is_tried_is_in_the_order_of_prices_and_groups_keep_their_names():
    given = {
        **SETTINGS,
        "machine_types": ["n2-standard-8", "e2-standard-8"],
        "zones": ["europe-west1-b", "us-central1-a", "europe-west1-c"],
        "on_demand_after": None,
        "on_demand_when_full": True,
    }
    as_given = candidates(read_settings(given))
    cheapest = candidates(read_settings({**given, "cheapest_first": True}))
    assert [c.words for c in cheapest][:4] == [
        "e2-standard-8 (Spot) in us-central1-a",
        "e2-standard-8 (Spot) in europe-west1-b",
        "e2-standard-8 (Spot) in europe-west1-c",
        "n2-standard-8 (Spot) in us-central1-a",
    ]
    assert not any(c.spot for c in cheapest[6:])  # what cannot be preempted comes last
    # The number of a variant names a group, so that a new price list moves no machine.
    assert sorted(as_given, key=str) == sorted(cheapest, key=str)


def test_the_plan_shows_the_order_with_prices(tmp_path):
    settings = chosen(tmp_path, "gcp", "{gpu: L4, cpus: 8, spot: true}", **project())
    (shown,) = plan._order_of_trial(read_settings(settings))
    first, second, *_ = shown.message.partition("): ")[2].split("; ")
    assert first == "g2-standard-8 (Spot) in europe-west1-b 0.939"
    assert second == "g2-standard-8 (Spot) in europe-west1-c 0.939"
    assert "g2-standard-16 (Spot)" in shown.message and prices.date() in shown.message


def test_zones_of_several_regions_are_all_tried(tmp_path):
    zones = ["europe-west1-b", "us-central1-a", "europe-west1-d"]
    found = chosen(tmp_path, "gcp", "{gpu: L4, cpus: 8}", **project(zones=zones))
    tried = candidates(read_settings(found))
    assert tried[0].place.name == "us-central1-a" and tried[1].place.name == "europe-west1-b"


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "resources", "settings", "field", "words"),
    [
        ("gcp", "{gpu: A10}", {}, "resources.gpu", "nearest: "),
        ("azure", "{gpu: B200}", {}, "resources.gpu", "nearest: Standard_"),
        ("gcp", "{gpu: L4, gpus: 8, cpus: 200}", {}, "resources.gpu", "g2-standard-96"),
        ("gcp", "{gpu: B200, spot: false}", {}, "resources.gpu", "not a Spot machine"),
        ("gcp", "{cpus: 1000}", {}, "resources.cpus", "n2d-"),
        ("azure", "{memory_gb: 9000}", {}, "resources.memory_gb", "nearest: "),
        (
            "gcp",
            "{gpu: A100}",
            {"zones": ["europe-west1-b"]},
            "backends.gcp.zones",
            "europe-west4-a",
        ),
        (
            "gcp",
            "{gpu: L4, cpus: 8}",
            {"machine_types": ["g2-standard-4"]},
            "backends.gcp.machine_types",
            "g2-standard-8",
        ),
        (
            "azure",
            "{gpu: T4, gpus: 4}",
            {"vm_size": "Standard_NC4as_T4_v3"},
            "backends.azure.vm_size",
            "Standard_NC64as_T4_v3",
        ),
        ("gcp", "{spot: true}", {"spot": False}, "backends.gcp.spot", "true"),
        ("azure", "{spot: false}", {"low_priority": True}, "backends.azure.low_priority", "false"),
    ],
)
def test_what_cannot_fit_is_refused_with_the_nearest(
    tmp_path, backend, resources, settings, field, words
):
    base = project() if backend == "gcp" else AZURE
    with pytest.raises(ConfigError) as error:
        chosen(tmp_path, backend, resources, **{**base, **settings})
    assert error.value.field == field and error.value.hint
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("resources", "field", "words"),
    [
        ("{gpu: H1000}", "resources.gpu", "H100"),
        ("{gpu: L4, gpus: 0}", "resources.gpus", "above 0"),
        ("{gpu: L4, device: cpu}", "resources.gpu", "cuda"),
        ("{cpus: 0}", "resources.cpus", "1"),
        ("{memory_gb: -1}", "resources.memory_gb", "0"),
    ],
)
def test_a_requirement_that_means_nothing_is_refused_with_its_line(
    tmp_path, resources, field, words
):
    with pytest.raises(ConfigError) as error:
        written(tmp_path, "local", resources)
    assert (error.value.field, error.value.line) == (field, 7)
    assert words in f"{error.value} {error.value.hint}"


# -- prices that nobody knows ---------------------------------------------------------------------


def test_a_price_of_your_own_counts_where_the_list_has_none():
    settings = {**SETTINGS, "machine_types": ["z9-big-1"]}
    unknown = plan.estimate(read_settings(settings), order(workers=3))
    assert unknown.unpriced == ["z9-big-1"]
    (note,) = plan._priced(read_settings(settings))
    assert note.severity is Severity.WARNING and "price_per_hour" in (note.fix or "")
    own = read_settings({**settings, "price_per_hour": 12.5})
    found = plan.estimate(own, order(workers=3))
    assert found.unpriced == [] and found.per_hour > 3 * 12.5
    assert list(plan._priced(own)) == []


def test_a_refreshed_list_goes_before_the_packages(tmp_path, monkeypatch):
    monkeypatch.setenv("DRILLYARD_CONFIG_DIR", str(tmp_path))
    table = prices.LIST.package_list()
    exact = {"g2 core": 0.03, "g2 ram": 0.003, "nvidia-l4": 0.6}
    skus = {"on_demand": {"europe-west1": exact}, "spot": {"europe-west1": {"g2 core": 0.01}}}
    path = prices_file("gcp")
    path.parent.mkdir()
    path.write_text(json.dumps({**table, "date": "2031-01-01", "skus": skus}))
    assert prices.date() == "2031-01-01" and prices.LIST.source() == str(path)
    assert prices.price("g2-standard-8", "europe-west1", False) == pytest.approx(0.936)
    # A Spot price that Google did not list is not known: the ordinary one is an upper bound.
    assert prices.price("g2-standard-8", "europe-west1", True) == pytest.approx(0.936)
    path.write_text("not a list")
    with pytest.raises(ConfigError, match="not a price list"):
        prices.date()


def test_azures_price_is_that_of_the_region():
    assert azure_prices.price("standard_nc24ads_a100_v4", False, "eastus") == 3.673
    assert azure_prices.price("Standard_NC24ads_A100_v4", False) == 4.775
    assert azure_prices.price("Standard_NC40ads_H100_v5", True) == pytest.approx(8.38 * 0.2)
    assert azure_prices.price("Standard_ND96isr_H200_v5", False) is None
    # Another region's price is no price: the list has an H100 in the US alone.
    assert azure_prices.price("Standard_NC40ads_H100_v5", False, "germanywestcentral") is None
    assert azure_prices.price("Standard_F4s_v2", False, "germanywestcentral") == 0.194


# -- identity -------------------------------------------------------------------------------------


def test_the_machine_changes_no_identity(tmp_path):
    """The same file with and without: hardware is where it runs, not what is trained."""
    bare = written(tmp_path, "local", "{threads: 1}").spec
    more = written(tmp_path, "local", "{threads: 1, cpus: 8, memory_gb: 32, spot: true}").spec
    assert identity.parts(bare, None) == identity.parts(more, None)
    assert "gpu" not in bare.model_dump(mode="json")["resources"]
    gpu = written(tmp_path, "local", "{gpus: 1}").spec
    named = written(tmp_path, "local", "{gpu: L4}").spec
    assert identity.parts(gpu, None) == identity.parts(named, None)


def test_hardware_lists_itself():
    assert str(Hardware("L4", 2, 8, 32)) == "2 x L4, 8 CPUs, 32 GB of memory"
