"""`streamfn metrics`: the metrics of a log, as Prometheus reads them."""

from __future__ import annotations

import sys
from typing import Any

import click

from .console import write_json
from .params import json_option, log_dir_option, open_log, output_options


@click.command("metrics")
@json_option
@log_dir_option
@output_options
def command(*, as_json: bool, log_dir: str) -> None:
    """Print the metrics of this log in Prometheus' text format.

    The numbers are of all workers together and survive the death of any process. docs/operations.md
    lists them. For the textfile collector of Prometheus' node exporter:

    \b
        streamfn metrics > /var/lib/node_exporter/streamfn.prom.new
        mv /var/lib/node_exporter/streamfn.prom.new /var/lib/node_exporter/streamfn.prom
    """  # noqa: D301 -- `\b` must be the character: click keeps the lines that follow it
    from streamfn.health.samples import log_samples
    from streamfn.telemetry.metrics import Sample, page

    with open_log(log_dir) as log:
        samples = list(log_samples(log))

    def shape(sample: Sample) -> dict[str, Any]:
        shaped: dict[str, Any] = {"name": sample.name, "labels": dict(sample.labels)}
        if isinstance(sample.value, (int, float)):
            return {**shaped, "value": sample.value}
        bounds, buckets = sample.value.bounds, sample.value.buckets
        return {**shaped, "bounds": bounds, "buckets": buckets, "sum": sample.value.sum}

    if as_json:
        write_json([shape(sample) for sample in samples])
    else:
        sys.stdout.write(page(samples))
