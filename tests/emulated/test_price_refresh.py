"""``drillyard prices refresh`` and ``list machines`` against both clouds' price interfaces."""

import json

import pytest

from drillyard.backend.settings.resolve import prices_file
from drillyard.cli.main import main
from drillyard_backends.azure import prices as azure
from drillyard_backends.gcp import prices as google
from drillyard_backends.gcp.refresh import part_of
from tests.helpers.price_interfaces import KEY, Interfaces, item, serving, sku

T4 = "Standard_NC4as_T4_v3"


@pytest.fixture
def clouds(tmp_path, monkeypatch):
    clouds = Interfaces(
        skus=[
            sku("A2 Instance Core running in Americas", 0.031611),
            sku("A2 Instance Ram running in Americas", 0.004237, unit="GiBy.h"),
            sku("Nvidia Tesla A100 GPU running in Americas", 2.933908),
            sku("Spot Preemptible A2 Instance Core running in Americas", 0.01, "Preemptible"),
            sku("Spot Preemptible A2 Instance Ram running in Americas", 0.001, "Preemptible"),
            sku(
                "Nvidia Tesla A100 GPU attached to Spot Preemptible VMs running in Americas",
                0.9,
                "Preemptible",
            ),
            sku(
                "Commitment v1: Nvidia Tesla A100 GPU running in Americas",
                1,
                "Commit1Yr",
            ),
            sku("A4 Nvidia B200 (1 gpu slice) running in Americas", 16.11),
            sku("Network Internet Egress from Americas", 0.12),
        ],
        items=[
            item(T4, 0.71),
            item(T4, 0.142, meterName="NC4as T4 v3 Low Priority"),
            # A Spot price above the others, so that counting it would show.
            item(T4, 0.8, meterName="NC4as T4 v3 Spot", skuName="NC4as T4 v3 Spot"),
            item(T4, 0.9, productName="Virtual Machines NCasv3 T4 Series Windows"),
            item(T4, 0.55, "eastus"),
            item(T4, 0.5, type="DevTestConsumption"),
            item("Standard_ND96isr_H200_v5", 110.5, "eastus"),
        ],
    )
    monkeypatch.setenv("DRILLYARD_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("A_KEY", KEY)
    for name in ("DRILLYARD_GCP_PRICES", "DRILLYARD_AZURE_PRICES", "DRILLYARD_GCP_PRICES_KEY"):
        monkeypatch.delenv(name, raising=False)
    with serving(clouds) as url:
        monkeypatch.setenv("DRILLYARD_GCP_PRICES_API", url)
        monkeypatch.setenv("DRILLYARD_AZURE_PRICES_API", url)
        yield clouds


ODD_SKUS = {
    "cheaper than another of its part": sku("A2 Instance Core running in Americas", 0.001),
    "for free": sku("A2 Instance Core running in Americas", 0.0),
    "less than nothing": sku("A2 Instance Core running in Americas", -1.0),
    "a month": sku("A2 Instance Core running in Americas", 20.0, unit="mo"),
    "another currency": sku("A2 Instance Core running in Americas", 20.0, currency="JPY"),
}
ODD_ITEMS = {
    "less than nothing": item(T4, -1.0, "eastus"),
    "not a number": item(T4, 1.0, "eastus", retailPrice="NaN"),
    "a month": item(T4, 20.0, "eastus", unitOfMeasure="1/Month"),
    "another currency": item(T4, 20.0, "eastus", currencyCode="JPY"),
    "a reservation": item(T4, 20.0, "eastus", type="Reservation"),
    "cheaper than another of its size": item(T4, 0.01, "eastus"),
}


@pytest.mark.parametrize("odd", ODD_SKUS.values(), ids=ODD_SKUS.keys())
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_an_odd_sku_changes_no_price_of_google(clouds, odd, first):
    clouds.skus.insert(0 if first else len(clouds.skus), odd)
    assert main(["prices", "refresh", "gcp", "--key", "env:A_KEY"]) == 0
    whole = 12 * 0.031611 + 85 * 0.004237 + 2.933908
    assert google.price("a2-highgpu-1g", "us-east1", False) == pytest.approx(whole)


@pytest.mark.parametrize("odd", ODD_ITEMS.values(), ids=ODD_ITEMS.keys())
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_an_odd_item_changes_no_price_of_azure(clouds, odd, first):
    clouds.items.insert(0 if first else len(clouds.items), odd)
    assert main(["prices", "refresh", "azure"]) == 0
    assert azure.price(T4, False, "eastus") == pytest.approx(0.55)


def test_googles_list_comes_over_all_pages_and_the_key_in_no_address(clouds, capsys, monkeypatch):
    monkeypatch.setattr("drillyard_backends.price_pages.MOST_PAGES", 5)
    clouds.page, clouds.busy = 2, 2
    before = google.date()
    assert main(["prices", "refresh", "gcp", "--key", "env:A_KEY"]) == 0
    assert google.date() > before and len(clouds.asked) == 7
    assert not any(KEY in address for address in clouds.asked)
    assert KEY not in prices_file("gcp").read_text() + capsys.readouterr().out
    whole = 12 * 0.031611 + 85 * 0.004237 + 2.933908
    assert google.price("a2-highgpu-1g", "us-east1", False) == pytest.approx(whole)
    assert google.price("a2-highgpu-1g", "us-east1", True) == pytest.approx(0.12 + 0.085 + 0.9)
    assert google.price("a4-highgpu-8g", "us-west1", False) == pytest.approx(8 * 16.11)
    # A region that Google did not list keeps the price of drillyard's own table.
    assert google.price("a2-highgpu-1g", "europe-west4", False) == pytest.approx(3.673385 * 1.1)


def test_azures_list_has_linux_by_region_and_no_spot(clouds):
    clouds.page = 2
    assert main(["prices", "refresh", "azure"]) == 0
    assert azure.price(T4, False, "westeurope") == azure.price(T4, False) == 0.71
    assert azure.price(T4, True, "westeurope") == 0.142
    assert azure.price(T4, False, "eastus") == 0.55
    assert azure.price("Standard_ND96isr_H200_v5", False) == 110.5
    assert azure.price("Standard_F4s_v2", False) == 0.194  # not listed: as before
    assert any("skip=2" in address for address in clouds.asked)


def test_the_date_is_always_shown(clouds, capsys):
    assert main(["list", "machines", "--gpu", "h200"]) == 0
    shown = capsys.readouterr().out
    assert "not known" in shown and "azure: prices of 2026-11-01" in shown
    assert main(["prices", "refresh", "azure"]) == 0
    assert "none for Standard_" in capsys.readouterr().out
    assert main(["list", "machines", "--gpu", "H200"]) == 0
    assert f"from\n{prices_file('azure')}" in capsys.readouterr().out.replace("from ", "from\n")
    assert main(["list", "machines", "--gpu", "H200", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["prices_of"]["azure"] == azure.date() > "2026-11-01"
    (there,) = [m for m in found["machines"] if m["backend"] == "azure"]
    assert there["regions"]["eastus"]["price"] == 110.5


@pytest.mark.parametrize("fault", ["no key", "wrong key", "plain key", "down", "broken", "empty"])
def test_a_refresh_that_fails_leaves_the_list_as_it_was(clouds, fault, monkeypatch, capsys):
    key = {"no key": [], "plain key": ["--key", KEY]}.get(fault, ["--key", "env:A_KEY"])
    if fault == "wrong key":
        monkeypatch.setenv("A_KEY", "another-key")
    elif fault == "down":
        monkeypatch.setenv("DRILLYARD_GCP_PRICES_API", "http://127.0.0.1:9")
    elif fault == "broken":
        clouds.broken = True
    elif fault == "empty":
        clouds.skus = []
    code = main(["prices", "refresh", "gcp", *key])
    said = capsys.readouterr().err
    assert (code == (2 if "key" in fault else 4) and "fix: " in said) or "next: " in said
    assert not prices_file("gcp").exists() and "another-key" not in said
    assert "Traceback" not in said and "bug" not in said


def test_one_cloud_that_fails_does_not_keep_the_other_back(clouds, capsys):
    assert main(["prices", "refresh"]) == 2
    assert prices_file("azure").exists() and not prices_file("gcp").exists()
    assert "API key" in capsys.readouterr().err


def test_backends_without_prices_are_refused_together_and_nothing_is_asked(clouds, capsys):
    assert main(["prices", "refresh", "azur", "local", "azure"]) == 2
    said = capsys.readouterr().err
    assert "'azur'" in said and "did you mean 'azure'" in said
    assert "'local'" in said and "allowed: azure, gcp" in said
    assert not clouds.asked


@pytest.mark.parametrize(
    ("description", "part"),
    [
        ("N1 Predefined Instance Core running in Frankfurt", "n1 core"),
        ("Spot Preemptible N2D AMD Instance Ram running in Iowa", "n2d ram"),
        ("Nvidia L4 GPU running in Netherlands", "nvidia-l4"),
        ("Nvidia Tesla A100 80GB GPU running in Americas", "nvidia-a100-80gb"),
        ("H200 141GB GPU running in Belgium", "nvidia-h200-141gb"),
        ("Nvidia H100 80GB Mega GPU running in Frankfurt", None),
        ("Reserved Nvidia H100 80GB GPU in Americas", None),
        ("N2 Custom Instance Core running in Americas", None),
        ("SSD backed Local Storage", "local-ssd"),
        ("SSD backed PD Capacity", None),
    ],
)
def test_the_skus_that_are_parts_of_machines(description, part):
    assert part_of(description) == part
