import pytest

from fanfold.pipeline.clock import clock


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0:00"), (59.6, "1:00"), (167.9, "2:48"), (3600, "1:00:00"), (7384, "2:03:04")]
)
def test_a_duration_is_shown_as_on_a_clock(seconds, shown):
    assert clock(seconds) == shown
