"""The real start-up script on bare machines: one kind of image, or of trouble, a case."""

import signal

import pytest

from drillyard.mailbox.records import Phase
from drillyard.mailbox.store import keys
from drillyard_emulators.bare.root import Recipe
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.wheel_index import needed
from tests.machines.image import make_image
from tests.machines.laptop import ON_GOOGLE, laptop

pytestmark = pytest.mark.heavy


@pytest.fixture
def lab(tmp_path, debian, monkeypatch):
    with laptop(tmp_path, debian, monkeypatch) as lab:
        yield lab


def test_a_plain_debian_with_a_wheelhouse_gets_requirements_from_the_store(
    lab, wheels, tmp_path, monkeypatch
):
    """Its packages are in no index that it could reach: it has a way to Google alone."""
    lab.publish(wheels, "gcs")
    needed(lab.folder, tmp_path / "index", monkeypatch)
    said = lab.run("run", "needs.yaml", *ON_GOOGLE)
    mailbox = lab.mailbox("needs")
    accepted = mailbox.accepted("t0001-s1", Phase.STORE)
    assert accepted is not None and lab.left() == {}, said
    assert "Successfully installed" in lab.serials()
    assert not [key for key in keys(mailbox.store, "needs/code/wheels/") if key.endswith(".whl")]


@pytest.mark.slow
@pytest.mark.parametrize("clock_s", [3600, -3600])
def test_a_clock_that_is_an_hour_off(lab, wheels, clock_s):
    lab.cloud.ask("hardware", clock_s=clock_s)
    lab.publish(wheels, "gcs")
    lab.finishes("script", "sorting.py")


AWAY = "storage.googleapis.com cannot be reached"
TROUBLES = {
    "no Python": (Recipe(packages=()), {}, {}, "no python3 on this image", 120),
    "Python 3.9": (Recipe("bullseye"), {}, {}, "has Python 3.9.2, and drillyard needs 3.11", 120),
    "a full disk": (None, {"disk_mb": 60}, {}, "No space left on device", 240),
    "no route to Google": (
        None,
        {},
        {"no_google": True},
        "storage.googleapis.com cannot be reached",
        600,
    ),
    "a silent resolver": (
        None,
        {},
        {"silent_names": True},
        "storage.googleapis.com cannot be reached",
        600,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_machine_that_cannot_work_says_why_and_ends(lab, wheels, roots, trouble):
    recipe, hardware, network, words, within_s = TROUBLES[trouble]
    if recipe is not None:
        hardware = {"root": str(roots(recipe))}
    lab.cloud.ask("hardware", **hardware)
    lab.cloud.ask("network", **network)
    lab.publish(wheels, "gcs")
    lab.begin()
    lived_s, said = lab.first_life(7200)
    print(f"{trouble}: {lived_s:.0f} s\n{said[-1500:]}")
    assert words in said
    assert lived_s < within_s


@pytest.mark.slow
def test_a_requirement_whose_index_does_not_answer(lab, wheels):
    """A machine without a public address: pip gives up by itself, and the machine says why."""
    lab.publish(wheels, "gcs")
    more = ("--set", "backends.gcp.python=null")
    child = lab.begin("--set", 'requirements=["pymodbus==3.7.4"]', *more)
    words = "cannot be installed now: the package index does not answer"
    until(lambda: words in lab.serials() or child.poll() is not None, what=words, every_s=1.0)
    assert words in lab.serials()
    child.send_signal(signal.SIGINT)
    assert child.wait(PATIENCE_S) == 130
    assert lab.left() == {}


@pytest.mark.slow
def test_what_make_image_makes(every_wheel, debian, tmp_path, lab):
    """An agent is trained with nothing but what its steps install; the machine asks no index."""
    lab.cloud.ask("hardware", root=str(make_image(tmp_path, debian, every_wheel)))
    family = "projects/p/global/images/family/drillyard"
    lab.cloud.ask("catalogue", images=[family])
    lab.settings["IMAGE_FAMILY"] = family
    lab.finishes("cstr", more=("--set", "train.steps=2048"))
