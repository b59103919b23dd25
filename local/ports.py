"""Ports of the local stack: free ones by default, fixed ones on request, a clear error when one is taken."""

from __future__ import annotations

import errno
import random
import socket
from contextlib import ExitStack
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"
PREFERRED_AIRFLOW_PORT = 8080
# Below the range from which Linux and macOS take the source ports of outgoing connections (32768 and up): a
# port found free here cannot be taken by some connection's other end before the service listens on it.
_CANDIDATES = range(20_000, 32_000)
_ATTEMPTS = 200


class PortError(Exception):
    """A port cannot be had; the message names it, its service and how to choose another."""


@dataclass(frozen=True, slots=True)
class PortRequest:
    """What a service asks for.

    `option` and `variable` are the command-line option and the environment variable that fix the port (for
    the error message); `fixed` is the port asked for, `preferred` one to take if it happens to be free.
    """

    service: str
    option: str
    variable: str
    fixed: int | None = None
    preferred: int | None = None


def choose_ports(requests: list[PortRequest]) -> dict[str, int]:
    """Choose one port for each service; returns {service: port}, all different and free on 127.0.0.1.

    Raises:
        PortError: a fixed port is out of range, taken, or asked for twice, or no port is free.
    """
    with ExitStack() as held:
        # All are held until all are chosen, fixed ones first, so that no two services get the same one.
        chosen: dict[str, int] = {}
        for request in requests:
            if request.fixed is not None:
                held.enter_context(_claim_fixed(request))
                chosen[request.service] = request.fixed
        for request in requests:
            if request.fixed is None:
                listener = held.enter_context(_claim_any(request))
                chosen[request.service] = listener.getsockname()[1]
    return chosen


def _claim_fixed(request: PortRequest) -> socket.socket:
    port = request.fixed
    if port is None or not 1 <= port <= 65_535:
        raise PortError(
            f"port {port} for {request.service} is out of range: "
            f"choose one from 1 to 65535 with {request.option} or {request.variable}"
        )
    try:
        return _bind(port)
    except OSError as error:
        reason = "is already in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise PortError(
            f"port {port} for {request.service} {reason}: choose another with {request.option} PORT "
            f"or {request.variable}=PORT, or leave it out to get a free one"
        ) from error


def _claim_any(request: PortRequest) -> socket.socket:
    candidates = random.sample(_CANDIDATES, _ATTEMPTS)
    if request.preferred is not None:
        candidates.insert(0, request.preferred)
    for port in candidates:
        try:
            return _bind(port)
        except OSError:
            continue
    raise PortError(f"no free port for {request.service} on {LOOPBACK}: name one with {request.option} PORT")


def _bind(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # As servers do: a port whose last connections are still in TIME_WAIT counts as free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen(1)
    except OSError:
        listener.close()
        raise
    return listener
