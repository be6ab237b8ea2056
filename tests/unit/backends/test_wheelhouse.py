"""A wheelhouse has wheels for the Python of the image, whatever makes it."""

import json

import pytest

from drillyard.errors import UserError
from drillyard_backends.gcp import wheelhouse
from tests.helpers.wheel_index import serve, wheel

pytestmark = pytest.mark.heavy
LINUX = "manylinux2014_x86_64"


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A wheel that plays drillyard; pip finds what it needs in a folder."""
    index = tmp_path / "index"
    for python in (310, 311, 312):
        wheel(index, "dy_leaf", "1.0", tag=f"cp{python}-cp{python}-{LINUX}")
    wheel(index, "dy_old", "1.0")
    wheel(index, "pip", "25.0")
    wheel(tmp_path, "drillyard", "1.0", "dy_leaf", "dy_old; python_version < '3.12'")
    serve(index, monkeypatch)
    return str(tmp_path / "drillyard-1.0-py3-none-any.whl")


@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_it_is_made_for_another_python_than_the_one_that_makes_it(source, tmp_path, python):
    """It took the wheels of the laptop: Debian 12 could install none of them."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    wheelhouse.build(folder, source, "", [], python)
    listing = json.loads(wheelhouse.index(folder, ""))
    tag = python.replace(".", "")
    assert f"dy_leaf-1.0-cp{tag}-cp{tag}-{LINUX}.whl" in listing["files"]
    assert ("dy_old-1.0-py3-none-any.whl" in listing["files"]) is (python == "3.11")
    assert listing["python"] == python


def test_a_package_without_a_wheel_for_the_image_is_named(source, tmp_path):
    folder = tmp_path / "wheels"
    folder.mkdir()
    with pytest.raises(UserError, match=r"dy[-_]leaf"):
        wheelhouse.build(folder, source, "", [], "3.13")
