"""Activation functions by the name of their class in ``torch.nn``, in NumPy and in JAX.

Each has the default settings of torch. Those of NumPy may write into their argument.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import jax

Compiled: TypeAlias = "Callable[[jax.Array], jax.Array]"
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805
"""Klambauer et al., "Self-Normalizing Neural Networks" (2017)."""


def _tanh(x: np.ndarray) -> np.ndarray:
    np.tanh(x, out=x)
    return x


def _relu(x: np.ndarray) -> np.ndarray:
    np.maximum(x, 0.0, out=x)
    return x


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # With the hyperbolic tangent, which does not overflow.
    result: np.ndarray = np.float32(0.5) * (np.tanh(np.float32(0.5) * x) + np.float32(1.0))
    return result


def _softplus(x: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.logaddexp(x, np.float32(0.0))
    return result


def _elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def _selu(x: np.ndarray) -> np.ndarray:
    return np.float32(_SELU_SCALE) * np.where(
        x > 0, x, np.float32(_SELU_ALPHA) * np.expm1(np.minimum(x, 0))
    )


def _gelu(x: np.ndarray) -> np.ndarray:
    from scipy.special import erf

    result: np.ndarray = np.float32(0.5) * x * (1 + erf(x * np.float32(np.sqrt(0.5))))
    return result


def _hardsigmoid(x: np.ndarray) -> np.ndarray:
    return np.clip(x / np.float32(6) + np.float32(0.5), 0.0, 1.0)


HOST: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Tanh": _tanh,
    "ReLU": _relu,
    "Sigmoid": _sigmoid,
    "Softplus": _softplus,
    "ELU": _elu,
    "CELU": _elu,
    "SELU": _selu,
    "GELU": _gelu,
    "Hardsigmoid": _hardsigmoid,
    "LeakyReLU": lambda x: np.where(x > 0, x, np.float32(0.01) * x),
    "SiLU": lambda x: x * _sigmoid(x),
    "Mish": lambda x: x * np.tanh(_softplus(x)),
    "ReLU6": lambda x: np.clip(x, 0.0, 6.0),
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Hardtanh": lambda x: np.clip(x, -1.0, 1.0),
    "Hardswish": lambda x: x * _hardsigmoid(x),
    "LogSigmoid": lambda x: -_softplus(-x),
    "Identity": lambda x: x,
}
"""Class in ``torch.nn`` -> function of NumPy arrays of float32."""


def compiled(name: str) -> Compiled:
    """The function in JAX.

    Args:
        name: A key of ``HOST``.
    """
    import jax

    special: dict[str, Compiled] = {
        "GELU": lambda x: jax.nn.gelu(x, approximate=False),
        "Tanh": jax.numpy.tanh,
        "Identity": lambda x: x,
        "Softsign": jax.nn.soft_sign,
        "LeakyReLU": jax.nn.leaky_relu,
        "Hardtanh": jax.nn.hard_tanh,
        "Hardswish": jax.nn.hard_swish,
        "Hardsigmoid": jax.nn.hard_sigmoid,
        "LogSigmoid": jax.nn.log_sigmoid,
    }
    function: Compiled = special.get(name) or getattr(jax.nn, name.lower())
    return function
