import pytest

from fanfold.pipeline.events import format_duration


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0:00"), (59.6, "1:00"), (167.9, "2:48"), (3600, "1:00:00"), (7384, "2:03:04")]
)
def test_a_duration_is_shown_in_minutes_and_from_an_hour_on_in_hours(seconds, shown):
    assert format_duration(seconds) == shown
