"""What can go wrong with the database, in the user's words."""

from __future__ import annotations

from dragoman.errors import DragomanError


class StoreError(DragomanError):
    """Root of the store's errors."""

    code = "store_error"
    http_status = 503


class StoreUnavailable(StoreError):
    """The database cannot be opened, is locked for too long, or its disk is full; nothing was written."""

    code = "store_unavailable"


class StoreTooNew(StoreError):
    """The tables were written by a newer dragoman."""

    code = "store_too_new"


class StoreAddressInvalid(StoreError):
    """The address names no database we can use."""

    code = "store_address_invalid"
