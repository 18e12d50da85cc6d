"""What can go wrong with the API server, as one tree:

ApiError
├── NotFound         the object, its namespace or its kind does not exist
├── Conflict         another writer was first, or a precondition does not hold
│   └── Taken        the name belongs to an object that is not ours
├── Invalid          the server refuses the content; only other content helps
├── Forbidden        RBAC, quota or admission refuses, whatever status an admission rule gives
│   └── Terminating  the namespace is going away: stop quietly
├── TooMany          asked to slow down; `retry_after` says for how long
└── Transient        no answer, or a server error; the same request may succeed later
NotLeading           this process may not write now
"""

from __future__ import annotations


class ApiError(Exception):
    """An answer that is not a success. `status` is the HTTP code, 0 when there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.look_again: float | None = None
        """Seconds after which what was to be written is to be looked at again in any case; None = when it is tried again."""


class NotFound(ApiError):
    """The object, its namespace or its kind does not exist."""


class Conflict(ApiError):
    """Another writer was first, or a precondition does not hold."""


class Taken(Conflict):
    """An object of this name exists and is not ours."""


class Invalid(ApiError):
    """The server refuses the content."""


class Forbidden(ApiError):
    """RBAC, quota or admission refuses."""


class Terminating(Forbidden):
    """The namespace is being terminated."""


class TooMany(ApiError):
    """The server asks to slow down."""

    def __init__(self, message: str, status: int = 429, retry_after: float = 1.0) -> None:
        super().__init__(message, status)
        self.retry_after = retry_after
        """Seconds."""


class Transient(ApiError):
    """No answer, or a server error."""


class NotLeading(Exception):
    """This process does not hold the Lease, or has not renewed it in time: it may not write."""
