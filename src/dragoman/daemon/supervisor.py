"""The parent's loop: keep the gateways up, start other children when somebody knocks, hand everything over.

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
from typing import Literal

from dragoman.daemon.channel import Message
from dragoman.daemon.children import GATEWAY, Child, ChildState, adopt, start_child
from dragoman.daemon.config_watch import ConfigWatch
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
# Nothing waits for a gateway that has a successor: its streams may last as long as a model can think.
_HANDED_OVER_S = 6 * 3600.0

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)
RESTART_SIGNAL = signal.SIGUSR1
RELOAD_SIGNAL = signal.SIGHUP

Outcome = Literal["stopped", "failed", "restart"]


class Supervisor:
    """Supervises one daemon from start to end, or to the next life of its parent.

    Args:
        plan: what to run, with open descriptors.
        log: where events go.
        on_serving: called once, when the data plane answers.
        on_change: called when children or reports have changed.
        renew: reads the configuration anew for a restart; a plan, or why there cannot be one.
        clock: seconds, monotonic.

    Attributes:
        children: every running child.
        failure: why the daemon could not start: `message` and `hint`.
        restarts, reloads: how many have been tried so far.
        restart_error, reload_error: why the last one failed, or None.
        next_plan: what to become after `run` has said `restart`.
    """

    def __init__(
        self,
        plan: ServePlan,
        *,
        log: JsonLog,
        on_serving: Callable[[], None],
        on_change: Callable[[], None],
        renew: Callable[[], ServePlan | Message] = lambda: {"message": "this daemon cannot restart"},
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.children: list[Child] = [adopt(child, since=clock()) for child in plan.adopted]
        self.failure: Message | None = None
        self.restarts, self.reloads = plan.restarts, plan.reloads
        self.restart_error: Message | None = None
        self.reload_error: Message | None = None
        self.next_plan: ServePlan | None = None
        self._plan = plan
        self._log = log
        self._on_serving = on_serving
        self._on_change = on_change
        self._renew = renew
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._watch_config = ConfigWatch(plan.config_file, plan.config_in_force, now=clock())
        self._serving = bool(plan.adopted)
        self._handing_over = bool(plan.adopted)
        self._stopping = False
        self._stop_by = float("inf")
        # Index of a gateway to start again, and when.
        self._again: dict[int, float] = {}
        self._backoff_s: dict[int, float] = {}
        # Gateways that have not yet said how their reload went; how many took it; when it began.
        self._reloading: set[int] = set()
        self._reload_taken = 0
        self._reload_began = float("-inf")
        self._on_demand = {child.role: child for child in plan.on_demand}
        # Role of a child that could not start: until when its callers are refused, and why.
        self._refusals: dict[str, tuple[float, Message]] = {}

    def run(self) -> Outcome:
        """Run until told to stop or to restart; after `restart` the children live on."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        previous = signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        handlers = {number: signal.signal(number, _noted) for number in SIGNALS}
        self._selector.register(wake_read, selectors.EVENT_READ, "wake")
        # An earlier life blocked them to lose none between its last look and our first.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        try:
            self._begin()
            while not (self._stopping and not self.children) and self.next_plan is None:
                self._step(wake_read)
            if self.next_plan is not None:
                signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
                return "restart"
            return "stopped" if self.failure is None else "failed"
        finally:
            if self.next_plan is None:
                for child in self.children:
                    child.kill()
                    child.process.wait()
            signal.set_wakeup_fd(previous)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            self._selector.close()
            os.close(wake_read)
            os.close(wake_write)

    def _begin(self) -> None:
        for child in self.children:
            self._selector.register(child.channel, selectors.EVENT_READ, child)
        for index in range(self._plan.workers):
            self._start_gateway(index)
        for wanted in self._plan.on_demand:
            self._watch(wanted)

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
        """Until the next thing that happens by itself; a look at the configuration is the normal case."""
        moments = list(self._again.values())
        if self._may_reload:
            moments.append(self._watch_config.next_look)
        moments += [
            child.since + self._plan.start_s for child in self.children if child.state is ChildState.STARTING
        ]
        if self._stopping:
            moments.append(self._stop_by)
        soonest = min(moments, default=float("inf"))
        return None if soonest == float("inf") else max(0.0, soonest - self._clock())

    def _on_signal(self, number: int) -> None:
        match number:
            case signal.SIGTERM | signal.SIGINT:
                self._stop(patient=not self._stopping)
            case signal.SIGHUP if not self._stopping:
                self._reload()
            case signal.SIGUSR1 if self._serving and not self._stopping:
                self._restart()
            case _:
                pass

    def _on_time(self) -> None:
        now = self._clock()
        for index, moment in list(self._again.items()):
            if moment <= now and not self._stopping:
                del self._again[index]
                self._start_gateway(index)
        for child in self.children:
            if child.state is ChildState.STARTING and child.since + self._plan.start_s <= now:
                child.failure = child.failure or {
                    "message": f"the {child.role} process was not ready after {self._plan.start_s:.0f} s"
                }
                child.kill()
        if self._stopping and now >= self._stop_by:
            for child in self.children:
                child.kill()
        if self._may_reload and self._watch_config.changed(now):
            self._log.write("info", "config_changed")
            self._reload()

    @property
    def _may_reload(self) -> bool:
        """Whether a changed file may be taken up: every gateway is there to say what it thinks of it."""
        if not self._serving or self._stopping or self._handing_over or self._reloading:
            return False
        ready = [child for child in self._gateways() if child.state is ChildState.READY]
        return len(ready) >= self._plan.workers

    # gateways

    def _gateways(self, *, old: bool = False) -> list[Child]:
        """Gateways that serve or are about to: of this life, or of the one before."""
        return [
            child
            for child in self.children
            if child.role == GATEWAY and child.old is old and child.state is not ChildState.DRAINING
        ]

    def _start_gateway(self, index: int) -> None:
        fds = (self._plan.tcp_fd, self._plan.gateway_fd)
        argv = (*self._plan.gateway_argv, "--tcp-fd", str(fds[0]), "--unix-fd", str(fds[1]))
        if self._serving and not self._handing_over:
            # One that died must come back, whatever the file says by now; a new daemon must tell.
            argv = (*argv, "--in-force", self._plan.config_in_force)
        self._start(GATEWAY, index, argv, fds)

    def _on_gateway_ready(self, child: Child) -> None:
        if child.since < self._reload_began:
            child.channel.send("reload")  # it may have read the file before that
        ready = [child for child in self._gateways() if child.state is ChildState.READY]
        if len(ready) < self._plan.workers:
            return
        if not self._serving:
            if not is_healthy(self._plan.url):
                self._fail({"message": f"the gateway at {self._plan.url} does not answer"})
                return
            self._serving = True
            self._watch_config.keep()
            self._on_serving()
        elif self._handing_over:
            for child in self.children:
                if child.old and child.role in self._on_demand:
                    self._let_go(child, self._on_demand[child.role])
                elif child.old:
                    child.drain(_HANDED_OVER_S)
            self._report_restart(None)

    def _on_gateway_end(self, child: Child) -> None:
        if self._stopping or child.state is ChildState.DRAINING or child.old:
            return
        if not self._serving:
            self._fail(child.failure or self._untold("the gateway process ended while it was starting"))
            return
        if child.state is ChildState.STARTING and self._handing_over and self._gateways(old=True):
            self._keep_the_old(child.failure or self._untold("the new gateway process ended while starting"))
            return
        lived_s = self._clock() - child.since
        backoff_s = self._backoff_s.get(child.index, 0.0)
        if child.failure is None and lived_s >= _STEADY_S:
            backoff_s = 0.0
        self._again[child.index] = self._clock() + backoff_s
        self._backoff_s[child.index] = min(_MAX_BACKOFF_S, max(_FIRST_BACKOFF_S, 2 * backoff_s))

    def _restart(self) -> None:
        if self._handing_over:
            return  # one is under way
        match self._renew():
            case ServePlan() as plan:
                self.next_plan = plan
            case reason:
                self._report_restart(reason)

    def _keep_the_old(self, reason: Message) -> None:
        """A restart that cannot be: those who served go on."""
        for child in self._gateways():
            child.state = ChildState.DRAINING
            child.kill()
        for child in self.children:
            child.old = False
        self._report_restart(reason)

    def _report_restart(self, error: Message | None) -> None:
        self._handing_over = False
        if error is None:
            self._watch_config.keep()
        self.restarts += 1
        self.restart_error = error
        self._log.write("error" if error else "info", "restarted", failure=(error or {}).get("message"))
        self._on_change()

    def _reload(self) -> None:
        asked = [child for child in self._gateways() if child.state is ChildState.READY]
        self.reload_error = None
        self._reload_taken = 0
        self._reload_began = self._clock()
        self._watch_config.taken()
        self._reloading = {child.pid for child in asked if child.channel.send("reload")}
        for child in self.children:
            wanted = self._on_demand.get(child.role)
            if wanted is not None and wanted.ends_on_reload:
                self._let_go(child, wanted)
        self._count_reload(None)

    def _count_reload(self, pid: int | None) -> None:
        """One gateway fewer to wait for; the reload is over when there is none."""
        waited = pid in self._reloading
        self._reloading.discard(pid or 0)
        if (waited or pid is None) and not self._reloading:
            self.reloads += 1
            failure = (self.reload_error or {}).get("message")
            if failure is None and self._reload_taken:
                self._watch_config.keep()
            self._log.write("error" if failure else "info", "reloaded", failure=failure)
            self._on_change()

    def _compare_version(self, version: str | None) -> None:
        """A child of another version: what is installed has changed, and all of us change with it."""
        ours = self._plan.version
        if version in (None, ours) or not self._serving or self._handing_over or self._stopping:
            return
        self._log.write("info", "version_changed", ours=ours, installed=version)
        self._restart()

    # children on demand

    def _watch(self, wanted: OnDemand) -> None:
        served = any(
            child.role == wanted.role and child.state is not ChildState.DRAINING for child in self.children
        )
        if not served and not self._stopping and wanted.fd not in self._selector.get_map():
            self._selector.register(wanted.fd, selectors.EVENT_READ, wanted)

    def _on_knock(self, wanted: OnDemand) -> None:
        if self._stopping:
            return
        refused_until, reason = self._refusals.get(wanted.role, (0.0, {}))
        if self._clock() < refused_until:
            refuse_pending(wanted.fd, wanted.role, reason)
            return
        self._selector.unregister(wanted.fd)
        argv = (*wanted.argv, "--listen-fd", str(wanted.fd), "--idle-s", str(wanted.idle_s))
        argv = (*argv, "--in-force", self._plan.config_in_force)
        self._start(wanted.role, 0, argv, (wanted.fd,))

    def _let_go(self, child: Child, wanted: OnDemand) -> None:
        """Let it end; whoever knocks from now on gets a successor."""
        child.drain(self._grace_s(child))
        self._watch(wanted)

    def _on_demand_end(self, child: Child) -> None:
        wanted = self._on_demand[child.role]
        if child.state is ChildState.STARTING and not self._stopping:
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
            if role != GATEWAY:
                self._refuse(self._on_demand[role], failure)
                self._watch(self._on_demand[role])
            elif not self._serving:
                self._fail(failure)
            elif self._handing_over and self._gateways(old=True):
                self._keep_the_old(failure)
            else:
                self._again[index] = self._clock() + _MAX_BACKOFF_S
            return
        self.children.append(child)
        self._selector.register(child.channel, selectors.EVENT_READ, child)
        self._log.write("info", "child_started", child=role, index=index, child_pid=child.pid)
        self._on_change()

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
                self._on_change()
                if child.role == GATEWAY:
                    self._on_gateway_ready(child)
                self._compare_version(message.get("version"))
            case "failed":
                child.failure = message
            case "reloaded":
                self.reload_error = message.get("error") or self.reload_error
                self._reload_taken += message.get("error") is None
                self._count_reload(child.pid)
            case "idle" if child.role in self._on_demand:
                self._let_go(child, self._on_demand[child.role])
            case _:
                pass

    def _reap(self) -> None:
        for child in [one for one in self.children if one.process.poll() is not None]:
            # Its last words may still be in the channel.
            for message in child.channel.receive() or ():
                self._on_message(child, message)
            if child.channel in self._selector.get_map():
                self._selector.unregister(child.channel)
            child.channel.close()
            self.children.remove(child)
            self._log.write(
                "info" if child.state is ChildState.DRAINING else "error",
                "child_ended",
                child=child.role,
                child_pid=child.pid,
                exit=child.process.returncode,
                failure=(child.failure or {}).get("message"),
            )
            self._on_change()
            self._count_reload(child.pid)
            if child.role == GATEWAY:
                self._on_gateway_end(child)
            else:
                self._on_demand_end(child)

    def _grace_s(self, child: Child) -> float:
        wanted = self._on_demand.get(child.role)
        return self._plan.drain_s if wanted is None else min(wanted.grace_s, self._plan.drain_s)

    # the end

    def _untold(self, message: str) -> Message:
        """What is said of a child that gave no reason: where its last words are."""
        return {"message": message, "hint": f"tail {self._plan.stderr_file}"}

    def _fail(self, failure: Message) -> None:
        if self.failure is None:
            self.failure = failure
        self._stop(patient=False)

    def _stop(self, *, patient: bool) -> None:
        now = self._clock()
        if not self._stopping:
            self._stopping = True
            self._again.clear()
            self._log.write("info", "stopping", patient=patient)
            # Nobody new: the children close their copies when they drain.
            for wanted in self._plan.on_demand:
                if wanted.fd in self._selector.get_map():
                    self._selector.unregister(wanted.fd)
            for fd in self._plan.listening_fds:
                socket.close(fd)
        self._stop_by = now + self._plan.drain_s + _KILL_MARGIN_S if patient else now
        for child in self.children:
            if patient:
                child.drain(self._grace_s(child))
            else:
                child.kill()


def _noted(number: int, frame: object) -> None:
    """Signals are read from the wakeup descriptor; a handler only has to exist."""
