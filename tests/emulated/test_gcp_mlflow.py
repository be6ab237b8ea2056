"""`drillyard mlflow gcp` against strict fakes of Google's APIs."""

import json

import pytest

from drillyard.errors import ControlPlaneError, InfrastructureError, UserError
from drillyard.testing.clock import FakeClock
from drillyard_backends.gcp.mlflow_server.google import Google
from drillyard_backends.gcp.mlflow_server.image import build
from drillyard_backends.gcp.mlflow_server.names import Choices, choose, read_data
from drillyard_backends.gcp.mlflow_server.server import MlflowServer
from drillyard_backends.gcp.mlflow_server.tokens import TOKENS
from tests.conftest import ROOT
from tests.helpers.mlflow_world import World

URL = "https://drillyard-mlflow-123456789012.europe-west1.run.app"
ME = "serviceAccount:user@emulated-project.iam.gserviceaccount.com"


@pytest.fixture
def world(tmp_path, monkeypatch):
    one = World(tmp_path / "cloud")
    for name, value in one.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("time.sleep", lambda _: None)  # Google's client waits between repeats
    TOKENS._kept.clear()
    yield one
    one.close()
    assert one.problems == []


@pytest.fixture
def server():
    return made()


def made(**more):
    choices = Choices(
        project="emulated-project", region="europe-west1", **{"members": (ME,), **more}
    )
    return MlflowServer(choices, Google(choices.project, clock=FakeClock()))


def said(verb, *words):
    lines = {}
    verb(lambda part, done: lines.__setitem__(part, done), *words)
    return lines


ALL = {
    "account",
    "bucket",
    "secret",
    "instance",
    "database",
    "dbuser",
    "repository",
    "build",
    "service",
}


def test_up_makes_everything_and_is_closed(world, server):
    done = said(server.up)
    assert world.kinds() == ALL
    assert done["server"] == "deployed" and done["image"] == "built"
    assert all(state.ready for _, state in server.look())
    assert server.url == URL
    answer = server.ask()
    assert answer.closed and answer.serving
    # What matters most, in the state of the project itself:
    settings = world.things["instance drillyard-mlflow"]["settings"]
    assert settings["deletionProtectionEnabled"] is True
    assert settings["backupConfiguration"] == {"enabled": True, "pointInTimeRecoveryEnabled": True}
    assert settings["connectorEnforcement"] == "REQUIRED"
    assert "authorizedNetworks" not in settings["ipConfiguration"]
    (bucket,) = world.storage.buckets.values()
    assert bucket.document["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    members = {m for b in world.policies["project"]["bindings"] for m in b["members"]}
    assert not members & {"allUsers", "allAuthenticatedUsers"}
    ((address,),) = world.versions.values()
    service = next(v for k, v in world.things.items() if k.startswith("service "))
    password = address.decode().partition("mlflow:")[2].partition("@")[0]
    assert len(password) >= 40 and password not in json.dumps(service)


def test_up_again_changes_nothing(world, server):
    server.up(lambda *_: None)
    before = len(world.mutations())
    done = said(made().up)
    # The user's password is set to what the secret says, whatever it was.
    assert world.mutations()[before:] == ["sql.users.update"]
    assert set(done.values()) == {"kept"}


def test_operations_that_take_long_are_waited_for(world, server):
    world.polls = 20
    server.up(lambda *_: None)
    assert all(state.ready for _, state in server.look())


def test_an_up_that_was_killed_at_any_call_goes_on(world, server, monkeypatch):
    """Every step in turn is the last one of its process; the next `up` makes the rest."""

    class Killed(BaseException):
        pass

    whole = Google._done
    left = [0]

    def mortal(self, request):
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return whole(self, request)

    monkeypatch.setattr(Google, "_done", mortal)
    lives = 0
    while True:
        lives += 1
        left[0] = lives * 2  # each life gets a little further than the one before
        try:
            made().up(lambda *_: None)
            break
        except Killed:
            assert lives < 100
    monkeypatch.setattr(Google, "_done", whole)
    assert lives > 10
    assert world.kinds() == ALL
    assert all(state.ready for _, state in made().look())


CREATIONS = (
    "services:batchEnable",
    "/serviceAccounts",
    "storage/v1/b",
    "/secrets",
    ":addVersion",
    "/instances",
    "/databases",
    "/users",
    "/repositories",
    "/builds",
    "/services",
    ":setIamPolicy",
)


@pytest.mark.parametrize("status", [None, 503])
def test_lost_answers_and_errors_of_each_creation_are_survived(world, server, status):
    """The work is done, and nobody hears of it: what is there then is taken for ours."""
    for path in CREATIONS:
        rule = {"status": status} if status else {"lose": True}
        world.fault(rf"{path}(\?|$)", method="POST", after=True, times=1, **rule)
    server.up(lambda *_: None)
    rules = world.faults.rules()
    assert [r["match"] for r in rules if not r["played"]] == []
    assert world.kinds() == ALL and all(state.ready for _, state in server.look())
    assert len([k for k in world.things if k.startswith("instance ")]) == 1


def test_apis_that_are_slow_to_switch_on_are_waited_for(world, server):
    late = []
    honest = world._serviceusage_services_batchEnable

    def enable(given, body, query):
        late.extend(body["serviceIds"])
        return honest(given, {"serviceIds": [s for s in late if "sqladmin" not in s]}, query)

    world._serviceusage_services_batchEnable = enable
    asked = []

    class Clock(FakeClock):
        def wait(self, event, timeout_s):
            asked.append(timeout_s)
            if len(asked) > 5:
                world.enabled.add("sqladmin.googleapis.com")
            return super().wait(event, timeout_s)

    server._google.clock = Clock()
    server.up(lambda *_: None)
    assert all(state.ready for _, state in server.look())


def test_what_somebody_changed_is_put_back(world, server):
    server.up(lambda *_: None)
    settings = world.things["instance drillyard-mlflow"]["settings"]
    settings["deletionProtectionEnabled"] = False
    settings["ipConfiguration"]["authorizedNetworks"] = [{"value": "0.0.0.0/0"}]
    settings["databaseFlags"] = [{"name": "max_connections", "value": "50"}]
    name = next(k for k in world.things if k.startswith("service ")).partition(" ")[2]
    world.policies[name]["bindings"][0]["members"].append("allUsers")
    (bucket,) = world.storage.buckets.values()
    bucket.document["iamConfiguration"]["publicAccessPrevention"] = "inherited"
    shown = {part: state for part, state in server.look() if not state.ready}
    assert set(shown) == {"database", "server", "bucket for artifacts"}
    assert "OPEN TO EVERYBODY" in shown["server"].words
    assert not server.ask().closed
    done = said(made(members=()).up)
    assert done["database"] == "changed" and done["bucket for artifacts"] == "closed"
    assert settings["deletionProtectionEnabled"] is True
    assert settings["ipConfiguration"]["authorizedNetworks"] == []
    assert {"name": "max_connections", "value": "50"} in settings["databaseFlags"]
    assert world.policies[name]["bindings"] == [{"role": "roles/run.invoker", "members": [ME]}]
    assert server.ask().closed


def test_a_new_recipe_is_deployed_and_a_larger_tier_set(world, server, monkeypatch):
    server.up(lambda *_: None)
    monkeypatch.setattr(Choices, "image_tag", "r-another")
    done = said(made(tier="db-custom-1-3840").up)
    assert (done["image"], done["server"], done["database"]) == (
        "built",
        "deployed anew",
        "changed",
    )
    assert world.things["instance drillyard-mlflow"]["settings"]["tier"] == "db-custom-1-3840"
    assert said(made().up)["database"] == "kept"  # no --tier keeps what it has


def test_a_secret_that_is_not_the_newest_yet_is_read_by_its_number(world, server):
    """Documented: only reading a version by its number is consistent at once."""
    world.secret_lag = 1
    server.up(lambda *_: None)
    assert [len(kept) for kept in world.versions.values()] == [1]
    world.secret_lag = 0
    assert said(made().up)["secret with the database's password"] == "kept"


def test_down_keeps_data_and_address(world, server):
    server.up(lambda *_: None)
    kept = dict(world.versions)
    assert said(server.down) == {"server": "deleted"}
    assert world.kinds() == ALL - {"service"}
    assert said(made().down) == {"server": "not there"}
    assert said(made(members=()).up)["server"] == "deployed"
    assert made().url == URL and world.versions == kept
    assert server.ask().serving  # who might use it before may use it again
    name = next(k for k in world.things if k.startswith("service ")).partition(" ")[2]
    world.policies[name]["bindings"] = []
    assert said(made(members=()).up)["server"] == "kept"
    assert server.ask().serving is False  # while it is there, its own list is what counts


def test_guests_come_back_although_the_next_up_is_interrupted(world, server):
    """Its server was there already, so they were not looked for: it was closed to all."""
    server.up(lambda *_: None)
    said(server.down)
    honest = world.trouble
    for _ in range(2):  # also after a `down` of the server that nobody was let into yet
        world.trouble = lambda service: "the container does not listen"
        with pytest.raises(ControlPlaneError, match="does not listen"):
            made(members=()).up(lambda *_: None)
        said(made().down)
    with pytest.raises(ControlPlaneError, match="does not listen"):
        made(members=()).up(lambda *_: None)
    world.trouble = honest
    assert said(made(members=()).up)["server"] == "deployed anew"
    assert server.ask().serving


def test_a_resource_that_is_being_changed_is_an_error_of_google(world, server):
    server.up(lambda *_: None)
    world.fault(r"/storage/v1/b/[^/]+(\?|$)", method="DELETE", status=409, message="not empty")
    with pytest.raises(ControlPlaneError, match="not empty"):
        said(server.down, True)


def test_delete_data_leaves_nothing(world, server):
    server.up(lambda *_: None)
    done = said(server.down, True)
    assert done["database"] == "deleted"
    assert world.kinds() == {"build"}  # a build's log is Google's own
    members = {m for b in world.policies["project"]["bindings"] for m in b["members"]}
    assert not [member for member in members if member.startswith("deleted:")]
    assert set(said(made().down, True).values()) == {"not there"}


@pytest.mark.parametrize("kind", ["bucket", "secret", "instance", "repository", "account"])
def test_what_others_made_is_left_alone(world, server, kind):
    place = "projects/emulated-project"
    world.enabled |= {
        f"{n}.googleapis.com"
        for n in ("run", "iam", "sqladmin", "secretmanager", "artifactregistry")
    }
    foreign = {
        "secret": (f"{place}/secrets/drillyard-mlflow-backend-store", {}),
        "instance": ("drillyard-mlflow", {"state": "RUNNABLE", "settings": {}}),
        "repository": (f"{place}/locations/europe-west1/repositories/drillyard-mlflow", {}),
        "account": (
            "drillyard-mlflow@emulated-project.iam.gserviceaccount.com",
            {"description": "somebody's"},
        ),
    }
    if kind == "bucket":
        from drillyard_emulators.gcp.gcs.documents import new_bucket

        world.storage.create(new_bucket({"name": "emulated-project-drillyard-mlflow"}, "1", 0.0))
    else:
        name, thing = foreign[kind]
        world.things[f"{kind} {name}"] = {"name": name, **thing}
    with pytest.raises(UserError, match="did not make it") as error:
        server.up(lambda *_: None)
    assert "--name" in error.value.hint
    with pytest.raises(UserError, match="did not make it"):
        server.down(lambda *_: None, True)


def test_a_missing_right_is_said_with_its_method(world, server):
    world.denied.add("sql.instances.insert")
    with pytest.raises(UserError, match=r"sql\.instances\.insert") as error:
        server.up(lambda *_: None)
    assert "the roles that `up` needs" in error.value.hint
    assert "instance" not in world.kinds()


def test_a_build_that_fails_says_where_its_log_is(world, server):
    world.may = lambda resource, role, member: "writer" not in role
    with pytest.raises(ControlPlaneError, match="not built") as error:
        server.up(lambda *_: None)
    assert "https://console/build" in error.value.hint


def test_a_server_that_does_not_start_is_an_error_and_is_deployed_again(world, server):
    honest = world.trouble
    world.trouble = lambda service: "the container does not listen"
    with pytest.raises(ControlPlaneError, match="does not listen"):
        server.up(lambda *_: None)
    assert not dict(server.look())["server"].ready
    world.trouble = honest
    assert said(made().up)["server"] == "deployed anew"


def test_a_server_without_a_condition_yet_is_waited_for(world, server):
    world.undecided = 2
    assert said(server.up)["server"] == "deployed"
    assert world.undecided == 0


def test_status_of_nothing_changes_nothing(world, server):
    assert [state.there for _, state in server.look()] == [False] * 9
    assert world.mutations() == []


def test_google_that_never_answers(world, server):
    world.fault("serviceusage", lose=True)
    with pytest.raises(InfrastructureError) as error:
        server.up(lambda *_: None)
    assert error.value.hint


def test_a_project_that_is_none(world):
    with pytest.raises(UserError, match="no project"):
        MlflowServer(Choices(project="another-one", region="europe-west1")).url  # noqa: B018


@pytest.mark.parametrize(
    "bad",
    [
        {"project": "X"},
        {"region": "europe-west1-b"},
        {"name": "a"},
        {"name": "UPPER-case"},
        {"tier": "large"},
        {"members": ("allUsers",)},
        {"members": ("me@x.org",)},
    ],
)
def test_bad_choices(bad):
    with pytest.raises(UserError) as error:
        choose(**{"project": "emulated-project", "region": "europe-west1", **bad})
    assert "allowed" in str(error.value)


def test_the_recipe_installs_what_the_lock_has():
    lock = set((ROOT / "requirements.lock").read_text().splitlines())
    wanted = [w.replace("[binary]", "") for w in read_data("requirements.txt").split()]
    assert [w for w in wanted if w not in lock] == []
    script = build(Choices(project="emulated-project", region="europe-west1"))["steps"][0]
    assert read_data("entrypoint.py").rstrip() in script["script"]


def test_a_token_goes_to_its_server_and_nowhere_else(world):
    import requests

    from drillyard_backends.gcp.mlflow_server.tokens import mlflow_auth

    sign = mlflow_auth().get_auth()
    for url, signed in (
        (f"{URL}/x", True),
        ("https://example.org/x", False),
        (URL.replace("https", "http"), False),
        ("https://run.app.example.org", False),
    ):
        request = sign(requests.Request("GET", url).prepare())
        assert ("Authorization" in request.headers) is signed, url
