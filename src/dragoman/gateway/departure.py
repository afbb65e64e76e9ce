"""Notice that the client hung up. Uvicorn's `send` is silent then; only `receive` tells."""

from __future__ import annotations

import asyncio
from types import TracebackType

from .asgi import Receive


class ClientLeft(Exception):
    """The client hung up; nobody is there to be answered."""


class Departure:
    """Cancels the task it was entered in when the client hangs up, and leaves as `ClientLeft`.

    To be entered when the request's body has been read. Cancellation is what reaches every wait there is: for
    a connection, a slot, a first byte, or a client that stopped reading.
    """

    def __init__(self, receive: Receive) -> None:
        self.left = False
        self._receive = receive
        self._settled = False
        self._task: asyncio.Task[object] | None = None
        self._watcher: asyncio.Task[None] | None = None

    def settle(self) -> None:
        """The answer is complete: a client that leaves from here on has all it wanted.

        To be called before the last `send`: the end of the answer also ends `receive`.
        """
        self._settled = True

    def __enter__(self) -> Departure:
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task(loop)
        self._watcher = loop.create_task(self._watch())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        if self.left and self._task is not None:
            self._task.uncancel()
            if kind is asyncio.CancelledError:
                raise ClientLeft from None

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._settled and self._task is not None:
            self.left = True
            self._task.cancel()
