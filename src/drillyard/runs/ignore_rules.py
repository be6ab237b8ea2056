"""Rules that leave files out, written and read as git's: ``.gitignore``, ``.drillyardignore``.

The last rule that matches decides; a file in a folder that is left out stays out.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pathspec.patterns.gitignore import GitIgnorePatternError
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern


@dataclass(frozen=True)
class Rule:
    """One line of such a file.

    ``pathspec`` reads the line. Its ``GitIgnoreSpec`` is not used, because it judges files by the
    names of their folders too: it cannot tell whether a folder itself is left out.

    Attributes:
        base: Folder of the file; the pattern is relative to it.
        pattern: What the line says, without a slash at its end.
        folders: It matches folders only.
        where: File and line, for messages.
    """

    base: Path
    pattern: GitIgnoreSpecPattern
    folders: bool
    where: str

    def matches(self, path: Path, folder: bool) -> bool:
        """Returns whether the rule names a path itself, and not only a folder above it."""
        if self.folders and not folder:
            return False
        match = self.pattern.match_file(path.relative_to(self.base).as_posix())
        # The one group of the expression is the slash after a folder.
        return match is not None and match.match.lastgroup is None


def read(path: Path) -> list[Rule]:
    """Returns the rules of a file; none if it does not exist."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    rules = []
    for number, line in enumerate(lines, 1):
        text = re.sub(r"(?<!\\) +$", "", line)
        with warnings.catch_warnings(), contextlib.suppress(GitIgnorePatternError):
            # Python warns of an unusual pattern such as `[[]`, which means the same in git.
            warnings.simplefilter("ignore", FutureWarning)
            pattern = GitIgnoreSpecPattern(text.removesuffix("/"))
            where = f"{path.name}:{number}: {line.strip()}"
            rules.append(Rule(path.parent, pattern, text.endswith("/"), where))
    return rules


def leaves_out(rules: Sequence[Rule], path: Path, folder: bool) -> str | None:
    """Returns the file and line of the rule that leaves a path out; None if it stays in.

    Args:
        rules: Those of the outermost folder first.
        path: A file or folder below the folders of all of them.
        folder: Whether it is a folder.
    """
    for rule in reversed(rules):
        if rule.matches(path, folder):
            return rule.where if rule.pattern.include else None
    return None
