"""Tests for `App.function` and `streamfn.model.function_options`."""

import functools
from datetime import timedelta

import pytest

from streamfn import App, Batch, ConfigError, Record
from streamfn.model.function_config import DEFAULT_TIMEOUT, MEMORY_MIN, FunctionConfig


def price(order, context): ...


async def ask(order): ...


def refused(field, handler=price, **options):
    """The reason of the `ConfigError` for this field."""
    with pytest.raises(ConfigError) as caught:
        App("shop").function(**options)(handler)
    assert caught.value.field == field
    return caught.value.reason


def registered(handler=price, **options):
    app = App("shop")
    app.function(**options)(handler)
    [config] = app.functions
    return config


class TestRegistering:
    """Tests for `App.function`."""

    def test_a_function_comes_back_unchanged_with_and_without_parentheses(self):
        app = App("shop")

        assert app.function(price) is price
        assert app.function(name="other")(price) is price
        assert [each.name for each in app.functions] == ["shop.price", "shop.other"]
        assert app.handler("shop.price") is price
        assert app.mappings == ()
        assert repr(app) == "<App shop: shop.price, shop.other>"

    def test_the_defaults_are_those_of_the_product(self):
        config = registered()

        assert (config.app, config.function) == ("shop", "price")
        assert config.timeout == DEFAULT_TIMEOUT == timedelta(seconds=60)
        assert (config.concurrency, config.memory) == (None, None)
        assert (config.is_async, config.per_process) == (False, 1)
        assert config.group == "shop"
        assert len(config.version) == 12

    def test_every_argument_arrives(self):
        config = registered(
            ask, name="asks", timeout="1.5s", concurrency=0, memory="512MiB", per_process=256
        )

        assert config.function == "asks"
        assert config.timeout == timedelta(seconds=1.5)
        assert config.concurrency == 0
        assert config.memory == 512 * 2**20
        assert (config.is_async, config.per_process) == (True, 256)

    def test_none_means_the_default(self):
        options = dict.fromkeys(("name", "timeout", "concurrency", "memory", "per_process"))

        assert registered(**options) == registered()

    def test_an_async_function_shares_its_processes(self):
        assert registered(ask).per_process == 64
        assert registered(ask).group == "shop/async-64"
        assert registered(ask, per_process=8).group == "shop/async-8"
        assert registered(ask, per_process=1).group == "shop"
        assert registered(ask, memory="1GiB").group == "shop.ask"

    def test_an_object_with_an_async_call_is_one(self):
        class Asking:
            async def __call__(self, order): ...

        assert registered(Asking(), name="asking").is_async

    def test_a_config_survives_json(self):
        config = registered(ask, timeout="250ms", memory=MEMORY_MIN)

        assert FunctionConfig.from_dict(config.to_dict()) == config

    def test_a_name_is_that_of_one_function_of_either_kind(self):
        app = App("shop")
        app.function(price)
        app.stream("orders", name="total")(price)

        for register in (app.function, app.function(), app.stream("orders")):
            with pytest.raises(ConfigError, match="registered already, give this one `name=`"):
                register(price)
        with pytest.raises(ConfigError, match="registered already"):
            app.function(name="total")(price)
        assert len(app.functions) == len(app.mappings) == 1


class TestRefusals:
    """Every error names the argument and the fix."""

    def test_arguments_have_names(self):
        with pytest.raises(ConfigError, match=r"write `@app.function\(name='price'\)`"):
            App("shop").function("price")

    @pytest.mark.parametrize("name", ["max_retries", "max_event_age", "on_success", "on_failure"])
    def test_arguments_for_events_come_later(self, name):
        assert refused(name, **{name: 2}) == "events come in a later release, leave it out"

    def test_a_typing_error_is_recognised(self):
        assert refused("time_out", time_out=1) == "unknown argument, did you mean `timeout`?"
        assert "did you mean `concurrency`?" in refused("max_concurrency", max_concurrency=1)
        assert "use one of" in refused("xyz", xyz=1)

    def test_an_argument_of_streams_is_recognised(self):
        assert refused("bisect", bisect=True).startswith("only `@app.stream` has this argument")

    def test_an_unknown_argument_is_refused_before_there_is_a_function(self):
        with pytest.raises(ConfigError):
            App("shop").function(max_retries=2)

    @pytest.mark.parametrize("timeout", ["soon", -1, True, [], "5 parsecs"])
    def test_a_timeout_is_a_duration(self, timeout):
        assert "is not a duration" in refused("timeout", timeout=timeout)

    def test_a_timeout_is_above_zero(self):
        assert "above zero" in refused("timeout", timeout=0)
        assert registered(timeout=timedelta(microseconds=1)).timeout == timedelta(microseconds=1)

    @pytest.mark.parametrize("calls", [-1, 1_000_001])
    def test_concurrency_has_bounds(self, calls):
        assert "is not between 0 and 1,000,000" in refused("concurrency", concurrency=calls)

    @pytest.mark.parametrize("calls", ["3", 1.5, True])
    def test_concurrency_is_a_whole_number(self, calls):
        assert "is not a whole number" in refused("concurrency", concurrency=calls)

    def test_memory_has_a_lower_bound(self):
        assert "is too little for a process" in refused("memory", memory=MEMORY_MIN - 1)
        assert registered(memory=MEMORY_MIN).memory == MEMORY_MIN
        assert "is not a size" in refused("memory", memory="much")

    @pytest.mark.parametrize("calls", [0, 257])
    def test_per_process_has_bounds(self, calls):
        assert f"{calls} is not between 1 and 256" in refused("per_process", ask, per_process=calls)

    def test_a_process_runs_one_call_of_a_def_function(self):
        assert registered(per_process=1).per_process == 1
        assert "write it as `async def`" in refused("per_process", per_process=2)

    def test_a_generator_has_no_single_answer(self):
        def several(order):
            yield order

        async def more(order):
            yield order

        for handler in (several, more):
            assert "return a list, or write it without `yield`" in refused("function", handler)

    def test_a_function_takes_a_payload_and_a_context(self):
        assert "takes no positional parameter" in refused("function", lambda: 1, name="f")
        reason = refused("function", lambda a, b, c: 1, name="f")
        assert reason == "`f` requires `c`, but a call passes only payload and context"
        assert "requires `k`" in refused("function", lambda a, *, k: 1, name="f")
        for handler in (lambda *a: 1, lambda a, b=1, c=2, *, k=3: 1, print):
            assert registered(handler, name="f").function == "f"

    def test_what_cannot_be_called_is_refused(self):
        with pytest.raises(ConfigError, match="arguments have names"):
            App("shop").function(7)
        assert "cannot be called" in refused("function", 7)
        assert "is a class" in refused("function", dict, name="f")
        assert "a lambda has no name" in refused("name", lambda a: 1)
        assert "cannot be a name" in refused("name", name="a.b")

    @pytest.mark.parametrize("kind", [Batch, Record])
    def test_records_go_to_functions_on_streams(self, kind):
        def total(batch: kind): ...

        total.__annotations__["batch"] = kind
        reason = refused("function", total)
        assert f"takes a `{kind.__name__}`: register it with `@app.stream`" in reason

    def test_a_class_of_the_users_own_with_such_a_name_is_fine(self):
        class Batch: ...

        def bake(batch): ...

        bake.__annotations__["batch"] = Batch
        assert registered(bake).function == "bake"

    def test_a_decorated_function_is_looked_at(self):
        @functools.wraps(price)
        def wrapped(*args): ...

        assert registered(wrapped).function == "price"
