"""Options of an index run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from birdsearch.errors import InvalidInputError
from birdsearch.model.images.photo import PhotoLimits
from birdsearch.model.images.scaling import check_mode
from birdsearch.model.images.worker.pool import usual_decoders
from birdsearch.settings import STALL_S

__all__ = ["IndexOptions"]


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """How to index.

    Attributes:
        workers: Decoder processes.
        batch_size: Photos through the network at a time.
        follow_links: Enter links that leave a root.
        retry_failed: Read again what could not be read before, though it has not changed.
        confirm_missing: Believe it when a root is absent, empty, or has lost most of its files.
        reembed: Accept another model than the catalog's: photos are embedded again with it.
        limits: What a photo may cost.
        decode: How photos are decoded: one of `birdsearch.model.images.scaling.DECODE_MODES`.
        stall_s: How long a stage may give no sign of life before the run is given up, in seconds; 0 for as long as
            it likes.
    """

    workers: int = field(default_factory=usual_decoders)
    batch_size: int = 32
    follow_links: bool = False
    retry_failed: bool = False
    confirm_missing: bool = False
    reembed: bool = False
    limits: PhotoLimits = field(default_factory=PhotoLimits)
    decode: str = "scaled"
    stall_s: float = STALL_S

    def __post_init__(self) -> None:
        check_mode(self.decode)
        for name in ("workers", "batch_size"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} is {getattr(self, name)}; it has to be at least 1")
        if not 0 <= self.stall_s < math.inf:
            raise InvalidInputError(
                f"stall_s is {self.stall_s}; it has to be a number of seconds, or 0 for no limit"
            )
