"""Claude Code's billing line, which is for Anthropic alone.

Claude Code 2.1.197 and 2.1.329 put it first in the system text. Its build number differs between runs: left
there it spoils the prompt cache of every other provider from the first byte on. It is cut out of an otherwise
untouched body.
"""

from __future__ import annotations

import re

import msgspec

from dragoman.wire.repair import BILLING_PREFIX

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_BLOCK = re.compile(
    rb'\[\s*(\{\s*"type"\s*:\s*"text"\s*,\s*"text"\s*:\s*"%b(?:[^"\\]|\\.)*"\s*\}\s*,\s*)' % BILLING_PREFIX
)


def without_billing_line(body: bytes) -> bytes:
    """`body` without the billing line at the head of its system blocks; every other byte stays.

    Anything spelled in another way than Claude Code does is left as it is.

    Args:
        body: a Messages request.
    """
    if BILLING_PREFIX not in body:
        return body
    try:
        system = bytes(_fields.decode(body).get("system", b""))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body
    block = _BLOCK.match(system)
    if block is None or body.count(system) != 1:
        return body
    start = body.index(system)
    return body[: start + block.start(1)] + body[start + block.end(1) :]
