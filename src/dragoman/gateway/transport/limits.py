"""How long we wait and how much we hold. Every number has its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Waiting times of one exchange, in seconds.

    Attributes:
        connect_s: name lookup, TCP, proxy and TLS together.
        first_byte_s: from the request sent to the first byte of the answer's body. Reasoning models think
            for minutes before they say anything.
        idle_s: between two pieces of the body, not counting time in which we read nothing on purpose.
    """

    connect_s: float = 10.0
    first_byte_s: float = 600.0
    idle_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one transport.

    Attributes:
        head_bytes: of an answer's status line and headers; common servers stop at 16 to 64 KiB.
        buffer_bytes: body held for a reader that is slower than the upstream before we stop reading.
        idle_per_origin: kept-alive connections of one origin.
        keep_idle_s: how long a connection is kept; most servers and load balancers close at 60 to 75 s, and
            a handshake costs 1 to 3 ms of CPU, so closing earlier than they do would only cost.
        spare_window_s: how long after a request a connection its server closed is replaced by a spare one; a
            client's own work between two requests (tools, tests) is mostly shorter.
        stale_window_s: a kept-alive connection that dies this soon after the request was written was
            already dead; later the upstream may well have worked (and billed) before it died.
        drain_bytes, drain_s: what is read after the wire's own end so that the connection can be kept.
    """

    head_bytes: int = 64 * 1024
    buffer_bytes: int = 256 * 1024
    idle_per_origin: int = 64
    keep_idle_s: float = 90.0
    spare_window_s: float = 60.0
    stale_window_s: float = 5.0
    drain_bytes: int = 64 * 1024
    drain_s: float = 2.0
