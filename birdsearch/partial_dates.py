"""Local wall-clock times as people write them: what a year, a month, a day or a minute begins and ends with."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import date, datetime

from birdsearch.errors import InvalidInputError

__all__ = ["Moment", "first_and_last"]

Moment = str | date | datetime
"""A local wall-clock time: a datetime, a date, or text such as `2023`, `2023-05`, `2023-05-14T06:30`."""

_MOMENT = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(\.\d{1,6})?)?)?)?)?", re.ASCII
)


def first_and_last(value: Moment, name: str) -> tuple[datetime, datetime]:
    """Return the first and last moment of what a value names.

    Args:
        value: The time.
        name: What it is called in messages.

    Raises:
        InvalidInputError: It is not a time, or it has a UTC offset.
    """
    if isinstance(value, datetime):
        if value.tzinfo is not None:
            raise InvalidInputError(
                f"{name} {value.isoformat()} has a UTC offset; photos carry local times, so leave it off"
            )
        return value, value
    if isinstance(value, date):
        start = datetime(value.year, value.month, value.day)
        return start, start.replace(hour=23, minute=59, second=59, microsecond=999999)
    match = _MOMENT.fullmatch(value.strip())
    try:
        if match is None:
            raise ValueError("it has another form")
        year, month, day, hour, minute, second = (
            None if part is None else int(part) for part in match.groups()[:6]
        )
        fraction = match.group(7)
        micros = 0 if fraction is None else int(fraction[1:].ljust(6, "0"))
        start = datetime(year or 0, month or 1, day or 1, hour or 0, minute or 0, second or 0, micros)
    except ValueError as error:
        raise InvalidInputError(
            f"{name} {value!r} is not a time ({error}); write a year, month, day or local time such as 2023, "
            "2023-05, 2023-05-14 or 2023-05-14T06:30, without a UTC offset"
        ) from error
    # Set, not computed by adding a day: the last day of 9999 has no successor.
    if fraction is not None:
        return start, start
    if second is not None:
        return start, start.replace(microsecond=999999)
    if minute is not None:
        return start, start.replace(second=59, microsecond=999999)
    if day is None:
        last_month = month or 12
        start_of_last_day = start.replace(month=last_month, day=monthrange(start.year, last_month)[1])
    else:
        start_of_last_day = start
    return start, start_of_last_day.replace(hour=23, minute=59, second=59, microsecond=999999)
