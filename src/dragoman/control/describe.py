"""Things as JSON, the same in the control API and in the command line's `--json`."""

from __future__ import annotations

from typing import Any

from dragoman.config.tokens import TokenRecord


def describe_token(record: TokenRecord, now: float) -> dict[str, Any]:
    """A token as JSON, every field there; never its secret.

    Args:
        record: what is stored.
        now: seconds since the epoch.
    """
    return {
        "id": record.id,
        "scope": record.scope,
        "label": record.label,
        "models": record.models,
        "limits": {
            "requests": record.limits.requests,
            "tokens": record.limits.tokens,
            "usd": record.limits.usd,
        },
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "expired": record.is_expired(now),
        "run": record.run,
    }
