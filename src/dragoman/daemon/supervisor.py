"""The parent's loop: keep the gateways up, start the control process when somebody knocks, hand everything
a clean end.

One thread, one selector, the standard library alone. The parent never reads a request: it binds, it waits.

The socket of a child that runs on demand is watched here while nobody serves it. Whoever connects waits in
the kernel's queue; the first such connection starts the child, and connections that arrive while an idle one
is leaving simply wait for its successor.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable

from dragoman.daemon.channel import Message
from dragoman.daemon.children import Child, ChildState, start_child
from dragoman.daemon.health import is_healthy
from dragoman.daemon.log import JsonLog
from dragoman.daemon.plan import OnDemand, ServePlan
from dragoman.daemon.refusal import refuse_pending

# A gateway that lived this long and then died is replaced at once; a younger one ever more slowly.
_STEADY_S = 10.0
_FIRST_BACKOFF_S = 0.2
_MAX_BACKOFF_S = 10.0
# After a failed start on demand, requests are told so at once for this long instead of trying again.
_REFUSE_S = 1.0
_KILL_MARGIN_S = 2.0

GATEWAY = "gateway"


class Supervisor:
    """Supervises one daemon from start to end.

    Args:
        plan: what to run, with open descriptors.
        log: where events go.
        on_serving: called once, when the data plane answers.
        on_children: called when a child starts, becomes ready or ends.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        plan: ServePlan,
        *,
        log: JsonLog,
        on_serving: Callable[[], None],
        on_children: Callable[[list[Child]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan = plan
        self._log = log
        self._on_serving = on_serving
        self._on_children = on_children
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._children: list[Child] = []
        self._serving = False
        self._stopping = False
        self._stop_by = float("inf")
        self._failure: Message | None = None
        # Index of a gateway to start again, and when.
        self._restarts: dict[int, float] = {}
        self._backoff_s: dict[int, float] = {}
        self._on_demand = {child.role: child for child in plan.on_demand}
        # Role of a child that could not start: until when its callers are refused, and why.
        self._refusals: dict[str, tuple[float, Message]] = {}

    @property
    def failure(self) -> Message | None:
        """Why the daemon could not start: `message` and `hint`."""
        return self._failure

    def run(self) -> int:
        """Run until told to stop.

        Returns:
            The exit code: 0 after a stop, 1 when the data plane never came up.
        """
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        previous = signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        handled = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP)
        handlers = {number: signal.signal(number, _noted) for number in handled}
        self._selector.register(wake_read, selectors.EVENT_READ, "wake")
        try:
            for index in range(self._plan.workers):
                self._start_gateway(index)
            for wanted in self._plan.on_demand:
                self._watch(wanted)
            while not self._done():
                self._step(wake_read)
            return 0 if self._failure is None else 1
        finally:
            for child in self._children:
                child.kill()
                child.process.wait()
            signal.set_wakeup_fd(previous)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            self._selector.close()
            os.close(wake_read)
            os.close(wake_write)

    def _done(self) -> bool:
        return self._stopping and not self._children

    def _step(self, wake_read: int) -> None:
        for key, _ in self._selector.select(self._wait_s()):
            if key.data == "wake":
                for number in os.read(wake_read, 4096):
                    self._on_signal(number)
            elif isinstance(key.data, OnDemand):
                self._on_knock(key.data)
            elif isinstance(key.data, Child):
                self._on_channel(key.data)
        self._reap()
        self._on_time()

    def _wait_s(self) -> float | None:
        """Until the next thing that happens by itself; None (sleep for ever) is the normal case."""
        moments = list(self._restarts.values())
        moments += [
            child.since + self._plan.start_s for child in self._children if child.state is ChildState.STARTING
        ]
        if self._stopping:
            moments.append(self._stop_by)
        return max(0.0, min(moments) - self._clock()) if moments else None

    def _on_signal(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stop(patient=not self._stopping)

    def _on_time(self) -> None:
        now = self._clock()
        for index, moment in list(self._restarts.items()):
            if moment <= now and not self._stopping:
                del self._restarts[index]
                self._start_gateway(index)
        for child in self._children:
            if child.state is ChildState.STARTING and child.since + self._plan.start_s <= now:
                child.failure = child.failure or {
                    "message": f"the {child.role} process was not ready after {self._plan.start_s:.0f} s"
                }
                child.kill()
        if self._stopping and now >= self._stop_by:
            for child in self._children:
                child.kill()

    # gateways

    def _start_gateway(self, index: int) -> None:
        fds = (self._plan.tcp_fd, self._plan.gateway_fd)
        argv = (*self._plan.gateway_argv, "--tcp-fd", str(fds[0]), "--unix-fd", str(fds[1]))
        self._start(GATEWAY, index, argv, fds)

    def _on_gateway_ready(self) -> None:
        if self._serving or any(
            child.state is not ChildState.READY for child in self._children if child.role == GATEWAY
        ):
            return
        if not is_healthy(self._plan.url):
            self._fail({"message": f"the gateway at {self._plan.url} does not answer"})
            return
        self._serving = True
        self._on_serving()

    def _on_gateway_end(self, child: Child) -> None:
        if self._stopping:
            return
        if not self._serving:
            self._fail(child.failure or {"message": "the gateway process ended while it was starting"})
            return
        lived_s = self._clock() - child.since
        backoff_s = self._backoff_s.get(child.index, 0.0)
        if child.failure is None and lived_s >= _STEADY_S:
            backoff_s = 0.0
        self._restarts[child.index] = self._clock() + backoff_s
        self._backoff_s[child.index] = min(_MAX_BACKOFF_S, max(_FIRST_BACKOFF_S, 2 * backoff_s))

    # children on demand

    def _watch(self, wanted: OnDemand) -> None:
        if wanted.fd not in self._selector.get_map():
            self._selector.register(wanted.fd, selectors.EVENT_READ, wanted)

    def _on_knock(self, wanted: OnDemand) -> None:
        refused_until, reason = self._refusals.get(wanted.role, (0.0, {}))
        if self._clock() < refused_until:
            refuse_pending(wanted.fd, wanted.role, reason)
            return
        self._selector.unregister(wanted.fd)
        argv = (*wanted.argv, "--listen-fd", str(wanted.fd), "--idle-s", str(wanted.idle_s))
        self._start(wanted.role, 0, argv, (wanted.fd,))

    def _on_demand_end(self, child: Child) -> None:
        if self._stopping:
            return
        wanted = self._on_demand[child.role]
        if child.state is ChildState.STARTING:
            self._refuse(
                wanted, child.failure or {"message": f"the {child.role} process could not be started"}
            )
        self._watch(wanted)

    def _refuse(self, wanted: OnDemand, reason: Message) -> None:
        self._refusals[wanted.role] = (self._clock() + _REFUSE_S, reason)
        refuse_pending(wanted.fd, wanted.role, reason)

    # any child

    def _start(self, role: str, index: int, argv: tuple[str, ...], fds: tuple[int, ...]) -> None:
        try:
            child = start_child(
                role, index, argv, pass_fds=fds, stderr_file=self._plan.stderr_file, since=self._clock()
            )
        except OSError as error:
            self._log.write("error", "child_not_started", child=role, index=index, errno=error.errno)
            failure: Message = {"message": f"cannot start the {role} process: {error.strerror}"}
            if role == GATEWAY and not self._serving:
                self._fail(failure)
            elif role == GATEWAY:
                self._restarts[index] = self._clock() + _MAX_BACKOFF_S
            else:
                self._refuse(self._on_demand[role], failure)
                self._watch(self._on_demand[role])
            return
        self._children.append(child)
        self._selector.register(child.channel, selectors.EVENT_READ, child)
        self._log.write("info", "child_started", child=role, index=index, child_pid=child.pid)
        self._on_children(self._children)

    def _on_channel(self, child: Child) -> None:
        messages = child.channel.receive()
        if messages is None:
            self._selector.unregister(child.channel)
            return
        for message in messages:
            self._on_message(child, message)

    def _on_message(self, child: Child, message: Message) -> None:
        match message["type"]:
            case "ready" if child.state is ChildState.STARTING:
                child.state = ChildState.READY
                self._log.write("info", "child_ready", child=child.role, child_pid=child.pid)
                self._on_children(self._children)
                if child.role == GATEWAY:
                    self._on_gateway_ready()
            case "failed":
                child.failure = message
            case "idle":
                child.drain(self._grace_s(child))
            case _:
                pass

    def _reap(self) -> None:
        for child in [one for one in self._children if one.process.poll() is not None]:
            # Its last words may still be in the channel.
            for message in child.channel.receive() or ():
                self._on_message(child, message)
            if child.channel in self._selector.get_map():
                self._selector.unregister(child.channel)
            child.channel.close()
            self._children.remove(child)
            wanted = child.state is ChildState.DRAINING
            self._log.write(
                "info" if wanted else "error",
                "child_ended",
                child=child.role,
                child_pid=child.pid,
                exit=child.process.returncode,
                failure=(child.failure or {}).get("message"),
            )
            self._on_children(self._children)
            if child.role == GATEWAY:
                self._on_gateway_end(child)
            else:
                self._on_demand_end(child)

    # the end

    def _fail(self, failure: Message) -> None:
        if self._failure is None:
            self._failure = failure
        self._stop(patient=False)

    def _stop(self, *, patient: bool) -> None:
        now = self._clock()
        if not self._stopping:
            self._stopping = True
            self._restarts.clear()
            self._log.write("info", "stopping", patient=patient)
            # Nobody new: the children close their copies when they drain.
            for wanted in self._plan.on_demand:
                if wanted.fd in self._selector.get_map():
                    self._selector.unregister(wanted.fd)
            for fd in self._plan.listening_fds:
                socket.close(fd)
        self._stop_by = now + self._plan.drain_s + _KILL_MARGIN_S if patient else now
        for child in self._children:
            if patient:
                child.drain(self._grace_s(child))
            else:
                child.kill()

    def _grace_s(self, child: Child) -> float:
        wanted = self._on_demand.get(child.role)
        return self._plan.drain_s if wanted is None else min(wanted.grace_s, self._plan.drain_s)


def _noted(number: int, frame: object) -> None:
    """Signals are read from the wakeup descriptor; a handler only has to exist."""
