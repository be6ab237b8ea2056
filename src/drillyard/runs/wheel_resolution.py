"""Chooses wheels for machines of another Python and platform, with pip.

What drillyard itself brings is on every machine already, in its image or wheelhouse, so it does
not travel. A small stand-in with the version that is installed here takes its place, so that pip
neither fetches torch nor chooses another version of it. A package that the requirements name is
an exception.
"""

from __future__ import annotations

import functools
import json
import re
import tempfile
import urllib.request
import zipfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from importlib import metadata
from pathlib import Path

from drillyard.errors import UserError
from drillyard.runs.requirements import dry_run, pip
from drillyard.system.installed_packages import LINUX, closure, named

MAX_BYTES = 1 << 30
MACHINE = LINUX["platform_machine"]
_PLATFORMS = (
    "manylinux2014_x86_64",
    # The oldest first, which more machines have: pip prefers what is named first.
    *(f"manylinux_2_{minor}_x86_64" for minor in range(5, 36)),
    "linux_x86_64",
)
_MACHINE_LABEL = "machine"
"""Label of the stand-ins' versions: nothing in an index has the same."""
_AS_MACHINE = """
import json, sys
from pip._internal.cli.main import main
from pip._vendor.packaging import markers
here, machine = markers.default_environment, json.loads(sys.argv.pop(1))
markers.default_environment = lambda: {**here(), **machine}
sys.exit(main())
"""
"""pip, which otherwise takes the conditions of requirements (``; python_version < "3.12"``) for
questions about the Python that it runs in."""
_ANSWER_S = 10.0
_ABSENT = re.compile(r"requirement (\S+) cannot be found")


@dataclass(frozen=True)
class Target:
    """The machines of a backend.

    Attributes:
        backend: Name of the backend.
        python: Version of their Python, such as ``3.11``.
        extras: Extras of drillyard that they have.
    """

    backend: str
    python: str
    extras: tuple[str, ...]

    @property
    def environment(self) -> dict[str, str]:
        """Answers to conditions of requirements."""
        python = {"python_version": self.python, "python_full_version": f"{self.python}.9"}
        return {**LINUX, **python}

    def __str__(self) -> str:
        return f"Python {self.python} on Linux {MACHINE}"


@functools.cache
def resolve(lines: tuple[str, ...], target: Target) -> Mapping[str, int]:
    """Chooses wheels of the packages that machines lack, with every dependency.

    Args:
        lines: The requirements.
        target: The machines.

    Returns:
        ``name==version`` -> bytes; 0 if its server does not say that.

    Raises:
        UserError: A package has no wheel, they cannot be had together, or they are too large.
        InfrastructureError: The package index does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="drillyard-wheels-") as folder:
        scratch = Path(folder)
        constraints = _stand_ins(scratch / "there", lines, target)
        (scratch / "constraints.txt").write_text("\n".join(constraints), encoding="utf-8")
        options = ["--ignore-installed", "--find-links", str(scratch / "there")]
        options += ["-c", str(scratch / "constraints.txt"), "--target", str(scratch / "site")]
        try:
            report = dry_run(
                [*options, *_options(target), *lines], [*lines], scratch, _program(target)
            )
        except UserError as error:
            if absent := _ABSENT.search(error.message):
                raise _without_wheel(absent[1], target) from error
            raise
    chosen = {
        f"{item['metadata']['name']}=={item['metadata']['version']}": item["download_info"]["url"]
        for item in report
        if not item["metadata"]["version"].endswith(f"+{_MACHINE_LABEL}")
    }
    sizes = {pin: _size(url) for pin, url in chosen.items()}
    _refuse_size(sum(sizes.values()))
    return sizes


def download(pins: Collection[str], target: Target, folder: Path) -> list[Path]:
    """Downloads the wheels that were chosen; pip compares them with the hashes of the index.

    Args:
        pins: What ``resolve`` returned.
        target: The machines.
        folder: An empty local folder.

    Returns:
        The files.

    Raises:
        UserError: They are too large.
        InfrastructureError: The package index does not answer.
    """
    if not pins:
        return []
    download_all([*pins], target, folder / "wheels", folder, ["--no-deps"])
    paths = sorted((folder / "wheels").glob("*.whl"))
    _refuse_size(sum(path.stat().st_size for path in paths))
    return paths


def download_all(
    lines: list[str], target: Target, folder: Path, scratch: Path, options: list[str]
) -> None:
    """Downloads the wheels of requirements.

    Args:
        lines: The requirements.
        target: The machines.
        folder: Where to.
        scratch: A local folder, for pip's log.
        options: Further options of pip.

    Raises:
        UserError: A package has no wheel.
        InfrastructureError: The package index does not answer.
    """
    words = ["download", "--dest", str(folder), *_options(target), *options, *lines]
    pip(words, lines, scratch, _program(target))


def _program(target: Target) -> tuple[str, ...]:
    """How pip is called, so that it answers conditions of requirements for the machines."""
    return ("-c", _AS_MACHINE, json.dumps(target.environment))


def _options(target: Target) -> list[str]:
    options = ["--only-binary", ":all:", "--implementation", "cp"]
    options += ["--python-version", target.python]
    return [*options, *(word for name in _PLATFORMS for word in ("--platform", name))]


def _stand_ins(folder: Path, lines: tuple[str, ...], target: Target) -> list[str]:
    """Writes a wheel without content for each package that machines have.

    Returns:
        The constraints that make pip take these.
    """
    folder.mkdir()
    own = named(lines).keys() - {"drillyard"}  # of which only extras can be asked for
    constraints = []
    for package, version in closure("drillyard", target.extras, target.environment).items():
        if package in own or not version:
            continue
        version = f"{version.partition('+')[0]}+{_MACHINE_LABEL}"
        more: list[str] = []
        with suppress(metadata.PackageNotFoundError):
            about = metadata.metadata(package)
            more = [f"Provides-Extra: {name}" for name in about.get_all("Provides-Extra") or []]
            needs = about.get_all("Requires-Dist") or []
            more += [f"Requires-Dist: {line}" for line in needs if "extra ==" in line]
        name = package.replace("-", "_")
        info = f"{name}-{version}.dist-info"
        with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
            head = ["Metadata-Version: 2.1", f"Name: {package}", f"Version: {version}"]
            wheel.writestr(f"{info}/METADATA", "\n".join([*head, *more, ""]))
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
        constraints.append(f"{package}=={version}")
    return constraints


def _without_wheel(requirement: str, target: Target) -> UserError:
    return UserError(
        f"requirement {requirement} has no wheel for {target} in your package index",
        hint="check name and version; if it has none, use an image or a container that has it, "
        "and leave it out of `requirements:`; or let machines ask the package index by a public "
        f"address or a NAT, with `python: null` under `backends.{target.backend}`; or write "
        "`python:` with the version of your image",
    )


def _size(url: str) -> int:
    """Returns the size of a file in bytes; 0 where its server does not say."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, method="HEAD"), timeout=_ANSWER_S
        ) as reply:
            return int(reply.headers.get("Content-Length") or 0)
    except (OSError, ValueError, HTTPException):
        return 0


def _refuse_size(size: int) -> None:
    if size > MAX_BYTES:
        raise UserError(
            f"the wheels of `requirements:` have {size / 1e6:,.0f} MB, and at most "
            f"{MAX_BYTES / 1e6:,.0f} MB travel to machines",
            hint="use an image or a container that has the largest packages",
        )
