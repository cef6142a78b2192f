"""Tests for `App.invoke`: where a call runs, and what its caller gets as a Python value."""

import os
from dataclasses import dataclass
from datetime import date
from enum import Enum

import pytest
from fake_front import failing, refusing, result

from streamfn import App, Log, aio
from streamfn.errors import (
    ConfigError,
    FunctionError,
    FunctionNotFound,
    InvalidRequest,
    WorkerUnavailable,
)
from streamfn.invocation import logs
from streamfn.invocation.frames import Kind
from streamfn.invocation.invoke import payload_of
from streamfn.invocation.reply import Reply, value_of
from streamfn.model.function_config import REQUEST_BYTES_MAX


@pytest.fixture
def app():
    """Functions that say where they ran."""
    app = App("shop")

    @app.function
    def price(event):
        return {"here": event}

    @app.function
    def context_of(event, context):
        return [context.client_context and context.client_context.custom, context.request_id]

    @app.function
    def fails(event):
        raise ValueError("no")

    @app.function
    def puts(event, context):
        context.log.stream("orders").put(b"1")

    @app.stream("orders")
    def total(batch): ...

    return app


@pytest.fixture(params=["blocking", "asyncio"])
def invoke(request):
    """`invoke(app, "price", ...)`, as callers of both kinds write it."""

    def with_asyncio(app, *args, **options):
        import asyncio

        return asyncio.run(aio.invoke(app, *args, **options))

    def blocking(app, *args, **options):
        return app.invoke(*args, **options)

    return {"blocking": blocking, "asyncio": with_asyncio}[request.param]


class TestWhere:
    def test_auto_is_through_a_worker_that_announces_the_function(self, invoke, app, log, front):
        front()

        assert invoke(app, "price", 1, log=log) == 1, "the front echoes"

    def test_auto_is_here_without_a_worker(self, invoke, app, log):
        assert invoke(app, "price", 1, log=log) == {"here": 1}

    def test_auto_is_here_if_no_worker_announces_the_function(self, invoke, app, log, front):
        there = front(functions=["shop.other"])

        assert invoke(app, "price", 1, log=log) == {"here": 1}
        assert there.calls == []

    def test_auto_is_here_after_the_worker_has_ended(self, invoke, app, log, front):
        there = front()
        assert invoke(app, "price", 1, log=log) == 1
        there.die()

        assert invoke(app, "price", 1, log=log) == {"here": 1}

    def test_auto_is_here_without_a_log_directory_and_makes_none(self, invoke, app, log_dir):
        assert invoke(app, "price", 1, log=log_dir) == {"here": 1}
        assert not log_dir.exists()

    def test_a_worker_that_does_not_answer_is_not_replaced_by_this_process(
        self, invoke, app, log, front
    ):
        """Its function may be meant to run there only, and it may answer soon."""
        front(behave=refusing(503))

        with pytest.raises(WorkerUnavailable):
            invoke(app, "price", 1, log=log)

    def test_local_is_here_whatever_runs(self, invoke, app, log, front):
        there = front()

        assert invoke(app, "price", 1, log=log, where="local") == {"here": 1}
        assert there.calls == []

    def test_worker_is_never_here(self, invoke, app, log):
        with pytest.raises(WorkerUnavailable, match="no worker runs on the log"):
            invoke(app, "price", 1, log=log, where="worker")

    def test_worker_without_a_log_directory(self, invoke, app, log_dir):
        with pytest.raises(WorkerUnavailable, match=f"no log directory `{log_dir}`"):
            invoke(app, "price", 1, log=log_dir, where="worker")

    @pytest.mark.parametrize("where", ["auto", "worker"])
    def test_a_worker_is_called_from_a_process_without_the_code(self, invoke, log, front, where):
        front()

        assert invoke(App("shop"), "price", 1, log=log, where=where) == 1

    def test_a_function_of_another_app_is_called_by_its_full_name(self, invoke, app, log, front):
        front(functions=["bank.pay"])

        assert invoke(app, "bank.pay", 1, log=log) == 1

    def test_the_full_name_is_good_here_too(self, invoke, app, log):
        assert invoke(app, "shop.price", 1, log=log) == {"here": 1}

    def test_another_where_is_refused(self, invoke, app):
        with pytest.raises(ConfigError, match="did you mean `worker`") as raised:
            invoke(app, "price", where="wroker")
        assert raised.value.field == "where"

    def test_a_name_is_text(self, invoke, app):
        with pytest.raises(ConfigError, match="pass the name of the function as text"):
            invoke(app, app.handler("shop.price"))


class TestNotFound:
    def test_the_nearest_of_the_app_is_suggested(self, invoke, app, log):
        for where in ("auto", "local"):
            with pytest.raises(FunctionNotFound) as raised:
                invoke(app, "prise", log=log, where=where)
            assert raised.value.hint == "did you mean `shop.price`?"

    def test_without_a_log_directory_too(self, invoke, app, log_dir):
        with pytest.raises(FunctionNotFound) as raised:
            invoke(app, "prise", log=log_dir)
        assert raised.value.hint == "did you mean `shop.price`?"

    def test_a_function_on_a_stream_is_not_called_by_request(self, invoke, app, log):
        with pytest.raises(FunctionNotFound) as raised:
            invoke(app, "total", log=log)
        assert "records of a stream" in raised.value.hint

    def test_an_app_without_functions_here_means_a_worker(self, invoke, log, log_dir):
        for place in (log, log_dir / "missing"):
            with pytest.raises(WorkerUnavailable):
                invoke(App("shop"), "price", log=place)

    def test_an_app_without_functions_has_none_here(self, invoke, log):
        with pytest.raises(FunctionNotFound) as raised:
            invoke(App("shop"), "price", log=log, where="local")
        assert "register one with `@app.function`" in raised.value.hint

    def test_the_nearest_of_the_workers_is_suggested(self, invoke, log, front):
        front()

        with pytest.raises(FunctionNotFound) as raised:
            invoke(App("shop"), "prise", log=log)
        assert raised.value.hint == "did you mean `shop.price`?"


class TestValues:
    @dataclass
    class Order:
        """A typed payload."""

        items: list[int]

    class Colour(Enum):
        """A value that JSON has no form for."""

        RED = "red"

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (..., b"{}"),
            (None, b"null"),
            ({"a": [1, 2.5, True, None, "é"]}, '{"a":[1,2.5,true,null,"é"]}'.encode()),
            ("", b'""'),
            (Order([3, 4]), b'{"items":[3,4]}'),
            ({1: "a"}, b'{"1":"a"}'),
            (2**70, b"1180591620717411303424"),
            (date(2026, 12, 1), b'"2026-12-01"'),
            (Colour.RED, b'"red"'),
        ],
    )
    def test_a_payload_becomes_json(self, value, text):
        assert payload_of(value) == text

    @pytest.mark.parametrize("value", [{1, 2}, b"bytes", object(), {"a": object()}])
    def test_what_is_no_json_is_refused(self, invoke, app, log_dir, value):
        with pytest.raises(InvalidRequest, match=r"cannot be converted to JSON: .*serializable"):
            invoke(app, "price", value, log=log_dir)

    def test_without_a_payload_a_function_gets_an_empty_object(self, invoke, app, log_dir):
        assert invoke(app, "price", log=log_dir) == {"here": {}}
        assert invoke(app, "price", None, log=log_dir) == {"here": None}

    def test_the_limit_holds_here_too(self, invoke, app, log_dir):
        most = "x" * (REQUEST_BYTES_MAX - 2)
        app.function(name="size")(len)

        assert invoke(app, "size", most, log=log_dir) == len(most)
        with pytest.raises(InvalidRequest, match="6,291,457 bytes"):
            invoke(app, "size", most + "x", log=log_dir)

    def test_the_client_context_arrives_here_too(self, invoke, app, log_dir):
        context = {"custom": {"a": 1}}

        custom, _ = invoke(app, "context_of", log=log_dir, client_context=context)

        assert custom == {"a": 1}

    def test_the_end_of_the_log_goes_to_stderr(self, invoke, app, log, front, capsys):
        def behave(_front, reply, frame):
            reply(Kind.RESULT, result(frame, log="printed" * frame.header["tail"]), b"1")

        front(behave=behave)

        assert invoke(app, "price", log=log) == 1
        assert capsys.readouterr().err == ""
        assert invoke(app, "price", log=log, tail=True) == 1
        assert capsys.readouterr().err == "printed\n"


class TestErrors:
    def test_a_function_that_raised_here_and_in_a_worker_raises_the_same(
        self, invoke, app, log, log_dir, front
    ):
        with pytest.raises(FunctionError) as here:
            invoke(app, "fails", log=log)
        trace = list(here.value.stack_trace)
        error = {"errorMessage": "no", "errorType": "ValueError", "stackTrace": trace}
        front(functions=["shop.fails"], behave=failing(error))
        with pytest.raises(FunctionError) as there:
            invoke(app, "fails", log=log)

        assert here.value.args[:3] == there.value.args[:3]
        assert here.value.error_type == "ValueError"
        assert 'raise ValueError("no")' in trace[0]
        assert len(here.value.request_id) == len(there.value.request_id) == 36

    def test_the_request_id_in_an_error_object_wins(self):
        reply = Reply(b'{"errorType":"E","requestId":"theirs"}', True, "ours")

        with pytest.raises(FunctionError) as raised:
            value_of(reply)
        assert raised.value.request_id == "theirs"

    @pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"null", b'{"stackTrace": 3}'])
    def test_whatever_a_worker_sends_is_a_function_error(self, body):
        with pytest.raises(FunctionError) as raised:
            value_of(Reply(body, True, "ours"))
        assert raised.value.request_id == "ours"


class TestLogs:
    def test_the_log_directory_of_the_environment(self, invoke, log, front, monkeypatch):
        front()
        monkeypatch.setenv("STREAMFN_LOG_DIR", log.path)

        assert invoke(App("shop"), "price", 1) == 1

    def test_else_that_of_the_command_line(self, invoke, log, front, monkeypatch, tmp_path):
        front()
        monkeypatch.delenv("STREAMFN_LOG_DIR", raising=False)
        monkeypatch.chdir(tmp_path)
        (tmp_path / ".streamfn").symlink_to(log.path)

        assert invoke(App("shop"), "price", 1) == 1

    def test_the_default_is_that_of_commands(self):
        from streamfn.cli.params import DEFAULT_LOG_DIR

        assert logs.DEFAULT_LOG_DIR == DEFAULT_LOG_DIR

    def test_a_path_is_opened_once(self, invoke, log, front):
        front()
        invoke(App("shop"), "price", 1, log=log.path)
        first = logs.existing_log(log.path)

        invoke(App("shop"), "price", 1, log=log.path)

        assert logs.existing_log(log.path) is first

    def test_another_log_at_the_same_path_is_noticed(self, invoke, app, tmp_path, front):
        with Log.open(tmp_path / "a") as a, Log.open(tmp_path / "b") as b:
            front(on=b)
            place = tmp_path / "link"
            place.symlink_to(a.path)
            assert invoke(app, "price", 1, log=place) == {"here": 1}
            place.unlink()
            place.symlink_to(b.path)

            assert invoke(app, "price", 1, log=place) == 1

    def test_a_directory_that_is_no_log_is_refused(self, invoke, app, tmp_path):
        (tmp_path / "file").touch()

        with pytest.raises(ConfigError):
            invoke(app, "price", 1, log=tmp_path)

    def test_a_forked_child_opens_its_own(self, log, front):
        front()
        app = App("shop")
        assert app.invoke("price", 1, log=log.path) == 1
        child = os.fork()
        if child == 0:
            try:
                os._exit(app.invoke("price", 7, log=log.path))
            finally:
                os._exit(1)

        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

    def test_a_function_here_has_the_log(self, invoke, app, log):
        orders = log.create_stream("orders")

        invoke(app, "puts", log=log)
        invoke(app, "puts", log=log.path)

        assert sum(len(batch) for batch in orders.read()) == 2
