"""Tests for `streamfn fn`."""

import pytest

from streamfn import Log, _core
from streamfn.cli.health_rows import write_functions
from streamfn.health.state import State
from streamfn.worker.supervisor.announcement import membership_body


@pytest.fixture
def function(log_dir):
    """Ten records of `orders`, and `shop.total`, a mapping that read none of them."""
    with Log.open(log_dir) as log:
        log.create_stream("orders").put_many([b"x"] * 10)
        mapping = _core.Mapping.register(log.core, "shop.total", factor=2)
        mapping.prepare("orders")
        yield mapping


def checkpoints(mapping):
    return [lane.checkpoint for lane in mapping.lanes()]


def behind(run):
    [shown] = run("fn", "ls", "--json").json
    return shown["records_behind"]


class TestLs:
    """Tests for `fn ls`."""

    def test_its_help_has_the_meaning_of_each_state(self, run):
        shown = run("fn", "ls", "--help").stdout.decode()

        assert [line for line in shown.splitlines() if line.startswith("  paused ")]
        assert all(f"{state:<12}{state.meaning}" in shown for state in State)

    def test_its_table_fits_80_columns(self, run, function, capsysbinary):
        [row] = run("fn", "ls", "--json").json
        row |= {
            "name": "shop.customer", "state": "not-in-code", "streams": ["orders"],
            "records_behind": 1_204_333, "iterator_age_seconds": 3599.0, "rate_out": 1033.0,
            "p99_seconds": 0.0142, "retries": 1207, "dead_letters": 35,
        }  # fmt: skip

        write_functions([row], none="")

        head, line = capsysbinary.readouterr().out.decode().splitlines()
        assert len(head) == len(line) <= 80
        assert line.split()[3:] == ["1,204,333", "60m", "1,033/s", "14ms", "1,207", "35"]

    def test_nothing_is_in_flight_that_no_worker_holds(self, run, function, log_dir):
        with Log.open(log_dir) as log:
            lanes = _core.LaneSet(log.core, worker="ab" * 16, runner=0)
            limits = {"batch_size": 10, "batch_window": 0.0, "batch_bytes": 2**20}
            slot = _core.slot_of(None, 9, 2)
            lanes.add(0, function, "orders", "shardId-000000000000", slot, **limits)
            work = lanes.next(10.0)
            [held] = run("fn", "ls", "--json").json
            lanes.yield_(0, work.entries, 0)
            lanes.close()

        [left] = run("fn", "ls", "--json").json
        assert (held["in_flight"], left["in_flight"]) == (1, 0)
        assert function.lanes()[slot].in_flight is not None, "it is begun, and goes on from there"

    def test_lanes_are_those_of_open_shards_and_of_no_redrives(self, run, function, log_dir):
        with Log.open(log_dir) as log:
            log.core.create_stream("shop.total.redrive", internal=True)
            function.prepare("shop.total.redrive")
            log.stream("orders").split("shardId-000000000000")
            function.prepare("orders")
            [before] = run("fn", "ls", "--json").json
            function.seek("orders", "latest")

        [after] = run("fn", "ls", "--json").json
        assert (before["lanes"], after["lanes"]) == (6, 4)

    def test_a_lane_at_the_end_is_not_behind_because_another_is(self, run, function, log_dir):
        assert behind(run) == 10

        with Log.open(log_dir) as log:
            lanes = _core.LaneSet(log.core, worker="ab" * 16, runner=0)
            last = _core.slot_of(None, 9, 2)
            limits = {"batch_size": 10, "batch_window": 0.0, "batch_bytes": 2**20}
            lanes.add(0, function, "orders", "shardId-000000000000", last, **limits)
            lanes.settle(lanes.next(10.0).lane)
            lanes.close()

        assert sorted(checkpoints(function)) == [0, 10]
        assert behind(run) == 5

    def test_what_ends_a_shard_counts_as_no_record(self, run, function):
        run("stream", "split", "orders", "0")

        assert behind(run) == 10


class TestInfo:
    """Tests for `fn info`."""

    def test_each_lane_has_a_line(self, run, function):
        ended = run("fn", "info", "total")

        head, first, second = ended.stdout.decode().splitlines()
        assert head.split()[:6] == ["STREAM", "SHARD", "LANE", "STATE", "CHECKPOINT", "END"]
        place = ["orders", "shardId-000000000000", "0"]
        assert first.split()[:6] == [*place, "no-worker", "0", "10"]
        assert second.split()[2] == "1"
        assert "shop.total: no-worker, 10 records behind (" in ended.stderr
        assert "s), 0 open dead letters" in ended.stderr

    def test_json_has_all_that_is_known(self, run, function):
        shown = run("fn", "info", "shop.total", "--json").json

        assert (shown["name"], shown["state"], shown["records_behind"]) == (
            "shop.total", "no-worker", 10
        )  # fmt: skip
        assert [lane["checkpoint"] for lane in shown["lane_list"]] == [0, 0]
        assert shown["lane_list"][0]["in_flight"] is None


class TestPause:
    """Tests for `fn pause` and `fn resume`."""

    def test_it_is_paused_until_it_is_resumed(self, run, function):
        assert run("fn", "pause", "total").code == 0
        assert function.is_paused
        assert run("fn", "ls", "--json").json[0]["state"] == "paused"

        assert run("fn", "resume", "total").code == 0
        assert not function.is_paused

    def test_a_lane_that_is_not_given_back_in_time_is_told(self, run, function, log_dir):
        judge = function.judge("orders", "shardId-000000000000", 1)

        ended = run("fn", "pause", "total", "--timeout", "50ms")

        judge.release()
        assert ended.code == 75
        assert "a worker did not release a lane within 0.05 s" in ended.stderr
        assert function.is_paused, "it is paused all the same, once that lane ends"


class TestRm:
    """Tests for `fn rm`."""

    def test_it_is_forgotten(self, run, function):
        assert run("fn", "rm", "total").code == 2

        ended = run("fn", "rm", "total", "--yes", "--json")

        assert (ended.code, ended.json) == (0, {"removed": "shop.total"})
        assert run("fn", "ls", "--json").json == []

    def test_its_dead_letters_stay_and_show_again(self, run, function, log_dir):
        with Log.open(log_dir) as log:
            log.core.create_stream("shop.total.dlq", internal=True).put(b"letter")

        assert run("fn", "rm", "total", "--yes").code == 0

        assert run("tail", "shop.total.dlq", "-e").stdout.strip() == b"letter"

    def test_one_that_runs_is_left_alone(self, run, function):
        judge = function.judge("orders", "shardId-000000000000", 1)

        ended = run("fn", "rm", "total", "--yes")

        judge.release()
        assert ended.code == 75
        assert ended.stderr.startswith("error: `shop.total` is running")
        assert "the supervisor, process" in ended.stderr
        assert run("fn", "rm", "total", "--yes").code == 0

    def test_an_unknown_one_is_told(self, run, function):
        ended = run("fn", "rm", "totl", "--yes")

        assert ended.code == 1
        assert ended.stderr == "error: there is no function `totl` (hint: did you mean `total`?)\n"


class TestSeek:
    """Tests for `fn seek`."""

    @pytest.mark.parametrize(
        ("position", "expected"),
        [
            ("end", 10),
            ("latest", 10),
            ("7", 7),
            ("beginning", 0),
            ("TRIM_HORIZON", 0),
            ("@-1h", 0),
            ("99", 10),
        ],
    )
    def test_all_lanes_go_to_the_position(self, run, function, position, expected):
        ended = run("fn", "seek", "total", position, "--json")

        assert ended.code == 0
        assert [row["sequence_number"] for row in ended.json] == [expected]
        assert checkpoints(function) == [expected, expected]
        assert not function.is_paused

    @pytest.mark.parametrize("position", ["middle", "-3", "@yesterday"])
    def test_another_text_is_an_error_of_usage(self, run, function, position):
        ended = run("fn", "seek", "total", "--", position)

        assert ended.code == 2
        assert checkpoints(function) == [0, 0]

    def test_a_number_means_nothing_in_several_shards(self, run, log_dir):
        with Log.open(log_dir) as log:
            log.create_stream("orders", shards=2)
            _core.Mapping.register(log.core, "shop.total", factor=1).prepare("orders")

            ended = run("fn", "seek", "total", "5")

        assert ended.code == 2
        assert "belongs to one shard, and `shop.total` has 2: add --shard" in ended.stderr

    def test_an_unknown_function_is_told(self, run, function):
        ended = run("fn", "seek", "totl", "end")

        assert ended.code == 1
        assert "did you mean `total`?" in ended.stderr

    def test_one_shard_of_several_is_moved(self, run, log_dir):
        with Log.open(log_dir) as log:
            keys = [str(number) for number in range(50)]
            log.create_stream("orders", shards=2).put_many([b"x"] * 50, keys)
            _core.Mapping.register(log.core, "shop.total", factor=1).prepare("orders")
        second = "shardId-000000000001"

        moved = run("fn", "seek", "total", 3, "--shard", second, "--json")
        assert moved.json == [{"stream": "orders", "shard_id": second, "sequence_number": 3}]
        lanes = run("fn", "info", "total", "--json").json["lane_list"]
        assert {lane["shard_id"]: lane["checkpoint"] for lane in lanes} == {
            "shardId-000000000000": 0,
            second: 3,
        }
        unknown = run("fn", "seek", "total", 3, "--shard", "shardId-000000000009")
        assert (unknown.code, "has no lanes in" in unknown.stderr) == (78, True)

    def test_a_time_in_the_future_is_refused(self, run, function):
        ended = run("fn", "seek", "total", "@2100-01-01")

        assert ended.code == 2
        assert "is in the future, no record is as new: use `end`" in ended.stderr


class TestRename:
    """Tests for `fn rename`."""

    def test_it_keeps_the_position(self, run, function, log_dir):
        function.seek("orders", 4)
        ended = run("fn", "rename", "total", "sum", "--json")
        assert (ended.code, ended.json) == (0, {"renamed": "shop.total", "to": "shop.sum"})
        [shown] = run("fn", "ls", "--json").json
        assert (shown["name"], shown["records_behind"]) == ("shop.sum", 6)

    def test_it_is_refused_while_a_runner_or_a_worker_has_it(self, run, function, log_dir):
        with Log.open(log_dir) as log:
            lanes = _core.LaneSet(log.core, worker="ab" * 16, runner=0)
            limits = {"batch_size": 10, "batch_window": 0.0, "batch_bytes": 2**20}
            lanes.add(0, function, "orders", "shardId-000000000000", 0, **limits)
            leased = run("fn", "rename", "total", "sum")
            lanes.close()
            worker = _core.Membership.join(log.core, membership_body(["shop.sum"], ["shop.sum"]))
            registered = run("fn", "rename", "total", "sum", "--replace", "--yes")
            worker.leave()

        assert (leased.code, registered.code) == (75, 75)
        assert "`shop.total` is running" in leased.stderr
        assert "a worker runs `shop.sum`" in registered.stderr
        assert run("fn", "rename", "total", "sum").code == 0

    def test_the_new_name_must_be_free_or_replaced(self, run, function, log_dir):
        function.seek("orders", 4)
        with Log.open(log_dir) as log:
            _core.Mapping.register(log.core, "shop.sum", factor=1).prepare("orders")
            log.core.create_stream("shop.sum.dlq", internal=True)
        taken = run("fn", "rename", "total", "sum")
        assert taken.code == 1
        assert "--replace" in taken.stderr
        assert run("fn", "rename", "total", "sum", "--replace").code == 2, "it asks first"
        assert run("fn", "rename", "total", "sum", "--replace", "--yes").code == 0
        [shown] = run("fn", "ls", "--json").json
        assert (shown["name"], shown["records_behind"]) == ("shop.sum", 6)

    def test_a_name_that_cannot_be_is_refused(self, run, function):
        for name in ("a b", "shop.", "a.b.c", "x@replay-1"):
            ended = run("fn", "rename", "total", name)
            assert ended.code == 1, name
            assert "not a function's name" in ended.stderr
        assert "did you mean" in run("fn", "rename", "totl", "sum").stderr


@pytest.fixture
def by_request(log_dir):
    """The counts of `shop.price`, which was called by request."""
    with Log.open(log_dir) as log:
        _core.Counts.open(log.core, "shop.price").add(0, 1)
        yield log


class TestByRequest:
    """What `fn` says of functions that are called by request."""

    def test_they_are_listed_without_a_stream(self, run, by_request):
        [row] = run("fn", "ls", "--json").json
        assert (row["source"], row["streams"], row["state"]) == ("request", [], "no-worker")
        expected = {"running": 0, "queued": 0, "throttled": 0, "concurrency": None}
        assert row["calls"] == expected

        shown = run("fn", "ls")
        _, line = shown.stdout.decode().splitlines()
        assert line.split() == ["shop.price", "no-worker", "by", "request", "0", *"–––––"]
        assert shown.stderr == "shop.price is no-worker: no living worker runs it\n"

    def test_info_tells_of_calls(self, run, by_request):
        ended = run("fn", "info", "price")

        assert ended.code == 0
        first, figures, *_ = ended.stderr.splitlines()
        assert first == "shop.price: no-worker, by request, 0 running, 0 queued, 0 throttled"
        assert "concurrency –" in figures
        assert ended.stdout == b""

    @pytest.mark.parametrize(
        ("command", "said"),
        [
            (("fn", "pause", "price"), "(hint: `concurrency=0` in its code refuses all calls)"),
            (("fn", "resume", "price"), "(hint: it cannot be paused)"),
            (("fn", "seek", "price", "end"), "it reads no stream\n"),
            (("fn", "rename", "price", "cost"), "(hint: rename it in the code"),
            (("replay", "orders", "--fn", "price", "--from", "1"), "(hint: its callers call it"),
            (("dlq", "ls", "price"), "(hint: it has no dead letters"),
        ],
    )
    def test_what_is_for_streams_is_refused(self, run, by_request, command, said):
        ended = run(*command)

        assert ended.code == 1
        assert ended.stderr.startswith("error: `shop.price` is called by request, it reads no stre")
        assert said in ended.stderr

    def test_its_history_is_shown(self, run, by_request):
        ended = run("fn", "history", "price")

        assert (ended.code, "no history of `shop.price`" in ended.stderr) == (0, True)

    def test_rm_forgets_one_that_no_worker_has(self, run, by_request):
        worker = _core.Membership.join(by_request.core, membership_body([], [], ["shop.price"]))
        refused = run("fn", "rm", "price", "--yes")
        worker.leave()
        assert refused.code == 75
        assert "a worker takes calls of `shop.price`" in refused.stderr

        assert run("fn", "rm", "price").code == 2, "it asks first"
        assert run("fn", "rm", "price", "--yes").code == 0

        assert run("fn", "ls", "--json").json == []

    def test_a_short_name_that_two_functions_have_is_ambiguous(self, run, by_request):
        _core.Mapping.register(by_request.core, "bank.price", factor=1)

        ended = run("fn", "info", "price")

        assert (ended.code, "`bank.price` and `shop.price`" in ended.stderr) == (1, True)
        assert run("fn", "info", "shop.price").code == 0
