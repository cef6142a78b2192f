"""Tests for `streamfn.worker.supervisor.quiescence`."""

from dataclasses import dataclass

from streamfn.worker.supervisor.quiescence import QuiescenceCheck


@dataclass
class Lane:
    """A lane's status, as far as this rule looks at it."""

    checkpoint: int = 10
    end: int = 10
    in_flight: object = None
    stream: str = "orders"
    shard_id: str = "shardId-000000000000"
    slot: int = 0
    window_us: tuple[int, int] | None = None


def scan(*lanes):
    return [("shop.total", lane) for lane in lanes]


class TestBurstWatch:
    """Tests for `QuiescenceCheck`."""

    def test_two_equal_scans_with_nothing_to_do_are_the_end(self):
        watch = QuiescenceCheck()

        assert not watch.is_over(scan(Lane(), Lane(slot=1)))
        assert watch.is_over(scan(Lane(), Lane(slot=1)))

    def test_a_window_that_is_over_is_something_to_do_and_an_open_one_is_not(self):
        watch, lane = QuiescenceCheck(), Lane(window_us=(60, 120))

        assert not watch.is_over(scan(lane), 120)
        assert not watch.is_near
        assert not watch.is_over(scan(lane), 119)
        assert watch.is_over(scan(lane), 119)

    def test_a_batch_in_flight_is_something_to_do(self):
        """A wait in back-off too: its slot is not empty."""
        watch = QuiescenceCheck()

        assert not watch.is_over(scan(Lane(in_flight=object())))
        assert not watch.is_over(scan(Lane(in_flight=object())))
        assert not watch.is_near

    def test_records_ahead_are_something_to_do(self):
        watch = QuiescenceCheck()

        assert not any(watch.is_over(scan(Lane(checkpoint=9))) for _ in range(3))

    def test_a_lane_that_moved_between_two_scans_begins_again(self):
        """Another function put to its stream behind the first scan's back."""
        watch = QuiescenceCheck()

        assert not watch.is_over(scan(Lane(10, 10)))
        assert not watch.is_over(scan(Lane(11, 11)))
        assert watch.is_over(scan(Lane(11, 11)))

    def test_a_lane_that_appears_begins_again(self):
        watch = QuiescenceCheck()

        assert not watch.is_over(scan(Lane()))
        assert not watch.is_over(scan(Lane(), Lane(stream="shop.total.redrive")))

    def test_without_lanes_there_is_nothing_to_do(self):
        watch = QuiescenceCheck()

        assert not watch.is_over([])
        assert watch.is_over([])
