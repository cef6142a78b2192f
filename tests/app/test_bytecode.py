"""Cached bytecode that could be taken for that of newer source."""

import os
import py_compile
from pathlib import Path

import pytest

from streamfn.app.bytecode import remove_doubtful_bytecode


class TestRemoveDoubtfulBytecode:
    """Tests for `remove_doubtful_bytecode`."""

    @pytest.mark.parametrize(
        ("source_time", "is_kept"), [(99.9, True), (100.0, False), (101, False)]
    )
    def test_it_is_kept_if_the_source_is_older_by_a_second(self, tmp_path, source_time, is_kept):
        source = tmp_path / "shop.py"
        source.write_text("VERSION = 1")
        cached = Path(py_compile.compile(str(source)))
        os.utime(source, (source_time, source_time))
        os.utime(cached, (100.5, 100.5))

        remove_doubtful_bytecode([str(source), str(tmp_path / "missing.py")])

        assert cached.exists() == is_kept
