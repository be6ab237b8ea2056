"""The real start-up script on bare machines: one kind of image, or of trouble, a case."""

import json
import signal

import pytest

from drillyard.mailbox import open_store
from drillyard.mailbox.records import Phase
from drillyard.mailbox.store import keys
from drillyard_backends.gcp.wheelhouse import INDEX
from drillyard_emulators.bare.root import Recipe
from tests.helpers.patience import PATIENCE_S, until
from tests.helpers.wheel_index import needed, wheel
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
def test_a_wheelhouse_for_another_python(lab, wheels, tmp_path):
    for path in wheels.glob("*.whl"):
        name = path.name.replace("-cp311-cp311-", "-cp312-cp312-")
        (tmp_path / name).symlink_to(path.resolve())
    lab.publish(tmp_path, "gcs")
    lab.begin()
    lived_s, said = lab.first_life(600)
    print(f"a wheelhouse for another Python: {lived_s:.0f} s")
    assert "made for Python 3.12, and this image has 3.11: make it with" in said
    assert lived_s < 120


@pytest.mark.slow
def test_a_driver_that_appears_after_ten_minutes(lab, wheels):
    lab.cloud.ask("hardware", driver="580.126.09", driver_after_s=600)
    lab.publish(wheels, "gcs")
    lab.finishes("script", "sorting.py", timeout_s=1500)
    said = "".join(lab.cloud.serial(m["name"]) for m in lab.cloud.state()["all_machines"])
    assert said.count("waiting for the driver of the GPU") >= 9


TORCH = {"torch/__init__.py": "", "torch/version.py": "__version__ = '2.13.0'\ncuda = '13.0'\n"}
GPU = ("--set", "resources.gpu=L4", "--set", "resources.spot=false")


@pytest.mark.slow
def test_a_driver_that_is_too_old_for_torch(lab, wheels, tmp_path):
    """The worker names both versions before it does anything else, and the machine leaves."""
    folder = tmp_path / "own"
    wheel(folder, "torch", "2.13.0", more=TORCH)
    for path in wheels.glob("*.whl"):
        if not path.name.startswith("torch-"):
            (folder / path.name).symlink_to(path.resolve())
    lab.publish(folder, "gcs")
    store = open_store(lab.settings["WHEELHOUSE"])
    listing = json.loads(store.get(INDEX))
    listing["install"].append("torch")
    store.put(INDEX, json.dumps(listing).encode())
    lab.cloud.ask("hardware", driver="535.183.01")
    lab.shipped("mock.yaml")
    child = lab.start("run", "mock.yaml", *ON_GOOGLE, *GPU)
    code = child.wait(PATIENCE_S)
    words = "NVIDIA driver 535.183.01, and torch 2.13.0 is built for CUDA 13.0, which needs driver"
    assert code != 0 and words in lab.said, lab.said + lab.serials()
    assert lab.left() == {}


@pytest.mark.slow
def test_what_make_image_makes(every_wheel, debian, tmp_path, lab):
    """An agent is trained with nothing but what its steps install; the machine asks no index."""
    lab.cloud.ask("hardware", root=str(make_image(tmp_path, debian, every_wheel)))
    family = "projects/p/global/images/family/drillyard"
    lab.cloud.ask("catalogue", images=[family])
    lab.settings["IMAGE_FAMILY"] = family
    lab.finishes("cstr", more=("--set", "train.steps=2048"))
