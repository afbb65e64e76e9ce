"""What can go wrong between us and an upstream, one class for each thing a caller would treat differently."""

from __future__ import annotations

from dragoman.errors import DragomanError


class TransportError(DragomanError):
    """The exchange with an upstream failed below HTTP's own statuses.

    Attributes:
        began: True once any byte of an answer has been read; such an exchange is never repeated.
    """

    code = "upstream"
    http_status = 502
    began: bool = False


class BadAddress(TransportError):
    """The address, a header or the request line cannot be sent as it is."""

    code = "bad_address"


class ConnectFailed(TransportError):
    """No connection: name not found, refused, unreachable, TLS or proxy said no."""

    code = "connect_failed"


class ConnectTimedOut(ConnectFailed):
    """No connection within `Timeouts.connect_s`."""

    code = "timeout"
    http_status = 504


class FirstByteTimedOut(TransportError):
    """The upstream accepted the request and then said nothing for `Timeouts.first_byte_s`."""

    code = "timeout"
    http_status = 504


class IdleTimedOut(TransportError):
    """The upstream fell silent in the middle of its answer for `Timeouts.idle_s`."""

    code = "timeout"
    http_status = 504


class ConnectionDropped(TransportError):
    """The upstream closed the connection before the first byte of an answer."""

    code = "upstream"


class AnswerCut(TransportError):
    """The answer ended before its own framing said so."""

    code = "truncated"


class BrokenAnswer(TransportError):
    """The answer is not HTTP/1.1, breaks a limit, or uses an encoding we did not ask for."""

    code = "upstream"


class AnswerAborted(TransportError):
    """We ended the exchange ourselves, because nobody wants the answer any more."""

    code = "aborted"
