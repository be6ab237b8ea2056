"""The folder that an environment's image is built of: what is sent of it, and whether it fits.

Azure ML takes at most 100 files and 1 MB ("Service limits in Azure Machine Learning",
learn.microsoft.com, Custom environments). A larger folder is registered without a word, and its
build fails later, perhaps without a log (Azure/azure-cli-extensions#5560), so it is refused here.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from pathspec import PathSpec
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

from drillyard.errors import UserError
from drillyard.findings import Finding, Severity, problem, warning

MOST_FILES = 100
MOST_BYTES = 1_000_000
"""The smaller of the two meanings of 1 MB: which one Azure means is not documented."""
IGNORE_FILES = (".amlignore", ".gitignore")
"""What azure-ai-ml leaves out; the first one that is there counts."""


def files(folder: Path) -> Iterator[tuple[str, Path]]:
    """What azure-ai-ml sends of a folder: name and file, links followed; in no order.

    Args:
        folder: The folder with the Dockerfile.
    """
    left_out = _left_out(folder)
    for place, _, names in os.walk(folder, followlinks=True):
        for name in names:
            path = Path(place, name)
            if not left_out(path):
                yield path.relative_to(folder).as_posix(), path


def examine(folder: Path) -> Iterator[Finding]:
    """Yields what keeps Azure ML from building an image of a folder, and warnings.

    Args:
        folder: The folder with the Dockerfile.
    """
    # The folder may be a whole disk: stop when it is too large.
    some = itertools.islice(files(folder), 10 * MOST_FILES)
    try:
        sizes = {name: path.stat().st_size for name, path in some}
    except OSError as error:
        why = f"{error.filename} cannot be sent: {error.strerror}"
        yield problem("build", why, "correct or delete it")
        return
    except ValueError as error:
        why = f"{' or '.join(IGNORE_FILES)} in {folder} cannot be read: {error}"
        yield problem("build", why, "correct this line, or write the file in UTF-8")
        return
    size = sum(sizes.values())
    if len(sizes) > MOST_FILES or size > MOST_BYTES:
        biggest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        names = ", ".join(f"{name} ({sizes[name] / 1e6:.2f} MB)" for name in biggest)
        count = f"{len(sizes)}{' or more' if len(sizes) == 10 * MOST_FILES else ''}"
        yield problem(
            "build",
            f"{folder} has {count} files of {size / 1e6:.2f} MB (biggest: {names}), and Azure ML "
            f"builds images of at most {MOST_FILES} files and {MOST_BYTES / 1e6:g} MB",
            f"list what the Dockerfile does not need in {folder / IGNORE_FILES[0]}, or let the "
            "Dockerfile download it; drillyard's own wheel comes to jobs by itself",
        )
        return
    for name in sizes:
        if Path(name).match("drillyard-*.whl"):
            yield warning(
                "build",
                f"{folder / name} is not used: jobs get the drillyard that runs here",
                "delete it, and do not install drillyard in the Dockerfile",
            )


def check(folder: Path) -> None:
    """Refuse a folder that Azure ML would not take.

    Raises:
        UserError: Too many files, too large, or a file that cannot be read.
    """
    for finding in examine(folder):
        if finding.severity is Severity.ERROR:
            raise UserError(f"backends.azure.build: {finding.message}", hint=finding.fix)


def _left_out(folder: Path) -> Callable[[Path], bool]:
    """As azure-ai-ml does it: git's patterns of one file, of which the last that fits counts."""
    file = next((folder / name for name in IGNORE_FILES if (folder / name).is_file()), None)
    if file is None:
        return lambda path: False
    lines = [line.rstrip() for line in file.read_text("utf-8-sig").splitlines()]
    rules = PathSpec.from_lines(GitIgnoreSpecPattern, lines)
    return lambda path: rules.match_file(path.relative_to(folder).as_posix())
