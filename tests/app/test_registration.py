"""Tests for `streamfn.app.registration` and `streamfn.model.options`."""

import functools
from datetime import UTC, datetime, timedelta

import pytest

from streamfn import App, Backoff, Batch, ConfigError, Context, Record


def refused(field, **options):
    """The text of the `ConfigError` for this field that a decorator with these options raises."""

    def total(batch): ...

    with pytest.raises(ConfigError) as caught:
        App("shop").stream(options.pop("source", "orders"), **options)(total)
    assert caught.value.field == field
    return str(caught.value)


class TestRegistering:
    """Tests for `App.stream`."""

    def test_a_function_comes_back_unchanged_and_is_found_by_its_mapping(self):
        app = App("shop")

        def total(batch):
            return len(batch)

        assert app.stream("orders")(total) is total
        [mapping] = app.mappings
        assert (mapping.name, mapping.app, mapping.function) == ("shop.total", "shop", "total")
        assert mapping.stream == "orders"
        assert app.handler("shop.total") is total

    def test_the_defaults_are_those_of_the_product(self):
        app = App("shop")
        app.stream("orders", name="f")(lambda batch: None)

        [mapping] = app.mappings
        assert mapping.input == "batch"
        assert mapping.start == "trim_horizon"
        assert mapping.batch.size == 100
        assert mapping.batch.window == timedelta(0)
        assert mapping.batch.bytes == 6 * 2**20
        assert mapping.retry.max_retries == 3
        assert mapping.retry.bisect
        assert mapping.retry.report_failures
        assert mapping.retry.on_exhausted == "record"
        assert mapping.retry.max_record_age is None
        assert mapping.retry.backoff == Backoff()
        assert mapping.parallelization_factor == 1
        assert mapping.max_concurrency is None
        assert mapping.memory is None
        assert mapping.timeout == timedelta(seconds=60)
        assert mapping.on_failure == "dlq"

    def test_every_argument_arrives(self):
        app = App("shop")
        start = datetime(2026, 1, 1, tzinfo=UTC)

        @app.stream(
            "orders",
            name="other",
            input="record",
            batch_size=500,
            batch_window="200ms",
            batch_bytes="1MiB",
            start=start,
            max_retries=-1,
            backoff=Backoff(base=timedelta(seconds=1)),
            max_record_age="1h",
            bisect=False,
            report_failures=False,
            on_exhausted="batch",
            parallelization_factor=4,
            max_concurrency=2,
            memory="512MiB",
            timeout=30,
            on_failure="broken",
        )
        def notify(record):
            pass

        [mapping] = app.mappings
        assert (mapping.name, mapping.input, mapping.start) == ("shop.other", "record", start)
        assert mapping.batch.size == 500
        assert mapping.batch.window == timedelta(milliseconds=200)
        assert mapping.batch.bytes == 2**20
        assert mapping.retry.max_retries == -1
        assert mapping.retry.backoff.base == timedelta(seconds=1)
        assert mapping.retry.max_record_age == timedelta(hours=1)
        assert not mapping.retry.bisect
        assert not mapping.retry.report_failures
        assert mapping.retry.on_exhausted == "batch"
        assert (mapping.parallelization_factor, mapping.max_concurrency) == (4, 2)
        assert mapping.memory == 512 * 2**20
        assert mapping.timeout == timedelta(seconds=30)
        assert mapping.on_failure == "broken"

    def test_a_failure_may_be_dropped_on_request(self):
        app = App("shop")
        app.stream("orders", name="f", on_failure=None)(lambda batch: None)

        assert app.mappings[0].on_failure is None

    @pytest.mark.parametrize("endless", [-1, -1.0, "-1", "-1s", timedelta(seconds=-1), None])
    def test_minus_one_is_no_limit_of_the_age_as_aws_has_it(self, endless):
        app = App("shop")
        app.stream("orders", name="f", preset="aws", max_record_age=endless, max_retries=-1)(
            lambda batch: None
        )

        [mapping] = app.mappings
        assert (mapping.retry.max_record_age, mapping.retry.max_retries) == (None, -1)
        if endless is not None:
            assert "no limit: leave it out" in refused("max_record_age", max_record_age=endless)

    def test_a_preset_fills_in_and_an_argument_wins(self):
        app = App("shop")
        app.stream("orders", name="plain", preset="aws")(lambda batch: None)
        app.stream("orders", name="own", preset="aws", max_retries=2, report_failures=True)(
            lambda batch: None
        )

        plain, own = app.mappings
        assert (plain.retry.max_retries, plain.retry.report_failures) == (-1, False)
        assert (own.retry.max_retries, own.retry.report_failures) == (2, True)
        assert not own.retry.bisect

    def test_an_argument_of_a_later_release_may_be_none(self):
        app = App("shop")
        app.stream("orders", name="f", filter=None, to=None, on_success=None)(lambda batch: None)

        assert len(app.mappings) == 1

    def test_a_new_version_is_a_change_of_code_not_of_comments(self):
        def version(source):
            scope = {}
            exec(source, scope)
            app = App("shop")
            app.stream("orders")(scope["total"])
            return app.mappings[0].version

        first = version("def total(batch):\n    return {'a', 'b'} & set(batch)")
        commented = version(
            "\n\n# why\ndef total(batch):\n    # why\n    return {'a', 'b'} & set(batch)"
        )
        changed = version("def total(batch):\n    return {'a', 'c'} & set(batch)")
        assert first == commented
        assert first != changed
        assert len(first) == 12


class TestRefusals:
    """Every refusal names the argument, and the way out."""

    def test_an_unknown_argument_gets_the_nearest_name(self):
        assert "did you mean `batch_size`?" in refused("batchsize", batchsize=3)

    def test_an_unknown_preset_input_or_start_too(self):
        assert "did you mean `aws`?" in refused("preset", preset="awss")
        assert "did you mean `record`?" in refused("input", input="records")
        assert "did you mean `latest`?" in refused("start", start="lates")

    @pytest.mark.parametrize(
        "option", ["preset", "on_exhausted", "input", "start", "on_corruption", "name", "to"]
    )
    @pytest.mark.parametrize("value", [[1], ["x"], {}, 5])
    def test_a_value_of_another_kind_is_refused_like_a_wrong_word(self, option, value):
        assert f"`{value}`" in refused(option, **{option: value})

    @pytest.mark.parametrize("option", ["to", "on_success", "on_failure"])
    def test_a_function_does_not_feed_itself(self, option):
        assert "would read its own output forever: name another stream" in refused(
            option, **{option: "orders"}
        )
        assert "cannot be a name" in refused(option, **{option: "a/b"})

    def test_a_stream_may_be_called_as_the_dead_letters_are(self):
        """`dlq` stands for the function's own, so it does not lead back to where it reads."""
        app = App("shop")
        app.stream("dlq", name="f")(lambda batch: None)

        [mapping] = app.mappings
        assert (mapping.failure_stream, mapping.targets) == ("shop.f.dlq", {})

    def test_so_are_connectors(self):
        assert "`kafka://` comes in a later release" in refused("source", source="kafka://h/t")
        assert "later release" in refused("on_failure", on_failure="sqs://queue")

    @pytest.mark.parametrize(
        ("option", "value", "said"),
        [
            ("batch_size", 0, "between 1 and 100,000"),
            ("batch_size", "many", "not a whole number"),
            ("batch_size", True, "not a whole number"),
            ("batch_window", "soon", "write 500ms"),
            ("batch_bytes", "6 parsecs", "write 64KiB"),
            ("max_retries", -2, "-1 is for ever"),
            ("max_retries", 1.5, "not a whole number"),
            ("backoff", 5, "not a `streamfn.Backoff` and has no method `draw`"),
            ("max_record_age", 0, "above zero"),
            ("max_record_age", -2, "write 500ms"),
            ("max_record_age", "-1m", "write 500ms"),
            ("bisect", "no", "not True or False"),
            ("report_failures", 1, "not True or False"),
            ("concurrent", 1, "not True or False"),
            ("concurrent", True, 'calls with `input="batch"` always run concurrently'),
            ("on_exhausted", "all", "`record` or `batch`"),
            ("parallelization_factor", 0, "between 1 and 256"),
            ("max_concurrency", 0, "between 1 and 1,000,000"),
            ("memory", "15MiB", "15 MiB is too little for a process, use at least 16 MiB"),
            ("memory", "much", "write 64KiB"),
            ("memory", 2**70, "write 64KiB"),
            ("timeout", 0, "above zero"),
            ("timeout", None, "write 500ms"),
            ("on_failure", "a b", "letters, digits"),
            ("on_failure", 7, "letters, digits"),
            ("name", "a.b", "letters, digits"),
            ("start", datetime(2026, 1, 1), "no time zone"),  # noqa: DTZ001
            ("source", "", "letters, digits"),
            ("source", "a/b", "letters, digits"),
        ],
    )
    def test_a_value_that_cannot_be_used(self, option, value, said):
        assert said in refused(option, **{option: value})

    def test_a_name_that_is_taken(self):
        app = App("shop")
        app.stream("orders", name="f")(lambda batch: None)

        with pytest.raises(ConfigError, match="registered already, give this one `name=`"):
            app.stream("refunds", name="f")(lambda batch: None)

    def test_a_lambda_without_a_name(self):
        with pytest.raises(ConfigError, match="has no name of its own"):
            App("shop").stream("orders")(lambda batch: None)

    def test_an_app_without_a_usable_name(self):
        with pytest.raises(ConfigError, match="cannot be a name"):
            App("my shop")

    def test_names_that_are_too_long_together(self):
        """The longest internal stream must fit a file name."""
        app = App("a" * 128)
        app.stream("orders", name="f" * 118)(lambda batch: None)

        with pytest.raises(ConfigError, match="too long together, at most 247"):
            app.stream("orders", name="f" * 119)(lambda batch: None)


def test_a_decorator_without_its_stream_says_how_it_is_written():
    with pytest.raises(ConfigError, match=r'source.*write `@app.stream\("orders"\)`'):
        App("shop").stream(lambda batch: None)


class TestSignatures:
    """Tests for functions that contradict their decorator."""

    def test_a_record_needs_input_record(self):
        def notify(record: Record): ...

        with pytest.raises(ConfigError, match='say `input="record"`'):
            App("shop").stream("orders")(notify)
        App("shop").stream("orders", input="record")(notify)

    def test_a_generator_is_refused_because_its_body_would_not_run(self):
        def total(batch):
            yield len(batch)

        async def later(batch):
            yield len(batch)

        for function in (total, later):
            with pytest.raises(ConfigError, match="without `yield`"):
                App("shop").stream("orders")(function)

    def test_a_decorator_does_not_hide_a_generator(self):
        class Total:
            def __call__(self, batch):
                yield len(batch)

        def total(batch):
            yield len(batch)

        @functools.wraps(total)
        def logged(*arguments):
            return total(*arguments)

        for function in (logged, functools.partial(total), Total()):
            with pytest.raises(ConfigError, match="without `yield`"):
                App("shop").stream("orders", name="total")(function)
            App("shop").stream("orders", name="total", to="lines")(function)

    def test_a_batch_needs_input_batch(self):
        def total(batch: Batch): ...

        with pytest.raises(ConfigError, match='say `input="batch"`'):
            App("shop").stream("orders", input="record")(total)
        App("shop").stream("orders")(total)

    def test_annotations_may_be_text(self):
        def total(batch: "Batch", context: "Context"): ...
        def other(batch: "streamfn.Record", context: "Unknown"): ...  # noqa: F821

        App("shop").stream("orders")(total)
        with pytest.raises(ConfigError, match='say `input="record"`'):
            App("shop").stream("orders")(other)

    def test_a_function_takes_one_or_two_positional_parameters(self):
        with pytest.raises(ConfigError, match="takes no positional parameter"):
            App("shop").stream("orders", name="f")(lambda: None)
        with pytest.raises(ConfigError, match="requires `third`"):
            App("shop").stream("orders", name="f")(lambda first, second, third: None)
        with pytest.raises(ConfigError, match="requires `word`"):
            App("shop").stream("orders", name="f")(lambda first, *, word: None)

        app = App("shop")
        app.stream("orders", name="any")(lambda *arguments: None)
        app.stream("orders", name="more")(lambda batch, context, extra=1, *, word=2: None)
        app.stream("orders", name="builtin")(print)
        assert len(app.mappings) == 3

    def test_what_cannot_be_called_is_refused(self):
        with pytest.raises(ConfigError, match="cannot be called"):
            App("shop").stream("orders", name="f")(7)
