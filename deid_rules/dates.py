"""Dates moved by whole days, times left alone; what is partial or malformed becomes empty.

Intervals within a patient survive a shift, and whole weeks keep the day of the week. No function here
raises because of a value, for an error message would have to speak of it (PS3.5 6.2 gives the grammar).
"""

import re
from datetime import date, timedelta

_TIME = re.compile(r"(?:[01]\d|2[0-3])(?:[0-5]\d(?:(?:[0-5]\d|60)(?:\.\d{1,6})?)?)?", re.ASCII)
_DATETIME = re.compile(r"(\d{8})((?:\d{2}){0,3}(?:(?<=\d{14})\.\d{1,6})?)([+-](?:0\d|1[0-4])[0-5]\d)?", re.ASCII)
_OFFSET = re.compile(r"[+-](?:0\d|1[0-4])[0-5]\d", re.ASCII)


def shift_date(text: str, days: int) -> str:
    """Shift a DA value (``YYYYMMDD``); anything else gives the empty string."""
    if len(text) != 8 or not text.isascii() or not text.isdigit():
        return ""
    try:
        moved = date(int(text[:4]), int(text[4:6]), int(text[6:])) + timedelta(days=days)
    except (ValueError, OverflowError):
        return ""
    return f"{moved.year:04d}{moved.month:02d}{moved.day:02d}"


def shift_datetime(text: str, days: int) -> str:
    """Shift the date in a DT value and keep its time and offset; without a whole date it becomes empty."""
    match = _DATETIME.fullmatch(text)
    if match is None:
        return ""
    moved = shift_date(match[1], days)
    if not moved or (match[2] and not is_time(match[2])):
        return ""
    return moved + match[2] + (match[3] or "")


def is_time(text: str) -> bool:
    """Tell whether a text is a TM value (``HH``, ``HHMM``, ``HHMMSS`` with up to six decimals)."""
    return _TIME.fullmatch(text) is not None


def is_utc_offset(text: str) -> bool:
    """Tell whether a text is an offset from UTC such as ``+0100`` (PS3.3 C.12.1.1)."""
    return _OFFSET.fullmatch(text) is not None


def age_in_years(birth_date: str, on_date: str) -> int | None:
    """Return the whole years between two DA values, None where either is no date or the order is wrong."""
    born, then = shift_date(birth_date, 0), shift_date(on_date, 0)
    if not born or not then or then < born:
        return None
    return int(then[:4]) - int(born[:4]) - (then[4:] < born[4:])
