"""The off-peak hours: when jobs and retrievals that are in no hurry may begin. Pure; local time is an argument.

A window is text as the setting ``offpeak_hours`` has it: ``20:00-06:00``, or several with commas between them. The
first time is in it, the last one is not. Equal times, and no text at all, are the whole day. The times are those
of the clock on the wall: on the night that has an hour twice, both are in.
"""

from datetime import datetime, time

WINDOW_FORM = "HH:MM-HH:MM (20:00-06:00), or several with commas between them"


def in_window(now_local: datetime, window: str) -> bool:
    """Tell whether a local time is in the off-peak hours.

    Raises
    ------
    ValueError
        When the window is not of ``WINDOW_FORM``.
    """
    spans = spans_of(window)
    now = now_local.time()
    return not spans or any(_holds(first, last, now) for first, last in spans)


def spans_of(window: str) -> tuple[tuple[time, time], ...]:
    """Return the first and last time of every span of a window; none for no text.

    Raises
    ------
    ValueError
        When it is not of ``WINDOW_FORM``.
    """
    if not window.strip():
        return ()
    return tuple(_span(part.strip()) for part in window.split(","))


def _span(part: str) -> tuple[time, time]:
    words = part.split("-")
    try:
        first, last = (_time(word.strip()) for word in words)
    except (TypeError, ValueError):
        raise ValueError(f"off-peak hours are written {WINDOW_FORM}") from None
    return first, last


def _time(word: str) -> time:
    hour, minute = word.split(":")
    if len(word) != len("HH:MM") or not (hour + minute).isascii() or not (hour + minute).isdecimal():
        raise ValueError
    return time(int(hour), int(minute))


def _holds(first: time, last: time, now: time) -> bool:
    if first < last:
        return first <= now < last
    return now >= first or now < last
