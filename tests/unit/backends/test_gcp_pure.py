"""The parts of the Google Cloud backend that make no call: settings, names, templates, choices."""

import json
from datetime import datetime
from types import SimpleNamespace

import pytest

from drillyard.backend import Lease, Order
from drillyard.errors import ConfigError, ConfigErrors, ControlPlaneError, UserError
from drillyard.mailbox import Mailbox
from drillyard.mailbox.memory import MemoryStore
from drillyard.testing.clock import FakeClock
from drillyard_backends.gcp import naming, prices
from drillyard_backends.gcp.backend import GcpBackend
from drillyard_backends.gcp.errors import NoRoom, quota_hint
from drillyard_backends.gcp.instance_group_self import InstanceGroupSelf
from drillyard_backends.gcp.lives import missing_machines
from drillyard_backends.gcp.managed import Group, Managed, Stage, stage
from drillyard_backends.gcp.naming import Machine
from drillyard_backends.gcp.settings import read_settings
from drillyard_backends.gcp.store import GcsStore
from drillyard_backends.gcp.template import MIN_LIFE_S, instance_template
from drillyard_backends.gcp.zones import Candidate, Place, candidates, choices

ACCOUNT = "worker@lab-1234.iam.gserviceaccount.com"
GIVEN = {"project": "lab-1234", "bucket": "lab-runs", "service_account": ACCOUNT}
ORDER = Order(
    lease_id="dy-0123456789",
    experiment="My Reactor",
    store_url="gs://lab-runs",
    workers=3,
    deadline=5_000.0,
)


def template(order=ORDER, candidate=None, base=None, now=1_400.0, **settings):
    config = read_settings({**GIVEN, **settings})
    chosen = candidate or candidates(config)[0]
    return instance_template(order, config, chosen, "dy-0123456789", now, base)["properties"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"zones": ["us-east1"]}, "is a region: a zone is expected, such as us-east1-b"),
        ({"zones": ["us-east1-b", "us-east1-b"]}, "same zone twice"),
        ({"zones": []}, "at least 1 item"),
        ({"machine_types": ["N2 Mega"]}, "is not a machine type"),
        ({"labels": {"team": "A B"}}, "at most 63 long"),
        ({"labels": {"team": "x" * 64}}, "at most 63 long"),
        ({"labels": {"Team": "x"}}, "is not a label"),
        ({"labels": {"team": "$(reboot)"}}, "is not a label"),
        ({"labels": {"drillyard-lease": "x"}}, "drillyard's or Google's own"),
        ({"container": "europe-docker.pkg.dev/p/r/drillyard:latest"}, "by digest"),
        ({"bucket": "gs://lab"}, "the name alone"),
        ({"prefix": "../elsewhere"}, "folders of"),
        ({"project": "x"}, "the project's id"),
        ({"image": "debian-12"}, "projects/P/global/images/NAME"),
        ({"disk_gb": 1}, "greater than or equal to 10"),
        ({"tags": ["a;b"]}, "not a network tag"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(wrong, words):
    with pytest.raises(ConfigError, match=f"backends.gcp.{next(iter(wrong))}") as error:
        read_settings({**GIVEN, **wrong})
    assert words in str(error.value)
    assert error.value.hint


def test_all_faults_come_in_one_error():
    with pytest.raises(ConfigErrors) as error:
        read_settings({"bucket": "lab-runs", "disk_gb": 5})
    text = str(error.value)
    assert "project" in text and "service_account" in text and "disk_gb" in text


def test_a_misspelt_setting_is_told_with_the_nearest_name():
    with pytest.raises(ConfigError, match="machine_type") as error:
        read_settings({"bucket": "lab-runs", "machine_type": "n2-highcpu-8"})
    assert "machine_types" in error.value.hint


def test_names_are_computed_and_read_back():
    base = naming.base_name("dy", "dy-0123456789")
    assert base == "dy-0123456789"
    assert naming.group_name(base, 0) == base
    assert naming.lease_of(naming.group_name("lab-0123456789", 2), "lab") == "dy-0123456789"
    assert naming.lease_of("dy-0123456789-w1", "dy") is None
    assert naming.lease_of("somebody-elses-group", "dy") is None
    assert Machine.parse(Machine(12, 3).name(base)) == Machine(12, 3)
    assert Machine.parse("gke-node-1") is None
    longest = Machine(9999, 99).name(naming.base_name("x" * 30, "dy-0123456789"))
    assert len(longest) <= 63


def test_a_machine_lives_no_longer_than_its_order():
    scheduling = template()["scheduling"]
    assert scheduling["termination_time"] == "1970-01-01T01:23:20Z"  # the order's deadline
    assert "max_run_duration" not in scheduling
    assert scheduling["instance_termination_action"] == "DELETE"
    late = template(now=6_000.0)["scheduling"]["termination_time"]
    assert datetime.fromisoformat(late).timestamp() == 6_000.0 + MIN_LIFE_S
    forever = ORDER.model_copy(update={"deadline": None})
    assert template(forever)["scheduling"]["max_run_duration"] == {"seconds": 86_400}


@pytest.mark.parametrize(
    ("settings", "moves", "accelerators"),
    [
        ({"spot": True}, "TERMINATE", None),
        ({"spot": False}, "MIGRATE", None),
        (
            {"spot": False, "machine_types": ["n1-standard-4"], "gpu_type": "nvidia-tesla-t4"},
            "TERMINATE",
            [{"accelerator_type": "nvidia-tesla-t4", "accelerator_count": 1}],
        ),
        (
            {"spot": False, "machine_types": ["g2-standard-4"], "gpu_type": "nvidia-l4"},
            "TERMINATE",
            None,
        ),
    ],
)
def test_what_cannot_be_moved_is_not_asked_to(settings, moves, accelerators):
    found = template(**settings)
    assert found["scheduling"]["on_host_maintenance"] == moves
    assert found.get("guest_accelerators") == accelerators


def test_a_template_is_closed_and_marked():
    found = template(labels={"team": "control"})
    assert "access_configs" not in found["network_interfaces"][0]
    assert found["labels"] == {
        **found["labels"],
        "team": "control",
        "drillyard": "machine",
        "drillyard-lease": "dy-0123456789",
        "drillyard-until": "5000",
    }
    assert found["labels"]["drillyard-experiment"].startswith("my-reactor-")
    assert found["disks"][0]["auto_delete"] is True
    metadata = {i["key"]: i["value"] for i in found["metadata"]["items"]}
    assert Order.model_validate(json.loads(metadata["drillyard-order"])) == ORDER
    assert metadata["startup-script"].startswith("#!")
    assert metadata["block-project-ssh-keys"] == "TRUE"
    assert found["service_accounts"][0]["email"] == ACCOUNT


def test_the_users_own_template_is_the_base():
    base = {
        "machine_type": "n1-standard-1",
        "disks": [{"boot": True}],
        "labels": {"cost": "42"},
        "metadata": {
            "items": [{"key": "proxy", "value": "p"}, {"key": "startup-script", "value": "theirs"}]
        },
    }
    found = template(base=base)
    assert found["disks"] == [{"boot": True, "auto_delete": True}]
    assert base["disks"] == [{"boot": True}]
    assert found["labels"]["cost"] == "42" and found["labels"]["drillyard"] == "machine"
    metadata = {i["key"]: i["value"] for i in found["metadata"]["items"]}
    assert metadata["proxy"] == "p" and metadata["startup-script"] != "theirs"
    assert base["labels"] == {"cost": "42"}


def test_candidates_come_in_the_order_given_spot_first():
    config = read_settings(
        {**GIVEN, "zones": ["a-b1-c", "a-b1-d"], "machine_types": ["m-1", "m-2"]}
    )
    found = [(c.variant, c.machine_type, c.spot, c.place.name) for c in candidates(config)]
    assert found == [
        (0, "m-1", True, "a-b1-c"),
        (0, "m-1", True, "a-b1-d"),
        (1, "m-2", True, "a-b1-c"),
        (1, "m-2", True, "a-b1-d"),
        (2, "m-1", False, "a-b1-c"),
        (2, "m-1", False, "a-b1-d"),
        (3, "m-2", False, "a-b1-c"),
        (3, "m-2", False, "a-b1-d"),
    ]


def test_regions_of_the_zones():
    config = read_settings({**GIVEN, "regional": True, "zones": ["a-b1-c", "d-e1-f", "a-b1-d"]})
    found = [c.place for c in candidates(config) if c.variant == 0]
    assert found == [Place("a-b1", ("a-b1-c", "a-b1-d")), Place("d-e1", ("d-e1-f",))]
    assert Place.parse("projects/1/zones/a-b1-c/instances/x") == Place("a-b1-c")


@pytest.mark.parametrize(
    ("policy", "losses", "spot"),
    [
        ({"on_demand_after": 3}, 2, {True}),
        ({"on_demand_after": 3}, 3, {False}),
        ({"on_demand_after": None}, 9, {True}),
        ({"on_demand_when_full": True}, 0, {True, False}),
        ({"on_demand_after": None, "on_demand_when_full": True}, 9, {True, False}),
        ({"spot": False}, 9, {False}),
    ],
)
def test_on_demand_by_policy(policy, losses, spot):
    config = read_settings({**GIVEN, **policy})
    found = choices(config, losses, candidates(config))
    assert {c.spot for c in found} == spot
    assert found[0].spot is (True in spot)


def managed(index, generation, where, trouble=None):
    name = Machine(index, generation).name("dy-0123456789")
    return Managed(name, Machine(index, generation), where, f"zones/z/instances/{name}", trouble)


def test_a_lost_machine_comes_back_as_its_next_generation():
    up, lost = managed(0, 0, Stage.UP), managed(1, 2, Stage.LOST)
    refused = managed(2, 0, Stage.COMING, NoRoom("full"))
    view = {Group(Place("z"), 0): [up, lost, refused]}
    found = missing_machines(view, [up], 3, {3: 1})
    assert found == [Machine(1, 3), Machine(2, 0), Machine(3, 1)]


@pytest.mark.parametrize(
    ("action", "status", "expected"),
    [
        ("CREATING", "", Stage.COMING),
        ("NONE", "RUNNING", Stage.UP),
        ("NONE", "STAGING", Stage.UP),
        ("NONE", "STOPPING", Stage.GOING),
        ("DELETING", "RUNNING", Stage.GOING),
        ("NONE", "TERMINATED", Stage.LOST),
        ("NONE", "", Stage.LOST),
        ("RECREATING", "", Stage.COMING),
        ("VERIFYING", "RUNNING", Stage.UP),
        ("REFRESHING", "RUNNING", Stage.UP),
        ("RESTARTING", "STOPPING", Stage.COMING),
        ("NONE", "SOMETHING_NEW", Stage.UP),
        ("SOMETHING_NEW", "RUNNING", Stage.UP),
        ("SOMETHING_NEW", "", Stage.COMING),
        ("SOMETHING_NEW", "TERMINATED", Stage.COMING),
        ("NONE", "SUSPENDED", Stage.LOST),
        ("DELETING", "", Stage.GOING),
    ],
)
def test_the_state_of_a_machine_follows_from_its_action_and_status(action, status, expected):
    assert stage(action, status) is expected


def test_prices_know_types_custom_ones_and_none():
    assert prices.price("n2-highcpu-8", "us-central1", False) == pytest.approx(
        8 * (0.031611 + 0.004237)
    )
    spot = prices.price("n2-highcpu-8", "europe-west1", True)
    assert spot == prices.price("n2-highcpu-8", "europe-west1", False), "an upper bound"
    assert prices.price("e2-custom-2-4096", "us-central1", False) > 0
    assert prices.price("g2-standard-4", "us-central1", False) > 0.56
    assert prices.price("n9-mega", "us-central1", False) is None
    assert prices.gpu_price("nvidia-tesla-t4", "nowhere1", False) > 0.35
    assert prices.date() and prices.currency() == "USD"


def test_prices_of_your_own(tmp_path, monkeypatch):
    own = {**prices.table(), "date": "2031-01-01", "machines": {"n9-mega": 7.0}}
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(own))
    monkeypatch.setenv(prices.OVERRIDE, str(path))
    assert prices.price("n9-mega", "us-central1", False) == 7.0
    path = tmp_path / "other.json"
    path.write_text("{}")
    monkeypatch.setenv(prices.OVERRIDE, str(path))
    with pytest.raises(ConfigError, match="lacks date"):
        prices.date()


def test_a_quota_is_named_with_its_link():
    hint = quota_hint("Quota 'N2_CPUS' exceeded. Limit: 8.0 in region europe-west1.", "lab-1234")
    assert "N2_CPUS" in hint and "project=lab-1234" in hint


@pytest.mark.parametrize("url", ["gs://", "gs://b/../x", "gs://bucket/%2e%2e/x", "gs://UPPER/x"])
def test_a_bucket_url_leads_nowhere_else(url):
    with pytest.raises(UserError):
        GcsStore(url)


def test_a_bucket_url_is_normalised():
    assert GcsStore("gs://lab-runs/a/b/").url == "gs://lab-runs/a/b"
    assert GcsStore("gs://lab-runs/").url == "gs://lab-runs"


def test_words_of_a_candidate():
    assert Candidate(0, "n2", True, Place("z")).words == "n2 (Spot) in z"


class Answers:
    """A stand-in for the machine's session: the same answer to everything."""

    def __init__(self, status: int) -> None:
        self.status_code, self.text = status, "The resource is not ready"

    def request(self, method: str, url: str, **more: object) -> "Answers":
        return self

    def json(self) -> dict[str, object]:
        return {}


@pytest.mark.parametrize("status", [400, 409])
def test_a_machine_whose_group_is_being_changed_is_not_the_last_of_it(status):
    """No answer to "who is there" is not "nobody": the last machine deletes the whole group."""
    group = InstanceGroupSelf("p", "zones/z/dy-1", "z", patience_s=0.0)
    group.__dict__["session"] = Answers(status)
    for ask in (group.members, group.incarnation):
        with pytest.raises(ControlPlaneError, match="not ready"):
            ask()
    # Who asks for an end looks again by itself.
    assert group.delete() and group.delete_machine("dy-1-w0-0")


def test_a_lease_has_a_page_in_googles_console():
    backend = GcpBackend(**GIVEN)
    lease = Lease(
        lease_id=ORDER.lease_id,
        backend="gcp",
        order=ORDER,
        created_at=0.0,
        provider={"project": "lab-1234"},
    )
    assert backend.console(lease).endswith("instanceGroups/list?project=lab-1234")


def test_the_machines_limit_goes_by_the_stores_time(monkeypatch):
    """By a driver's clock that is two hours fast, the limit would have passed already."""
    store = MemoryStore("memory://limit", FakeClock(1_400.0))
    mailbox = Mailbox(store, ORDER.experiment)
    monkeypatch.setattr("drillyard_backends.gcp.records.mailbox_of", lambda order: mailbox)
    monkeypatch.setattr("drillyard_backends.wheel.send", lambda order: "")
    made = []
    backend = GcpBackend(FakeClock(1_400.0 + 7_200.0), **GIVEN)
    backend.__dict__["_groups"] = SimpleNamespace(insert_template=made.append)
    backend._prepare(ORDER, candidates(read_settings(GIVEN))[0], "dy-0123456789")
    scheduling = made[0]["properties"]["scheduling"]
    assert scheduling["termination_time"] == "1970-01-01T01:23:20Z"  # the deadline of the order
