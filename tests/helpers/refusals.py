"""What refuses a file or a setting says all that is wrong with it: its errors as a list."""

from collections.abc import Callable
from typing import Any

import pytest

from drillyard.errors import ConfigError, ConfigErrors


def refusals(call: Callable[..., Any], *given: Any, **more: Any) -> list[ConfigError]:
    """The errors with which a call refuses what it is given."""
    with pytest.raises((ConfigError, ConfigErrors)) as caught:
        call(*given, **more)
    error = caught.value
    return error.errors if isinstance(error, ConfigErrors) else [error]
