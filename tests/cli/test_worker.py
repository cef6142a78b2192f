"""`streamfn worker`, `dlq` and `fn` as real processes: a bug strikes, is seen, and repaired."""

import json
import re
import subprocess
import sys
import time

import pytest

APP = """
from datetime import timedelta
from pathlib import Path
from streamfn import App, Backoff, Batch

app = App("shop")

@app.stream("orders", max_retries=1, backoff=Backoff(base=timedelta(milliseconds=1)))
def total(batch: Batch) -> None:
    seen = [record.json()["n"] for record in batch]
    if "no" in seen and not Path("fixed").exists():
        raise ValueError("not a number: no")
    with open("seen", "a") as file:
        file.writelines(f"{n}\\n" for n in seen)
"""

ORDERS = '{"id":"a","n":1}\n{"id":"b","n":2}\n{"id":"c","n":"no"}\n{"id":"d","n":4}\n'


@pytest.fixture
def shop(run_streamfn, tmp_path):
    """The command line, in a folder with an app whose function fails on one of four orders."""
    (tmp_path / "app.py").write_text(APP)
    assert run_streamfn("put", "orders", "--key", "id", input=ORDERS).returncode == 0
    return run_streamfn


@pytest.fixture
def failed(shop):
    """The same after the worker ran."""
    ended = shop("worker", "app.py", "--burst", "--processes", "1")
    assert ended.returncode == 0, ended.stderr
    return shop


class TestWorker:
    """Tests for `streamfn worker`."""

    def test_the_good_orders_are_processed_and_the_figures_told(self, shop, tmp_path):
        ended = shop("worker", "app.py", "--burst", "--processes", "1")

        assert (ended.returncode, ended.stdout) == (0, "")
        assert sorted((tmp_path / "seen").read_text().split()) == ["1", "2", "4"]
        *_, last = map(json.loads, ended.stderr.splitlines())
        assert last["function"] == "shop.total"
        assert last["message"] == "3 records in 6 calls, 1 retried, 2 bisected, 1 dead-lettered"

    def test_people_get_lines_to_read(self, shop):
        text = {"STREAMFN_LOG_FORMAT": "text"}
        ended = shop("worker", "app.py", "--burst", "--processes", "1", env=text)

        assert " ERROR shop.total orders/0 #2 dead-lettered after 2 attempts" in ended.stderr
        assert "ValueError: not a number: no" in ended.stderr

    def test_the_app_may_come_from_the_environment(self, shop):
        ended = shop("worker", "--burst", env={"STREAMFN_APP": "app:app"})

        assert ended.returncode == 0

    def test_two_workers_on_one_log_share_the_work(self, shop, tmp_path):
        command = [sys.executable, "-m", "streamfn", "worker", "app.py", "--burst"]
        workers = [
            subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        ended = [worker.communicate(timeout=240)[1] for worker in workers]

        assert [worker.returncode for worker in workers] == [0, 0], ended
        assert sorted((tmp_path / "seen").read_text().split()) == ["1", "2", "4"]

    def test_a_worker_waits_for_a_stream_and_ends_when_told(self, run_streamfn, tmp_path):
        (tmp_path / "app.py").write_text(APP)
        command = [sys.executable, "-m", "streamfn", "worker", "app.py", "--processes", "1"]
        worker = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        try:
            time.sleep(0.5)
            run_streamfn("put", "orders", "--key", "id", input='{"id":"a","n":1}\n')
            end = time.monotonic() + 30
            while not (tmp_path / "seen").exists():
                assert time.monotonic() < end
                assert worker.poll() is None, worker.stderr.read()
                time.sleep(0.02)
            worker.terminate()
            assert worker.wait(timeout=240) == 0
        finally:
            worker.kill()
            worker.communicate()


class TestBadApps:
    """An app that cannot run: its cause, the fix, and the exit code."""

    def ends(self, run_streamfn, *arguments):
        ended = run_streamfn("worker", *arguments, "--burst")
        return ended.returncode, ended.stderr, ended.stderr.splitlines()[-1]

    def test_an_app_that_does_not_import_shows_its_traceback(self, run_streamfn, tmp_path):
        (tmp_path / "app.py").write_text("import streamfn\n\n1 / 0\n")

        code, said, last = self.ends(run_streamfn, "app.py")
        assert code == 2
        assert "Traceback (most recent call last):" in said
        assert 'app.py", line 3' in said
        assert said.count("Traceback") == 1
        assert last.startswith("error: ")
        assert "`app.py` does not import (ZeroDivisionError: division by zero)" in last

    @pytest.mark.parametrize(
        ("argument", "said"),
        [
            ("app.py", "there is no file `app.py`"),
            ("nowhere:app", "there is no module `nowhere`"),
            ("json.nowhere:app", "there is no module `json.nowhere`"),
            ("json:ap", "`json` has no `ap`, it has no `streamfn.App` at all"),
        ],
    )
    def test_an_app_that_is_not_there_takes_one_line_to_tell(self, argument, said, run_streamfn):
        code, everything, last = self.ends(run_streamfn, argument)

        assert code == 2
        assert said in last
        assert len(everything.splitlines()) == 1

    @pytest.mark.parametrize("app", ["shop:app", "shop.py"])
    def test_a_traceback_has_the_users_frames_only(self, app, run_streamfn, tmp_path):
        (tmp_path / "shop.py").write_text("import functions\n")
        wrong = "from streamfn import App\nApp('shop').stream('orders', batch_sise=1)\n"
        (tmp_path / "functions.py").write_text(wrong)

        code, said, last = self.ends(run_streamfn, app)
        assert code == 78
        assert re.findall(r'File ".*/(.*)", line (\d+)', said) == [
            ("shop.py", "1"),
            ("functions.py", "2"),
        ]
        assert last == "error: `batch_sise`: unknown argument, did you mean `batch_size`?"

    def test_what_is_not_an_app(self, run_streamfn, tmp_path):
        (tmp_path / "app.py").write_text("app = 7\n")

        code, _, last = self.ends(run_streamfn, "app.py")
        assert code == 2
        assert "`app.py` is a int, not a `streamfn.App`" in last

    def test_a_setting_that_cannot_be_used(self, run_streamfn, tmp_path):
        (tmp_path / "app.py").write_text(APP.replace("max_retries=1", "max_retries=-7"))

        code, said, last = self.ends(run_streamfn, "app.py")
        assert code == 78
        assert "`max_retries`: -7 is not a number of retries; 0 is none, -1 is for ever" in last
        assert said.count("error: ") == 1

    def test_a_stream_that_does_not_exist(self, run_streamfn, tmp_path):
        (tmp_path / "app.py").write_text(APP)

        code, _, last = self.ends(run_streamfn, "app.py")
        assert code == 1
        assert "there is no stream `orders` (hint:" in last
        run_streamfn("put", "order", input="{}\n")
        assert self.ends(run_streamfn, "app.py")[2].endswith("(hint: did you mean `order`?)")

    def test_a_log_directory_that_is_something_else(self, run_streamfn, tmp_path):
        (tmp_path / "app.py").write_text(APP)
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "cat.jpg").touch()

        code, _, last = self.ends(run_streamfn, "app.py", "--log-dir", "photos")
        assert code == 78
        assert "photos is not a log directory: it has `cat.jpg`" in last
        assert "(hint: choose another with --log-dir" in last

    def test_a_function_that_does_not_exist(self, shop):
        code, _, last = self.ends(shop, "app.py", "--only", "totl")

        assert code in {2, 78}
        assert "totl" in last


class TestDlq:
    """Tests for `streamfn dlq`."""

    def test_exactly_the_guilty_record_is_listed(self, failed):
        [letter] = json.loads(failed("dlq", "ls", "total", "--json").stdout)

        assert {name: letter[name] for name in ("stream", "shard_id", "partition_key")} == {
            "stream": "orders",
            "shard_id": "shardId-000000000000",
            "partition_key": "c",
        }
        assert letter["id"] == "shardId-000000000000:2"
        assert letter["json"] == {"id": "c", "n": "no"}
        assert (letter["function"], letter["attempts"]) == ("shop.total", 2)
        assert (letter["error_type"], letter["error_message"]) == (
            "ValueError",
            "not a number: no",
        )
        assert 'raise ValueError("not a number: no")' in letter["traceback"]
        assert letter["first_failed"] <= letter["last_failed"]

    def test_people_get_a_table_and_one_letter_in_full(self, failed):
        table = failed("dlq", "ls", "shop.total").stdout.splitlines()
        assert table[0].split() == ["ID", "KEY", "ERROR", "ATTEMPTS", "LAST", "FAILED"]
        assert table[1].startswith("shardId-000000000000:2  c    ValueError: not a number: no")

        shown = failed("dlq", "show", "total").stdout
        assert shown == failed("dlq", "show", "total", "shardId-000000000000:2").stdout
        assert 'raise ValueError("not a number: no")' in shown
        assert shown.endswith('payload\n  {"id":"c","n":"no"}\n')
        assert json.loads(failed("dlq", "show", "total", "--json").stdout)["attempts"] == 2

    def test_after_the_fix_a_redrive_leaves_none(self, failed, tmp_path):
        (tmp_path / "fixed").touch()

        queued = failed("dlq", "redrive", "total")
        assert queued.returncode == 0
        assert "queued 1 dead letter of `total`; a running worker retries it" in queued.stderr
        assert json.loads(failed("dlq", "ls", "total", "--json").stdout) == []
        assert len(json.loads(failed("dlq", "ls", "total", "--status", "queued", "--json").stdout))

        assert failed("worker", "app.py", "--burst").returncode == 0
        assert sorted((tmp_path / "seen").read_text().split()) == ["1", "2", "4", "no"]
        resolved = failed("dlq", "ls", "total", "--status", "resolved", "--json").stdout
        assert [letter["id"] for letter in json.loads(resolved)] == ["shardId-000000000000:2"]
        again = failed("dlq", "redrive", "total")
        assert (again.returncode, again.stderr) == (0, "no open dead letters of `total`\n")

    def test_without_a_fix_it_comes_back_with_its_attempts_added_up(self, failed):
        failed("dlq", "redrive", "total")
        failed("worker", "app.py", "--burst")

        [letter] = json.loads(failed("dlq", "ls", "total", "--json").stdout)
        assert (letter["id"], letter["attempts"]) == ("shardId-000000000000:2", 4)

    def test_a_redrive_can_be_waited_for(self, failed, tmp_path):
        nobody = failed("dlq", "redrive", "total", "--wait", "--timeout", "300ms")
        assert nobody.returncode == 75
        assert "error: timed out" in nobody.stderr

        (tmp_path / "fixed").touch()
        command = [sys.executable, "-m", "streamfn", "worker", "app.py"]
        worker = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
        try:
            waited = failed("dlq", "redrive", "total", "--wait", "--timeout", "30s")
        finally:
            worker.terminate()
            assert worker.wait(timeout=240) == 0
        assert waited.returncode == 0

    def test_a_letter_can_be_given_up(self, failed):
        dropped = failed("dlq", "drop", "total", "shardId-000000000000:2", "--yes")
        assert dropped.stderr == "dropped 1 dead letter of `total`\n"
        assert failed("dlq", "ls", "total").stderr == "no open dead letters of `total`\n"

    def test_so_can_all_but_not_without_being_asked(self, failed):
        """A script has to say that it means it; nothing is dropped until then."""
        unsure = failed("dlq", "drop", "total")
        assert (unsure.returncode, "add --yes" in unsure.stderr) == (2, True)
        assert len(json.loads(failed("dlq", "ls", "total", "--json").stdout)) == 1

        assert (
            failed("dlq", "drop", "total", "--yes").stderr == "dropped 1 dead letter of `total`\n"
        )
        assert failed("dlq", "drop", "total").stderr == "dropped 0 dead letters of `total`\n"

    def test_a_letter_or_a_function_that_is_not_there(self, failed):
        letter = failed("dlq", "show", "total", "shardId-000000000000:9")
        assert letter.returncode == 1
        assert "`total` has no open dead letter `shardId-000000000000:9` (hint:" in letter.stderr

        function = failed("dlq", "ls", "totl")
        assert function.returncode == 1
        assert "there is no function `totl` (hint: did you mean `total`?)" in function.stderr

    def test_a_log_on_which_nothing_ran(self, shop):
        ended = shop("dlq", "ls", "total")

        assert ended.returncode == 1
        assert "no function has run on this log yet (hint: `streamfn worker APP`" in ended.stderr


class TestFn:
    """Tests for `streamfn fn`."""

    def test_it_tells_how_far_a_function_is(self, failed):
        failed("put", "orders", "--key", "id", input='{"id":"e","n":5}\n{"id":"f","n":6}\n')

        [function] = json.loads(failed("fn", "ls", "--json").stdout)
        assert (
            function.items()
            >= {
                "name": "shop.total",
                "state": "no-worker",
                "parallelization_factor": 1,
                "lanes": 1,
                "in_flight": 0,
                "records_behind": 2,
                "dead_letters": 1,
                "queued_dead_letters": 0,
                "on_failure": "dlq",
            }.items()
        )
        assert function["streams"] == ["orders"]
        head, line = failed("fn", "ls").stdout.splitlines()
        assert head.split()[:2] == ["FUNCTION", "STATE"]
        assert line.split()[:2] == ["shop.total", "no-worker"]

    def test_a_log_on_which_nothing_ran(self, shop):
        ended = shop("fn", "ls")

        assert (ended.returncode, ended.stdout) == (0, "")
        assert "no functions yet (hint:" in ended.stderr
        assert shop("fn", "ls", "--json").stdout == "[]\n"


class TestFailuresElsewhere:
    """Tests for `dlq` and `fn` of functions whose failures are not their own dead letters."""

    def test_the_stream_that_the_worker_ran_with_is_named(self, shop, tmp_path):
        for on_failure, said in (
            ('"badones"', "failures of `shop.total` go to the stream `badones`"),
            ("None", "failures of `shop.total` are dropped (`on_failure=None`)"),
            ('"dlq"', "no open dead letters of `total`"),
        ):
            app = APP.replace("max_retries=1", f"max_retries=0, on_failure={on_failure}")
            (tmp_path / "app.py").write_text(app)
            assert shop("worker", "app.py", "--burst", "--processes", "1").returncode == 0

            assert shop("dlq", "ls", "total").stderr.startswith(said)
        letters = shop("tail", "badones", "-e", "--json").stdout.splitlines()
        assert [json.loads(each)["json"]["id"] for each in letters] == ["c"]
