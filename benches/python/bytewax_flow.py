"""bytewax: a dataflow over lines of a file, which it recovers from with its own recovery store."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

import bytewax.operators as op
from bytewax.connectors.files import FileSource
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main
from bytewax.testing import TestingSink
from systems import BATCH_RECORDS, Durability, Touch

EVERY_BATCH: Final = timedelta(0)
"""Length of an epoch, at whose end the position is written: it ends with the batch it is in."""


class Bytewax:
    """No store: its position is, in a SQLite file that it flushes at either durability.

    It runs in this thread, as a worker that `python -m bytewax.run` starts.
    """

    def __init__(self, folder: Path, durability: Durability) -> None:  # noqa: ARG002 -- it has one
        self.folder = folder
        self.lines = folder / "lines"
        self.passes = 0

    def append(self, batches: Sequence[list[bytes]]) -> None:
        """Write the file that it will read."""
        with self.lines.open("ab") as file:
            file.writelines(data + b"\n" for batch in batches for data in batch)

    def rewind(self) -> None:
        """Take a new recovery store, which knows no position."""
        self.passes += 1
        self.store = self.folder / f"recovery-{self.passes}"
        self.store.mkdir()
        init_db_dir(self.store, 1)

    def consume(self, touch: Touch, *, per_record: bool) -> None:
        """Run the dataflow to its end, one epoch for each batch; nothing leaves it."""

        def touch_all(lines: list[str]) -> Sequence[None]:
            touch.texts(lines)
            return ()

        flow = Dataflow("bench")
        lines = op.input("lines", flow, FileSource(self.lines, BATCH_RECORDS))
        if per_record:
            nothing = op.filter_map("call", lines, touch.text)
        else:
            nothing = op.flat_map_batch("call", lines, touch_all)
        op.output("nowhere", nothing, TestingSink([]))
        recovery = RecoveryConfig(self.store)
        cli_main(flow, epoch_interval=EVERY_BATCH, recovery_config=recovery)

    def close(self) -> None:
        """There is nothing to let go of."""
