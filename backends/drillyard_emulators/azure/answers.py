"""Errors as Azure writes them."""

from __future__ import annotations

from drillyard_emulators.http.wire import Response

_CODES = {
    400: "BadRequest",
    401: "ExpiredAuthenticationToken",
    403: "AuthorizationFailed",
    404: "ResourceNotFound",
    409: "Conflict",
    429: "TooManyRequests",
    500: "InternalServerError",
    503: "ServerBusy",
}


class Denied(Exception):
    """A service says no.

    Args:
        status: HTTP status.
        code: Azure's machine-readable word.
        message: For people.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def response(self) -> Response:
        """The answer."""
        return refused(self.status, self.code, self.message)


def refused(status: int, code: str, message: str) -> Response:
    """An error, as Resource Manager and the storage service both are understood to say it.

    Args:
        status: HTTP status.
        code: Azure's word for it; empty: the usual one of the status.
        message: For people.
    """
    code = code or _CODES.get(status, "Error")
    answer = Response.of({"error": {"code": code, "message": message}}, status)
    answer.headers["x-ms-error-code"] = code
    if status in (429, 503):
        answer.headers["Retry-After"] = "0"
    return answer
