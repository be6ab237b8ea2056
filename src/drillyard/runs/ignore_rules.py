"""Rules that leave files out, written and read as git's: ``.gitignore``, ``.drillyardignore``.

The last rule that matches decides; a file in a folder that is left out stays out.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore import GitIgnorePatternError
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern


@dataclass(frozen=True)
class IgnoreFile:
    """A file of rules.

    Attributes:
        path: The file; its rules are relative to its folder.
        lines: Its lines.
        rules: What they mean.
    """

    path: Path
    lines: Sequence[str]
    rules: GitIgnoreSpec

    @classmethod
    def read(cls, path: Path) -> IgnoreFile:
        """Returns the rules of a file; none if it does not exist."""
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            lines = []
        # A line that git ignores keeps its place, so that a rule's number is that of its line.
        return cls(path, lines, GitIgnoreSpec(map(_pattern, lines)))


def leaves_out(files: Sequence[IgnoreFile], path: Path, folder: bool) -> str | None:
    """Returns the file and line of the rule that leaves a path out; None if it stays in.

    Args:
        files: The outermost folder first.
        path: A file or folder below the folders of all of them.
        folder: Whether it is a folder.
    """
    for file in reversed(files):
        name = path.relative_to(file.path.parent).as_posix()
        rule = file.rules.check_file(f"{name}/" if folder else name)
        if rule.include is not None and rule.index is not None:
            line = file.lines[rule.index].strip()
            return f"{file.path.name}:{rule.index + 1}: {line}" if rule.include else None
    return None


def _pattern(line: str) -> GitIgnoreSpecPattern:
    with warnings.catch_warnings(), contextlib.suppress(GitIgnorePatternError):
        # Python warns of an unusual pattern such as `[[]`, which means the same in git.
        warnings.simplefilter("ignore", FutureWarning)
        return GitIgnoreSpecPattern(line)
    return GitIgnoreSpecPattern("")
