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
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from drillyard.errors import InfrastructureError, UserError
from drillyard.mailbox.files import sha256_file
from drillyard.runs.requirements import dry_run, pip
from drillyard.system.installed_packages import REQUIREMENT, closure, normal_name

MAX_BYTES = 1 << 30
MACHINE = "x86_64"
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
_ABSENT = re.compile(r"requirement (?P<name>[\w.-]+)(?P<version>\S*) cannot be found")


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

    def __str__(self) -> str:
        return f"Python {self.python} on Linux {MACHINE}"


@dataclass(frozen=True)
class Resolved:
    """A wheel that pip chose.

    Attributes:
        pin: ``name==version``.
        sha256: Its hash, if the index says it.
        size: In bytes; 0 if its server does not say it.
    """

    pin: str
    sha256: str | None
    size: int


@functools.cache
def resolve(lines: tuple[str, ...], target: Target) -> tuple[Resolved, ...]:
    """Returns the packages that machines lack, with every dependency.

    Args:
        lines: The requirements.
        target: The machines.

    Raises:
        UserError: A package has no wheel, they cannot be had together, or they are too large.
        InfrastructureError: The package index does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="drillyard-wheels-") as folder:
        scratch = Path(folder)
        constraints = _stand_ins(scratch / "there", lines, target.extras)
        (scratch / "constraints.txt").write_text("\n".join(constraints), encoding="utf-8")
        options = ["--ignore-installed", "--find-links", str(scratch / "there")]
        options += ["-c", str(scratch / "constraints.txt"), "--target", str(scratch / "site")]
        try:
            report = dry_run(
                [*options, *_options(target), *lines], [*lines], scratch, _program(target)
            )
        except UserError as error:
            raise _without_wheel(error, target, scratch) from error
    resolved = []
    for item in report:
        version, source = item["metadata"]["version"], item["download_info"]
        if not version.endswith(f"+{_MACHINE_LABEL}"):
            pin = f"{item['metadata']['name']}=={version}"
            digest = source.get("archive_info", {}).get("hashes", {}).get("sha256")
            resolved.append(Resolved(pin, digest, _size(source["url"])))
    _refuse_size(sum(each.size for each in resolved))
    return tuple(resolved)


def download(resolved: tuple[Resolved, ...], target: Target, folder: Path) -> list[Path]:
    """Downloads the wheels that were chosen, and verifies them.

    Args:
        resolved: What ``resolve`` returned.
        target: The machines.
        folder: An empty local folder.

    Returns:
        The files.

    Raises:
        UserError: They are too large.
        InfrastructureError: The package index does not answer, or has other files now.
    """
    if not resolved:
        return []
    pins, place = [each.pin for each in resolved], folder / "wheels"
    options = ["download", "--no-deps", "--dest", str(place), *_options(target)]
    pip([*options, *pins], pins, folder, _program(target))
    paths = sorted(place.glob("*.whl"))
    _refuse_size(sum(path.stat().st_size for path in paths))
    hashes = {each.sha256 for each in resolved}
    for path in paths:
        if None not in hashes and sha256_file(path) not in hashes:
            raise InfrastructureError(f"{path.name} is not what the index promised (sha256)")
    return paths


def _program(target: Target) -> tuple[str, ...]:
    """How pip is called, so that it answers conditions of requirements for the machines."""
    facts = {
        "python_version": target.python,
        "python_full_version": f"{target.python}.9",
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": MACHINE,
    }
    return ("-c", _AS_MACHINE, json.dumps(facts))


def _options(target: Target) -> list[str]:
    options = ["--only-binary", ":all:", "--implementation", "cp"]
    options += ["--python-version", target.python]
    return [*options, *(word for name in _PLATFORMS for word in ("--platform", name))]


def _stand_ins(folder: Path, lines: tuple[str, ...], extras: tuple[str, ...]) -> list[str]:
    """Writes a wheel without content for each package that machines have.

    Returns:
        The constraints that make pip take these.
    """
    folder.mkdir()
    named = {normal_name(m["name"]) for line in lines if (m := REQUIREMENT.match(line.strip()))}
    named.discard("drillyard")  # of which only extras can be asked for
    constraints = []
    for package, version in closure("drillyard", extras).items():
        if package in named or not version:
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


def _without_wheel(error: UserError, target: Target, scratch: Path) -> UserError:
    """Tells a package that has no wheel for the machines from one that does not exist."""
    absent = _ABSENT.search(error.message)
    if absent is None:
        return error
    try:
        known = pip(["index", "versions", absent["name"], "-v"], [absent["name"]], scratch)
    except UserError:
        return error
    if absent["version"].startswith("==") and absent["version"][2:] not in re.findall(
        r"[^\s,()]+", known
    ):
        return error
    return UserError(
        f"requirement {absent['name']}{absent['version']} has no wheel for {target}",
        hint=f"use an image or a container that has it, and leave it out of `requirements:`; or "
        f"write `python: null` under `backends.{target.backend}`: then machines ask the package "
        "index, and need a public address or a NAT; or `python:` with the version of your image",
    )


def _size(url: str) -> int:
    """Returns the size of a file in bytes; 0 where its server does not say."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, method="HEAD"), timeout=_ANSWER_S
        ) as reply:
            return int(reply.headers.get("Content-Length") or 0)
    except (OSError, ValueError):
        return 0


def _refuse_size(size: int) -> None:
    if size > MAX_BYTES:
        raise UserError(
            f"the wheels of `requirements:` have {size / 1e6:,.0f} MB, and at most "
            f"{MAX_BYTES / 1e6:,.0f} MB travel to machines",
            hint="use an image or a container that has the largest packages",
        )
