"""Counters of the data plane as Prometheus text, summed over all gateway processes.

Every process counts in memory and writes its counts to a file of its own about once a second; whoever is
asked sums the files. The counts of a process that has ended are added to one file for all of those, so that
no counter ever falls. Control is not needed: to be scraped every few seconds must not keep it awake.

Names follow the OpenTelemetry conventions for generative AI (0.66) with underscores. Labels are few:
provider, upstream model, wires, outcome; never a session, a token or a name a client made up.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from dragoman import __version__
from dragoman.process.identity import ProcessIdentity, is_alive, own_identity

from .spool import UsageRow

WRITE_AFTER_S = 1.0
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_MAX_MODELS = 200
_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)

_DURATION = "gen_ai_server_request_duration_seconds"
_FIRST = "gen_ai_server_time_to_first_token_seconds"
_FAMILIES: dict[str, tuple[str, str]] = {
    "dragoman_requests_total": ("counter", "Requests by how they ended."),
    "dragoman_request_failures_total": ("counter", "Requests that did not end well, by reason."),
    "dragoman_upstream_retries_total": ("counter", "Upstream requests beyond the first."),
    "dragoman_gateway_seconds_total": ("counter", "Time that was the gateway's own work."),
    "dragoman_cost_usd_total": ("counter", "Money, as far as prices are known."),
    "gen_ai_client_token_usage_total": (
        "counter",
        "Tokens; cache_read and cache_write are parts of input, reasoning of output.",
    ),
    _DURATION: ("histogram", "From a request's arrival to its end."),
    _FIRST: ("histogram", "From a request's arrival to the first byte of its answer."),
    "dragoman_usage_rows_lost_total": ("counter", "Usage rows given up since the disk took none."),
    "dragoman_requests_open": ("gauge", "Requests being answered."),
    "dragoman_gateway_processes": (
        "gauge",
        "Gateway processes that have been asked something, draining ones included.",
    ),
    "dragoman_build_info": ("gauge", "The version of the process that answered."),
}

_Labels = tuple[tuple[str, str], ...]


class Counts(msgspec.Struct, kw_only=True):
    """What one process has counted, as its file has it.

    Attributes:
        pid, started_at: who it is; a process that is gone counts no more.
        open: requests being answered.
        samples: values by name and labels, as they are shown.
    """

    pid: int = 0
    started_at: str = ""
    open: int = 0
    samples: dict[str, float] = {}


class Metrics:
    """Counts for one gateway process and sums for all.

    Args:
        folder: where the files are; made when missing.
        state: how many requests are open, and how many usage rows were lost.
        identity: this process; asked of the system when None.
    """

    def __init__(
        self,
        folder: Path,
        *,
        state: Callable[[], tuple[int, int]] = lambda: (0, 0),
        identity: ProcessIdentity | None = None,
    ) -> None:
        self._state = state
        self._folder = folder
        self._identity = identity or own_identity()
        self._file = folder / f"{self._identity.pid}-{secrets.token_hex(4)}.json"
        self._values: defaultdict[tuple[str, _Labels], float] = defaultdict(float)
        self._models: set[tuple[str, str]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def count(self, row: UsageRow) -> None:
        """Count a request that has ended."""
        values, provider = self._values, ("provider", row.provider)
        model = (provider, ("model", self._model(row)))
        wires = (("client_wire", row.client_wire), ("upstream_wire", row.upstream_wire or ""))
        values["dragoman_requests_total", (*wires, *model, ("outcome", row.outcome))] += 1
        if row.failure is not None:
            values["dragoman_request_failures_total", (provider, ("code", row.failure))] += 1
        if row.retries:
            values["dragoman_upstream_retries_total", (provider,)] += row.retries
        if row.cost_usd:
            values["dragoman_cost_usd_total", model] += row.cost_usd
        values["dragoman_gateway_seconds_total", ()] += row.gateway_ms / 1000
        for kind, tokens in (
            ("input", row.input_tokens),
            ("output", row.output_tokens),
            ("cache_read", row.cache_read_tokens),
            ("cache_write", row.cache_write_tokens),
            ("reasoning", row.reasoning_tokens),
        ):
            if tokens:
                values["gen_ai_client_token_usage_total", (("type", kind), *model)] += tokens
        if row.provider:
            self._observe(_DURATION, provider, row.total_ms / 1000)
            if row.ttfb_ms is not None:
                self._observe(_FIRST, provider, row.ttfb_ms / 1000)
        self.touch()

    def touch(self) -> None:
        """Something has changed: it is on disk soon."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WRITE_AFTER_S, self._on_time)

    def text(self) -> bytes:
        """Everything, in the text format of Prometheus."""
        total: defaultdict[str, float] = defaultdict(float)
        is_open = processes = 0
        for counts in (self._own(), *self._others()):
            for sample, value in counts.samples.items():
                total[sample] += value
            if counts.pid:
                is_open += counts.open
                processes += 1
        total["dragoman_requests_open"] = is_open
        total["dragoman_gateway_processes"] = processes
        total[_sample("dragoman_build_info", (("version", __version__),))] = 1
        return _written(total)

    def close(self) -> None:
        """Write down what was counted; the next process that is asked adds it to what has ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._values:
            self._write()

    def _model(self, row: UsageRow) -> str:
        """The provider's name of the model; with a default provider clients choose it, so it is bounded."""
        place = (row.provider, row.upstream_model)
        if place not in self._models:
            if len(self._models) >= _MAX_MODELS:
                return "other"
            self._models.add(place)
        return row.upstream_model

    def _observe(self, name: str, label: tuple[str, str], value_s: float) -> None:
        values = self._values
        for bound in _BUCKETS_S:
            # Every bucket is there from the first on, else a rate over them would be wrong.
            values[f"{name}_bucket", (label, ("le", f"{bound:g}"))] += value_s <= bound
        values[f"{name}_bucket", (label, ("le", "+Inf"))] += 1
        values[f"{name}_sum", (label,)] += value_s
        values[f"{name}_count", (label,)] += 1

    def _own(self) -> Counts:
        samples = {_sample(name, labels): value for (name, labels), value in self._values.items()}
        is_open, samples["dragoman_usage_rows_lost_total"] = self._state()
        who = self._identity
        return Counts(pid=who.pid, started_at=who.started_at, open=is_open, samples=samples)

    def _others(self) -> list[Counts]:
        """What other processes have written down; those that have ended are put together."""
        try:
            with self._locked():
                ended_file = self._folder / "ended.json"
                ended = _read(ended_file) or Counts()
                living: list[Counts] = []
                gone: list[Path] = []
                for file in self._folder.glob("*-*.json"):
                    counts = None if file == self._file else _read(file)
                    if counts is None:
                        continue
                    if is_alive(ProcessIdentity(counts.pid, counts.started_at)):
                        living.append(counts)
                        continue
                    gone.append(file)
                    for sample, value in counts.samples.items():
                        ended.samples[sample] = ended.samples.get(sample, 0) + value
                if gone and _replace(ended_file, ended):
                    for file in gone:
                        file.unlink(missing_ok=True)
                return [ended, *living]
        except OSError:
            return []

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # held by others for the millisecond a sum takes
            yield
        finally:
            os.close(fd)

    def _on_time(self) -> None:
        self._timer = None
        self._write()

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _replace(self._file, self._own())


def _read(file: Path) -> Counts | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Counts)
    except (OSError, msgspec.MsgspecError):
        return None


def _replace(file: Path, counts: Counts) -> bool:
    """Whether the disk took it; what was there before stays else."""
    draft = file.with_name(f"{file.name}.{os.getpid()}~")
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        data = msgspec.json.encode(counts)
        try:
            whole = os.write(fd, data) == len(data)
        finally:
            os.close(fd)
        if whole:
            draft.replace(file)
    except OSError:
        whole = False
    if not whole:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
    return whole


def _sample(name: str, labels: _Labels) -> str:
    if not labels:
        return name
    told = ",".join(f'{label}="{_escaped(value)}"' for label, value in labels)
    return f"{name}{{{told}}}"


def _escaped(value: str) -> str:
    return value[:100].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _written(total: dict[str, float]) -> bytes:
    by_family: dict[str, list[str]] = {name: [] for name in _FAMILIES}
    for sample, value in total.items():
        name = sample.partition("{")[0]
        family = name if name in by_family else name.rpartition("_")[0]
        if family in by_family:
            by_family[family].append(f"{sample} {value:.10g}")
    lines: list[str] = []
    for name, (kind, told) in _FAMILIES.items():
        if samples := by_family[name]:
            lines += [f"# HELP {name} {told}", f"# TYPE {name} {kind}", *samples]
    return ("\n".join(lines) + "\n").encode()
