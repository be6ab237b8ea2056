"""Rules that leave files out, written and read as git's: ``.gitignore``, ``.drillyardignore``.

The last rule that matches decides; a file in a folder that is left out stays out.
Source: https://git-scm.com/docs/gitignore, "Pattern format".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_TOKEN = re.compile(r"\\.|\[!?\]?[^\]]*\]|\*\*|.", re.DOTALL)


@dataclass(frozen=True)
class Rule:
    """One line of such a file.

    Attributes:
        base: Folder of the file; patterns are relative to it.
        pattern: Matches a path below the base.
        folders: It matches folders only.
        keep: It takes back what an earlier rule left out (``!``).
        where: File and line, for messages.
    """

    base: Path
    pattern: re.Pattern[str]
    folders: bool
    keep: bool
    where: str


def read(file: Path) -> list[Rule]:
    """The rules of a file; none if it is not there."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    made = (_rule(file, number, line) for number, line in enumerate(lines, 1))
    return [rule for rule in made if rule is not None]


def leaves_out(rules: Sequence[Rule], path: Path, folder: bool) -> Rule | None:
    """The rule that leaves a file or folder out; None if it stays in."""
    for rule in reversed(rules):
        if rule.folders and not folder:
            continue
        if path.is_relative_to(rule.base) and rule.pattern.fullmatch(
            PurePosixPath(path.relative_to(rule.base)).as_posix()
        ):
            return None if rule.keep else rule
    return None


def _rule(file: Path, number: int, line: str) -> Rule | None:
    text = re.sub(r"(?<!\\) +$", "", line)
    if not text or text.startswith("#"):
        return None
    keep = text.startswith("!")
    text = text.removeprefix("!") if keep else text
    folders = text.endswith("/")
    text = text.removesuffix("/")
    # A slash at the beginning or in the middle ties the pattern to the folder of its file.
    anchored = "/" in text
    try:
        pattern = re.compile(("" if anchored else "(?:.*/)?") + _regex(text.removeprefix("/")))
    except re.error:
        return None  # git ignores it as well
    return Rule(file.parent, pattern, folders, keep, f"{file.name}:{number}: {line.strip()}")


def _regex(text: str) -> str:
    parts = text.split("/")
    made = []
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part == "**":
            made.append(".+" if last else "(?:.*/)?")
            continue
        for token in _TOKEN.findall(part):
            if token in ("*", "**"):
                made.append("[^/]*")
            elif token == "?":
                made.append("[^/]")
            elif token.startswith("[") and len(token) > 1:
                made.append("(?!/)" + re.sub(r"^\[!", "[^", "[" + token[1:].replace("[", r"\[")))
            else:
                made.append(re.escape(token[-1]))
        made.append("" if last else "/")
    return "".join(made)
