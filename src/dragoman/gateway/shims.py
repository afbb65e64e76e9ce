"""What may be changed on the way for an upstream's sake, told to people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dragoman.wire.same_wire import is_checked

if TYPE_CHECKING:
    from dragoman.gateway.routes import Route


def shims_of(route: Route) -> Iterator[str]:
    """Sentences about a route, for `explain` and `doctor`; only changes that can be made there."""
    dialect = route.dialect
    written = not route.native or is_checked(route.wire, dialect)
    if not route.native:
        yield f"translated from {route.client_wire} to {route.wire}"
    if written and route.wire == "responses" and not dialect.freeform_tools:
        yield "freeform tools become functions"
    if written and route.wire == "responses" and not dialect.namespace_tools:
        yield "namespaced tools are flattened"
    if written and route.wire == "messages" and not dialect.unsigned_thinking:
        yield "thinking without a signature of this provider is left out"
    if route.wire == "messages" and dialect.betas is not None:
        yield "unknown anthropic-beta values are left out"
    if written and route.wire != "responses" and not dialect.late_system:
        yield "system messages in mid-conversation become user text"
    if route.native and route.wire == "responses" and not dialect.keeps_client_metadata:
        yield "client_metadata (working directory, commit hash) is left out"
    if route.native and route.wire == "messages" and not dialect.billing_header:
        yield "Claude Code's billing line is left out"
    if route.native and dialect.strip_fields:
        yield f"fields left out: {', '.join(sorted(dialect.strip_fields))}"
    if "image" not in route.limits.input_modalities:
        yield "images are replaced by a note"
