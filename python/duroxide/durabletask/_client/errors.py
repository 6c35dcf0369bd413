"""Errors of the server's calls, in the form that gRPC gives them."""

from __future__ import annotations

import enum
import sys
from typing import Any


class StatusCode(enum.Enum):
    """The codes of gRPC that the clients use, for a process without gRPC."""

    NOT_FOUND = (5, "not found")
    ALREADY_EXISTS = (6, "already exists")
    FAILED_PRECONDITION = (9, "failed precondition")


class RpcError(Exception):
    """A call of a client failed.

    If the program has imported ``grpc``, the exception is also a ``grpc.RpcError``, and its code one of
    ``grpc.StatusCode``.
    """

    def __init__(self, code: Any, details: str) -> None:
        super().__init__(f"{code}: {details}")
        self._code = code
        self._details = details

    def code(self) -> Any:
        """Return the code."""
        return self._code

    def details(self) -> str:
        """Return the text."""
        return self._details


def rpc_error(code: StatusCode, details: str) -> RpcError:
    """Make the error of a call.

    Args:
        code: The code.
        details: The text.
    """
    # A program that has not imported grpc cannot name its classes.
    grpc: Any = sys.modules.get("grpc")
    if grpc is None or not hasattr(grpc, "RpcError"):
        return RpcError(code, details)
    kind: Any = type("RpcError", (RpcError, grpc.RpcError), {"__doc__": RpcError.__doc__})
    error: RpcError = kind(grpc.StatusCode[code.name], details)
    return error
