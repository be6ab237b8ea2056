"""The table of the page about security: each rule has tests that exist; and rules of few words."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from drillyard.backend import Order
from drillyard.errors import ConfigError
from drillyard.mailbox import open_store
from drillyard.spec.addresses import check_store_url, is_metadata
from drillyard_backends.azure.job_body import body
from drillyard_backends.azure.settings import AzureConfig
from drillyard_backends.gcp.settings import GcpConfig
from drillyard_backends.gcp.template import metadata
from drillyard_flows import settings
from tests.helpers.processes import run_process

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "security.md").read_text()
ROWS = re.findall(r"(?m)^\| (\d+) \| (.+?) \| (.+?) \|$", PAGE)
PRODUCT = ("src", "backends/drillyard_backends", "tasks", "flows", "deployments")


def test_every_rule_has_its_row():
    assert [int(number) for number, _, _ in ROWS] == list(range(1, 22))


@pytest.mark.parametrize(("number", "rule", "cell"), ROWS, ids=[n for n, _, _ in ROWS])
def test_the_tests_of_a_row_exist(number, rule, cell):
    named = re.findall(r"`(tests/[^`]+)`", cell)
    assert named and ", ".join(f"`{one}`" for one in named) == cell
    for one in named:
        file, _, test = one.partition("::")
        path = ROOT / file
        assert path.is_file(), one
        wanted = rf"(?m)^def {re.escape(test)}\(" if test else r"(?m)^ *def test_"
        assert re.search(wanted, path.read_text()), one


def test_versions_with_known_holes_are_not_accepted():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = extras["optional-dependencies"].values()
    wanted = [*extras["dependencies"], *(one for extra in optional for one in extra)]
    floors = dict(re.findall(r"^([a-z-]+)(?:\[.*\])?>=([\d.]+)", "\n".join(wanted), re.M))
    for name, floor in (("torch", (2, 10)), ("mlflow", (3, 17)), ("mlflow-skinny", (3, 17))):
        assert tuple(int(n) for n in floors[name].split(".")[:2]) >= floor, name


@pytest.mark.heavy
def test_prefect_keeps_results_as_json():
    """Its default is cloudpickle: a changed file in its storage would run code."""
    code = (
        "import os\nfrom drillyard_flows import settings\n"
        "os.environ.update(settings.quiet_environment())\n"
        "from prefect.results import get_default_result_serializer\n"
        "from drillyard_tasks import common\n"
        "print(type(get_default_result_serializer()).__name__)\n"
        "print({v for k, v in vars(common).items() if k.isupper() and isinstance(v, dict) "
        "for k, v in v.items() if k == 'result_serializer'})"
    )
    done = run_process([sys.executable, "-c", code], check=True)
    assert done.stdout.split() == ["JSONSerializer", "{'json'}"], done.stdout
    assert settings.CLIENT["PREFECT_RESULTS_DEFAULT_SERIALIZER"] == "json"


def test_nothing_of_ours_opens_a_firewall():
    """Neither a call nor a file that is deployed; the roles do not allow it either."""
    for folder in PRODUCT:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".sh", ".yaml", ".json") and path.is_file():
                text = path.read_text().lower()
                for word in (
                    "firewallsclient",
                    "firewall-rules",
                    "0.0.0.0/0",
                ):
                    assert word not in text, f"{path}: {word}"


SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
SECRETS = {
    "GOOGLE_APPLICATION_CREDENTIALS": "/home/me/key-canary.json",
    "AZURE_CLIENT_SECRET": "canary-azure",
    "PREFECT_API_AUTH_STRING": "me:canary-prefect",
    "PREFECT_API_KEY": "canary-key",
    "MLFLOW_TRACKING_PASSWORD": "canary-mlflow",
    "AWS_SECRET_ACCESS_KEY": "canary-aws",
    "MY_TOKEN": "canary-own",
}


def test_no_secret_of_yours_travels_to_a_machine(monkeypatch):
    """What a machine is started with: on Google its metadata, on Azure its job."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    order = Order(lease_id="dy-0123456789", experiment="e", workers=1, store_url="gs://bucket")
    config = GcpConfig(
        project="a-project",
        bucket="bucket",
        service_account="machine@a-project.iam.gserviceaccount.com",
        image_family="projects/p/global/images/family/f",
    )
    assert "canary" not in str(metadata(order, config))
    azure = AzureConfig(
        subscription_id=SUBSCRIPTION, resource_group="g", workspace="work", environment="e:1"
    )
    root = "/subscriptions/s/workspaces/w"
    assert "canary" not in str(body(azure, order, root, "job", "t0001-s1.train", 0.0))


@pytest.mark.parametrize(
    "key",
    [
        "../outside",
        "e/../../outside",
        "/etc/passwd",
        "e/./a",
        "e//a",
        "e/..",
        "e\\..\\a",
        "e/%2e%2e/a",
        "e/a\0b",
        "//server/share",
        "C:/a",
        "",
    ],
)
def test_no_key_leads_out_of_the_store(key, tmp_path):
    store = open_store(str(tmp_path / "store"))
    for verb in (lambda: store.get(key), lambda: store.put(key, b"x"), lambda: store.delete(key)):
        with pytest.raises(Exception, match=r"(?i)key|name|part"):
            verb()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "[::ffff:169.254.169.254]",
        "[fd00:ec2::254]",
        "metadata.google.internal",
        "METADATA.google.internal.",
        "metadata.azure.com",
    ],
)
def test_machine_metadata_is_refused_in_every_spelling(host):
    assert is_metadata(f"http://{host}/latest")
    with pytest.raises(ConfigError):
        check_store_url(f"http://{host}/x")
