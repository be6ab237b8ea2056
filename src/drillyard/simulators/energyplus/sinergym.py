"""What Sinergym expects of an installation of EnergyPlus, for the engine from a package."""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from drillyard.system.home import local_home

_FOLDER = "EPLUS_PATH"
_DICTIONARY = "Energy+.idd"


def offer_dictionary() -> None:
    """Sets EPLUS_PATH to a folder with EnergyPlus's dictionary, unless it is set.

    Sinergym reads the design days of a weather with it. The package of the engine has none; that
    of eppy, which Sinergym needs, describes the same design days.
    """
    eppy = find_spec("eppy")
    if _FOLDER in os.environ or eppy is None or eppy.origin is None:
        return
    known = sorted(Path(eppy.origin).parent.glob("resources/iddfiles/Energy+V9*.idd"))
    if not known:
        return
    folder = local_home() / "energyplus"
    if not (folder / _DICTIONARY).exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            Path(shutil.copy(known[-1], work)).replace(folder / _DICTIONARY)
    os.environ[_FOLDER] = str(folder)
