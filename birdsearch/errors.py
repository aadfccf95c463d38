"""The errors that birdsearch raises.

The library raises these and never prints or exits; the command line and the service each translate them
in one place. A message names the value, the limit and what to do about it.
"""

from __future__ import annotations

__all__ = [
    "BirdsearchError",
    "CatalogError",
    "CatalogGoneError",
    "CatalogLockedError",
    "CatalogReadOnlyError",
    "CheckpointError",
    "InvalidInputError",
    "MissingFilesError",
    "ModelMismatchError",
    "OldCatalogError",
    "PhotoError",
    "ServiceError",
    "StalledError",
    "WeightsError",
]


class BirdsearchError(Exception):
    """Base of every error that birdsearch raises on purpose."""


class InvalidInputError(BirdsearchError):
    """A value that was passed in is outside what the call accepts."""


class WeightsError(BirdsearchError):
    """Weights could not be found, fetched or verified."""


class CheckpointError(BirdsearchError):
    """A weights file is not a checkpoint that this network can load."""


class CatalogError(BirdsearchError):
    """A catalog is missing, damaged, of a newer version, or cannot be used as asked."""


class OldCatalogError(CatalogError):
    """A catalog of an older version that could not be brought up to date."""


class CatalogGoneError(CatalogError):
    """The catalog that was opened is not there any more: deleted, moved, or replaced by another one."""


class CatalogLockedError(CatalogError):
    """Another process is writing to the catalog."""


class CatalogReadOnlyError(CatalogError):
    """The catalog cannot be written to."""


class ModelMismatchError(CatalogError):
    """The catalog was made with another model or other preprocessing than the one given."""


class MissingFilesError(BirdsearchError):
    """A root is absent, empty, or most of it is gone: nothing was changed."""


class StalledError(BirdsearchError):
    """Something gave no sign of life for too long and was given up; a thread may still be stuck in it.

    Attributes:
        stage: What it is, such as `the network`; empty where only the message says.
        seconds: For how long it gave no sign.
    """

    def __init__(self, message: str, *, stage: str = "", seconds: float = 0.0) -> None:
        super().__init__(message)
        self.stage = stage
        self.seconds = seconds

    @classmethod
    def of(cls, stage: str, seconds: float, advice: str) -> StalledError:
        """Make the error for a stage that gave no sign; the advice follows a semicolon."""
        message = f"{stage} gave no sign of life for {seconds:.0f} s and was given up; {advice}"
        return cls(message, stage=stage, seconds=seconds)


class ServiceError(BirdsearchError):
    """A service could not be reached, or refused for another reason than the values it was sent.

    Attributes:
        status: HTTP status, or None if there was no answer.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class PhotoError(BirdsearchError):
    """One photo could not be read; the run goes on.

    Attributes:
        stage: Where it failed: `crawl`, `read`, `format`, `decode` or `embed`.
        code: A short stable name for the kind of failure, such as `truncated` or `too-many-pixels`.
        reason: One sentence for a person, with the value and the limit.
        transient: True if the same bytes may succeed on a later run (I/O errors, a missing extra).
    """

    def __init__(self, stage: str, code: str, reason: str, *, transient: bool = False) -> None:
        super().__init__(reason)
        self.stage = stage
        self.code = code
        self.reason = reason
        self.transient = transient

    def named(self, path: str) -> PhotoError:
        """Return the same error with the photo's path before its reason."""
        return PhotoError(self.stage, self.code, f"{path}: {self.reason}", transient=self.transient)

    def __reduce__(self) -> tuple[object, ...]:
        return (_photo_error, (self.stage, self.code, self.reason, self.transient))


def _photo_error(stage: str, code: str, reason: str, transient: bool) -> PhotoError:
    return PhotoError(stage, code, reason, transient=transient)
