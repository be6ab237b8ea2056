"""Are the GPUs that were asked for usable? Only a child imports torch: the worker stays small."""

from __future__ import annotations

from multiprocessing.connection import Connection

from drillyard.backend import Order
from drillyard.errors import UserError
from drillyard.system import gpu_software
from drillyard.system.installed_packages import named

HINT = gpu_software.HINT
NOT_USABLE = "no GPU is usable here"
_BROUGHT = {"jax", "torch"}


def compare(order: Order) -> None:
    """Compares driver and packages before minutes are spent on installing requirements.

    Raises:
        UserError: They are known not to fit.
    """
    if not order.gpus or _BROUGHT & named(order.requirements).keys():
        return  # requirements may bring what fits
    trouble = gpu_software.misfit(order.jax)
    if trouble is not None:
        raise UserError(refusal(order.gpus, trouble), hint=HINT)


def refusal(gpus: int, trouble: str) -> str:
    """Returns the message of a worker without a usable GPU."""
    return f"resources.gpus is {gpus}, and {NOT_USABLE}: {trouble}"


def look(answer: Connection) -> None:
    """Send None when CUDA is usable, else a sentence that says why it is not."""
    try:
        import torch

        if not torch.cuda.is_available():
            loaded = gpu_software.driver()
            text = f"torch {torch.__version__} with CUDA {torch.version.cuda or '(none)'} and "
            text += f"NVIDIA driver {loaded or '(none)'}: "
            try:
                torch.cuda.init()  # type: ignore[no-untyped-call]
            except Exception as error:
                text = gpu_software.too_old(str(error)) or text + str(error).partition("\n")[0]
            answer.send(text)
            return
        for number in range(torch.cuda.device_count()):
            torch.zeros(1, device=f"cuda:{number}").add_(1).item()
        answer.send(None)
    except Exception as error:
        answer.send(f"{type(error).__name__}: {error}")
