"""The off-peak hours."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dicom_node.jobs.offpeak import in_window
from dicom_node.settings import Settings

MINUTES = st.integers(0, 24 * 60 - 1)


def at(minute: int) -> datetime:
    return datetime(2026, 3, 29, tzinfo=UTC) + timedelta(minutes=minute)


def text(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


@pytest.mark.parametrize(
    ("now", "window", "expected"),
    [
        ("19:59", "20:00-06:00", False),
        ("20:00", "20:00-06:00", True),
        ("00:00", "20:00-06:00", True),
        ("05:59", "20:00-06:00", True),
        ("06:00", "20:00-06:00", False),
        ("12:30", "20:00-06:00,12:00-13:00", True),
        ("13:00", "20:00-06:00, 12:00-13:00", False),
        ("03:00", "05:00-05:00", True),
        ("03:00", "", True),
    ],
)
def test_the_first_time_is_in_the_window_and_the_last_is_not(now: str, window: str, expected: bool) -> None:
    hour, minute = now.split(":")
    assert in_window(at(60 * int(hour) + int(minute)), window) is expected


@given(first=MINUTES, last=MINUTES, now=MINUTES)
def test_a_window_and_the_window_between_its_ends_share_no_time_and_leave_none_out(
    first: int, last: int, now: int
) -> None:
    inside = in_window(at(now), f"{text(first)}-{text(last)}")
    outside = in_window(at(now), f"{text(last)}-{text(first)}")
    assert inside != outside or first == last


@pytest.mark.parametrize(
    "window",
    ["20", "20:00", "20:00-", "8:00-10:00", "25:00-01:00", "20-22", "20:00-06:00,", "1:00-2:00-3:00", "٢٠:00-06:00"],
)
def test_what_is_no_window_is_refused_by_the_function_and_by_the_setting(window: str) -> None:
    with pytest.raises(ValueError, match="off-peak hours are written"):
        in_window(at(0), window)
    with pytest.raises(ValidationError):
        Settings(offpeak_hours=window)


def test_the_setting_takes_several_windows_and_none() -> None:
    for window in ("", "20:00-06:00", "20:00-06:00,12:00-13:00"):
        assert Settings(offpeak_hours=window).offpeak_hours == window
