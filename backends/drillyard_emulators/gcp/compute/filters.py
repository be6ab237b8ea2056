"""The ``filter`` of Google's lists: ``labels.lease=dy-1 AND (status=RUNNING OR name=a*)``."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable

from drillyard.documents.json_types import JsonView
from drillyard_emulators.http.fields import Document
from drillyard_emulators.http.wire import Refusal

Test = Callable[[Document], bool]
_TOKEN = re.compile(
    r"""\s*(?:(?P<mark>[()])|(?P<op>!=|>=|<=|=|<|>|:)|"(?P<quoted>[^"]*)"|(?P<word>[^\s()=!<>:"]+))"""
)


def parse(text: str) -> Test:
    """A test of a resource's document.

    Raises:
        Refusal: 400 for text that is not a filter.
    """
    if not text.strip():
        return lambda _: True
    tokens: list[tuple[str, str]] = []
    at = 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _bad(text)
        kind = str(match.lastgroup)
        tokens.append((kind, match.group(kind)))
        at = match.end()
    parser = _Parser(tokens, text)
    test = parser.either()
    if parser.tokens:
        raise _bad(text)
    return test


def _bad(text: str) -> Refusal:
    return Refusal(
        400, "invalid", f"Invalid value for field 'filter': '{text}'. Invalid list filter."
    )


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]], text: str) -> None:
        self.tokens, self._text = tokens, text

    def either(self) -> Test:
        tests = [self._both()]
        while self._word("OR"):
            tests.append(self._both())
        return lambda document: any(test(document) for test in tests)

    def _both(self) -> Test:
        tests = [self._one()]
        while self.tokens and self.tokens[0] != ("mark", ")") and self.tokens[0] != ("word", "OR"):
            self._word("AND")
            tests.append(self._one())
        return lambda document: all(test(document) for test in tests)

    def _one(self) -> Test:
        if self._word("NOT"):
            test = self._one()
            return lambda document: not test(document)
        kind, text = self._next()
        if (kind, text) == ("mark", "("):
            test = self.either()
            if self._next() != ("mark", ")"):
                raise _bad(self._text)
            return test
        if kind != "word":
            raise _bad(self._text)
        operator = self._next()
        if operator in (("word", "eq"), ("word", "ne")):
            pattern = self._next()[1]
            equal = operator[1] == "eq"
            return lambda d: (re.fullmatch(pattern, _text(_find(d, text))) is not None) == equal
        if operator[0] != "op":
            raise _bad(self._text)
        return _compare(text, operator[1], self._next()[1])

    def _word(self, word: str) -> bool:
        if self.tokens and self.tokens[0] == ("word", word):
            self.tokens.pop(0)
            return True
        return False

    def _next(self) -> tuple[str, str]:
        if not self.tokens:
            raise _bad(self._text)
        return self.tokens.pop(0)


def _compare(path: str, operator: str, value: str) -> Test:
    def test(document: Document) -> bool:
        actual = _find(document, path)
        if operator == ":":
            return actual is not None and (value == "*" or value in _text(actual))
        if operator in ("=", "!="):
            same = actual is not None and fnmatch.fnmatchcase(_text(actual), value)
            return same == (operator == "=")
        try:
            left, right = float(_text(actual)), float(value)
        except (TypeError, ValueError):
            return False
        outcomes = {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}
        return outcomes[operator]

    return test


def _find(document: JsonView, path: str) -> JsonView:
    for part in path.split("."):
        if not isinstance(document, dict):
            return None
        document = document.get(part)
    return document


def _text(value: JsonView) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
