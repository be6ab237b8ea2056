"""Is the GPU that was asked for usable? Asked in a child, so that the worker stays small."""

from __future__ import annotations

from multiprocessing.connection import Connection


def look(answer: Connection) -> None:
    """Send None when CUDA is usable, else a sentence that says why it is not."""
    try:
        import torch

        if not torch.cuda.is_available():
            built = torch.version.cuda
            answer.send(
                f"torch {torch.__version__} sees no usable GPU"
                + ("" if built else " (it was built without CUDA)")
            )
            return
        for number in range(torch.cuda.device_count()):
            torch.zeros(1, device=f"cuda:{number}").add_(1).item()
        answer.send(None)
    except Exception as error:
        answer.send(f"{type(error).__name__}: {error}")
