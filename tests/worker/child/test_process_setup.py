"""Tests for `worker.child.process_setup`: what a child process does first."""

import pytest

from streamfn.worker.child.process_setup import raise_oom_score


class TestRaiseOomScore:
    """Tests for `raise_oom_score`."""

    @pytest.mark.parametrize(
        ("before", "after"), [("0", 500), ("-1000", -500), ("500", 1000), ("501", 1000)]
    )
    def test_it_adds_to_the_score_up_to_what_the_kernel_takes(self, tmp_path, before, after):
        path = tmp_path / "oom_score_adj"
        path.write_text(f"{before}\n")
        raise_oom_score(path)

        assert int(path.read_text()) == after

    def test_a_system_without_that_file_is_none_the_worse(self, tmp_path):
        raise_oom_score(tmp_path / "none")
