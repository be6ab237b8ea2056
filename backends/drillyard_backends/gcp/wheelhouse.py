"""``python -m drillyard_backends.gcp.wheelhouse gs://bucket/wheelhouse``: drillyard in a bucket.

For images that do not bring drillyard: builds its wheel, gets those of everything it needs for the
Python of the image, and puts them under a folder named after their content, with an index of names
and hashes. The start-up script of a machine installs from there without any other network.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from pathlib import Path

from drillyard.errors import DrillyardError, UserError
from drillyard.mailbox.files import sha256_file
from drillyard.mailbox.mailbox import sha256_hex
from drillyard.runs.requirements import pip as run_pip
from drillyard.runs.wheel_resolution import Target, download_all
from drillyard_backends.gcp.store import GcsStore

INDEX = "index.json"
EXTRAS = "rl,gcs,mirror"
TORCH = "https://download.pytorch.org/whl/"
"""Index of torch's builds: ``cpu`` has 0.2 GB, that of PyPI 2.7 with its CUDA."""
PYTHON = "3.11"
"""That of Debian 12."""
_FOR_PYTHON = re.compile(r"-cp3(\d+)-cp3")


def build(folder: Path, source: str, extras: str, pip: list[str], python: str = PYTHON) -> None:
    """Fill a folder with wheels: the source, what it needs, and pip itself.

    Args:
        folder: Where to.
        source: What pip takes: a folder with a project, a wheel, or ``drillyard==1.2``.
        extras: Names between commas.
        pip: Further options of pip, such as ``-c requirements.lock``.
        python: Version of the Python of the image, which need not be that of this computer.

    Raises:
        UserError: pip could not.
        InfrastructureError: The package index does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="drillyard-wheels-") as scratch:
        place = Path(scratch)
        run_pip(["wheel", "--no-deps", "-w", str(folder), *pip, source], [source], place)
        own = next(folder.glob("drillyard-*.whl"), None)
        if own is None:
            raise UserError(f"{source} is not drillyard")
        lines = [f"{own}[{extras}]" if extras else str(own), "pip"]
        download_all(lines, Target("gcp", python, ()), folder, place, pip)


def index(folder: Path, extras: str) -> bytes:
    """The index of a folder of wheels: names and hashes, and what is installed.

    Raises:
        UserError: A wheel of drillyard or of pip is missing.
    """
    wheels = sorted(folder.glob("*.whl"))
    names = {path.name.partition("-")[0] for path in wheels}
    if not {"drillyard", "pip"} <= names:
        raise UserError(f"{folder} lacks the wheel of drillyard or of pip")
    pythons = {m[1] for path in wheels if (m := _FOR_PYTHON.search(path.name))}
    return json.dumps(
        {
            "files": {path.name: sha256_file(path) for path in wheels},
            "install": [f"drillyard[{extras}]" if extras else "drillyard"],
            **({"python": f"3.{pythons.pop()}"} if len(pythons) == 1 else {}),
        },
        indent=1,
    ).encode()


def publish(folder: Path, url: str, extras: str) -> str:
    """Upload wheels and their index; what is there already is not sent again.

    Args:
        folder: With the wheels.
        url: ``gs://bucket/folder``.
        extras: What is installed of drillyard.

    Returns:
        The value for the setting ``wheelhouse``.
    """
    listing = index(folder, extras)
    place = f"{url.rstrip('/')}/{sha256_hex(listing)[:16]}"
    store = GcsStore(place)
    for path in sorted(folder.glob("*.whl")):
        there = store.stat(path.name)
        if there is None or there.size != path.stat().st_size:
            store.upload(path.name, path)
    store.put(INDEX, listing)  # last: an index without its wheels must not exist
    return place


def main(arguments: list[str] | None = None) -> int:
    """Build and publish; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m drillyard_backends.gcp.wheelhouse", description=__doc__
    )
    parser.add_argument("url", help="gs://bucket/folder")
    parser.add_argument(
        "--source", default="drillyard", help="a folder, a wheel, or a requirement"
    )
    parser.add_argument("--extras", default=EXTRAS, help=f"of drillyard; default {EXTRAS}")
    parser.add_argument("--torch", default="cpu", help="torch's build: cpu (default), cu130, …")
    parser.add_argument("--python", default=PYTHON, help="Python of the image; default 3.11")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels that are built already")
    options, pip = parser.parse_known_args(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="drillyard-wheels-") as scratch:
            folder = options.wheels or Path(scratch)
            if options.wheels is None:
                pip += ["--extra-index-url", TORCH + options.torch]
                build(folder, options.source, options.extras, pip, options.python)
            place = publish(folder, options.url, options.extras)
    except DrillyardError as error:
        sys.stderr.write(f"{error}\n{error.hint or ''}\n")
        return int(error.exit_code)
    sys.stdout.write(f"backends.gcp.wheelhouse: {place}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
