"""Tests for `streamfn invoke`."""

import subprocess
import sys

import pytest
from fake_front import FakeFront, dying, failing, refusing, result

from streamfn import Log
from streamfn.invocation.frames import Kind

APP = """
import sys
from streamfn import App

app = App("shop")


@app.function
def price(order):
    print("pricing")
    return {"total": sum(order["items"])}


@app.function
def context_of(order, context):
    return context.client_context.custom


@app.function
def echo(order):
    return order


@app.stream("orders")
def total(batch): ...


def made():
    return app
"""


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """`shop.py` in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.py").write_text(APP)
    yield "shop.py"
    sys.modules.pop("shop", None)


@pytest.fixture
def front(log_dir):
    """Starts the front of a worker of the log."""
    fronts = []
    with Log.open(log_dir) as log:

        def start(functions=("shop.price",), behave=None):
            fronts.append(FakeFront(log, functions, behave))
            return fronts[-1]

        yield start
        for each in fronts:
            each.close()


class TestAnswers:
    def test_in_this_process_without_a_worker(self, run, shop, log_dir):
        ended = run("invoke", shop, "price", "--payload", '{"items": [3, 4]}')

        assert (ended.code, ended.stdout) == (0, b'{"total":7}\n')
        assert ended.stderr == "pricing\n", "what a function prints is no data"
        assert not log_dir.exists(), "a call makes no log"

    def test_through_a_worker_the_app_is_not_imported(self, run, front):
        there = front()

        ended = run("invoke", "no_such_file.py", "price", "--payload", "[1]")

        assert (ended.code, ended.stdout) == (0, b"[1]\n")
        assert there.calls[0].header["function"] == "shop.price"

    def test_the_answer_is_written_as_the_worker_sent_it(self, run, front):
        front(behave=lambda _front, reply, frame: reply(Kind.RESULT, result(frame), b'{"a" : 1}'))

        assert run("invoke", "shop.py", "price").stdout == b'{"a" : 1}\n'

    def test_on_a_terminal_it_has_several_lines(self, run, front, monkeypatch):
        monkeypatch.setenv("FORCE_COLOR", "1")
        front()

        ended = run("invoke", "shop.py", "price", "--payload", '{"a":[1]}')

        assert ended.stdout == b'{\n  "a": [\n    1\n  ]\n}\n'

    def test_without_a_payload_a_function_gets_an_empty_object(self, run, shop):
        assert run("invoke", shop, "echo").json == {}

    def test_where_it_ran_is_said_with_v(self, run, shop, log_dir):
        Log.open(log_dir).close()

        ended = run("invoke", shop, "echo", "-v")

        assert ended.stderr == (
            "`shop.echo` runs in this process, because no worker runs it\n"
        )  # fmt: skip

    @pytest.mark.parametrize("where", ["local", "auto"])
    def test_an_app_that_is_made_by_a_callable(self, run, shop, where):
        ended = run("invoke", "shop:made", "echo", "--factory", "--where", where)

        assert ended.json == {}

    def test_local_is_here_although_a_worker_runs(self, run, shop, front):
        there = front(functions=["shop.echo"])

        assert run("invoke", shop, "echo", "--where", "local").json == {}
        assert there.calls == []

    def test_the_client_context_is_passed_on(self, run, shop, front):
        context = '{"custom": {"a": 1}}'
        here = run("invoke", shop, "context_of", "--client-context", context)
        there = front()
        run("invoke", shop, "price", "--client-context", context)

        assert here.json == {"a": 1}
        assert there.calls[0].header["client_context"] == {"custom": {"a": 1}}

    def test_the_end_of_the_log_goes_to_stderr(self, run, front):
        def behave(_front, reply, frame):
            log = "one\ntwo" if frame.header["tail"] else None
            reply(Kind.RESULT, result(frame, log=log), b"1")

        front(behave=behave)

        assert run("invoke", "shop.py", "price").stderr == ""
        ended = run("invoke", "shop.py", "price", "--tail")
        assert (ended.stdout, ended.stderr) == (b"1\n", "one\ntwo\n")


class TestPayloads:
    def test_from_a_file(self, run, front, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "order.json").write_text('{"items": [1]}\n')
        there = front()

        run("invoke", "shop.py", "price", "--payload", "@order.json")

        assert there.calls[0].body == b'{"items": [1]}\n'

    def test_from_standard_input(self, run, front):
        there = front()

        run("invoke", "shop.py", "price", "--payload", "-", input=b"[2]")

        assert there.calls[0].body == b"[2]"

    def test_a_shell_pipeline(self, shop):
        invoke = f"{sys.executable} -m streamfn invoke shop.py price --payload -"
        command = f"""echo '{{"items": [5]}}' | {invoke} | cat"""

        done = subprocess.run(["bash", "-c", command], capture_output=True, check=True)

        assert done.stdout == b'{"total":5}\n'

    @pytest.mark.parametrize(
        ("argument", "says"),
        [
            ("{items: 3}", "--payload {items: 3} is not JSON: unexpected character, expected a "),
            ("ada", "--payload ada is not JSON: unexpected character"),
            ("", "--payload is not JSON"),
            ("{'a': 1}", "line 1, column 2"),
        ],
    )
    def test_no_json_is_a_usage_error_with_its_place(self, run, argument, says):
        ended = run("invoke", "shop.py", "price", "--payload", argument)

        assert ended.code == 2
        assert says in ended.stderr
        assert "hint: in most shells, JSON stands in single quotes: --payload '{" in ended.stderr

    def test_the_place_in_a_file_is_that_of_the_file(self, run, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "order.json").write_text('{\n  "items": [1,]\n}')

        ended = run("invoke", "shop.py", "price", "--payload", "@order.json")

        assert ended.code == 2
        assert "`order.json` is not JSON" in ended.stderr
        assert "at line 2, column 14" in ended.stderr

    def test_a_long_argument_is_not_repeated_in_full(self, run):
        ended = run("invoke", "shop.py", "price", "--payload", "x" * 500)

        assert len(ended.stderr) < 300

    def test_no_json_on_standard_input(self, run):
        ended = run("invoke", "shop.py", "price", "--payload", "-", input=b"{")

        assert ended.code == 2
        assert "standard input is not JSON" in ended.stderr

    def test_a_file_without_an_at_sign(self, run, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "order.json").write_text("{}")

        ended = run("invoke", "shop.py", "price", "--payload", "order.json")

        assert ended.code == 2
        assert "hint: to send the file, write --payload @order.json" in ended.stderr

    def test_a_missing_file(self, run, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "order.json").write_text("{}")

        near = run("invoke", "shop.py", "price", "--payload", "@ordr.json")
        far = run("invoke", "shop.py", "price", "--payload", "@missing/x.json")

        assert (near.code, far.code) == (2, 2)
        assert "hint: did you mean `@order.json`?" in near.stderr
        assert "cannot be read from `missing/x.json`: No such file" in far.stderr

    def test_no_json_as_client_context(self, run):
        ended = run("invoke", "shop.py", "price", "--client-context", "x")

        assert ended.code == 2
        assert "--client-context x is not JSON" in ended.stderr

    def test_nothing_is_imported_or_called_for_a_bad_payload(self, run, front):
        there = front()

        assert run("invoke", "no_such.py", "price", "--payload", "x").code == 2
        assert there.calls == []

    def test_a_payload_above_the_limit(self, run, tmp_path, monkeypatch, front):
        there = front()
        at, above = b'"' + b"x" * 6_291_454 + b'"', b'"' + b"x" * 6_291_455 + b'"'

        assert run("invoke", "shop.py", "price", "--payload", "-", input=at).code == 0
        ended = run("invoke", "shop.py", "price", "--payload", "-", input=above)
        assert ended.code == 2
        assert "6,291,457 bytes" in ended.stderr
        assert len(there.calls) == 1


class TestExitCodes:
    def test_a_function_that_failed(self, run, front):
        error = {"errorMessage": "no", "errorType": "ValueError", "stackTrace": []}
        front(behave=failing(error))

        ended = run("invoke", "shop.py", "price")

        assert (ended.code, ended.json, ended.stderr) == (1, error, "")

    def test_a_function_that_failed_here(self, run, shop):
        ended = run("invoke", shop, "price")

        assert ended.code == 1
        assert ended.json["errorType"] == "KeyError"
        assert list(ended.json) == ["errorMessage", "errorType", "requestId", "stackTrace"]

    def test_a_worker_that_died_in_the_call(self, run, front):
        front(behave=dying)

        ended = run("invoke", "shop.py", "price")

        assert (ended.code, ended.json["errorType"]) == (1, "Runtime.WorkerLost")
        assert list(ended.json) == ["errorMessage", "errorType", "requestId", "stackTrace"]

    @pytest.mark.parametrize(("status", "code"), [(429, 75), (503, 75), (400, 2), (413, 2)])
    def test_a_call_that_was_refused(self, run, front, status, code):
        front(behave=refusing(status))

        ended = run("invoke", "shop.py", "price")

        assert ended.code == code
        assert ended.stdout == b""
        assert ended.stderr.startswith("error: ")

    def test_no_worker(self, run, log_dir):
        missing = run("invoke", "shop.py", "price", "--where", "worker")
        Log.open(log_dir).close()
        none = run("invoke", "shop.py", "price", "--where", "worker")

        assert (missing.code, none.code) == (75, 75)
        assert "no log directory" in missing.stderr
        assert "or call with --where local" in none.stderr

    def test_an_unknown_function(self, run, shop, front):
        here = run("invoke", shop, "prise")
        front()
        there = run("invoke", shop, "prise", "--where", "worker")

        assert (here.code, there.code) == (2, 2)
        assert "did you mean `shop.price`?" in here.stderr
        assert "did you mean `shop.price`?" in there.stderr

    def test_a_function_on_a_stream(self, run, shop):
        ended = run("invoke", shop, "total")

        assert ended.code == 2
        assert "records of a stream" in ended.stderr

    def test_an_app_that_does_not_import(self, run, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)

        assert run("invoke", "no_such.py", "price").code == 2

    def test_a_short_name_of_two_apps(self, run, front):
        front(functions=["shop.price", "bank.price"])

        ended = run("invoke", "shop.py", "price", "--where", "worker")

        assert ended.code == 2
        assert "say which: `bank.price`, `shop.price`" in ended.stderr
        assert run("invoke", "shop.py", "bank.price").code == 0
