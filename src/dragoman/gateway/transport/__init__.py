"""The upstream transport: a small HTTP/1.1 client on asyncio and httptools.

It is the hot path this product exists for: measured at half the CPU of aiohttp and a quarter of httpx for
each streamed event, and one write for each network read falls out of it.
"""

from __future__ import annotations

from .address import BaseAddress, Origin, parse_base, socket_origin
from .answer import Answer
from .client import Outgoing, Transport
from .failures import (
    AnswerAborted,
    AnswerCut,
    BadAddress,
    BrokenAnswer,
    ConnectFailed,
    ConnectionDropped,
    ConnectTimedOut,
    FirstByteTimedOut,
    IdleTimedOut,
    TransportError,
)
from .limits import Limits, Timeouts
from .proxies import Proxy, ProxyRules

__all__ = [
    "Answer",
    "AnswerAborted",
    "AnswerCut",
    "BadAddress",
    "BaseAddress",
    "BrokenAnswer",
    "ConnectFailed",
    "ConnectTimedOut",
    "ConnectionDropped",
    "FirstByteTimedOut",
    "IdleTimedOut",
    "Limits",
    "Origin",
    "Outgoing",
    "Proxy",
    "ProxyRules",
    "Timeouts",
    "Transport",
    "TransportError",
    "parse_base",
    "socket_origin",
]
