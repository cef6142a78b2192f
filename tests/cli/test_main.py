"""Tests for `streamfn.cli.main` and `streamfn.cli.exits`: how a command ends."""

import errno

import click
import pytest

from streamfn import ConfigError, Reject, __version__, errors
from streamfn.cli.exits import CommandError, Exit, exit_code, one_line
from streamfn.cli.main import COMMANDS, run


class TestRun:
    """Tests for `run`."""

    def test_help_lists_every_command_with_a_line_each(self, capsys):
        assert run(["--help"]) == 0
        listed = capsys.readouterr().out
        for command in COMMANDS:
            assert f"\n  {command} " in listed

    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_explains_itself(self, command, capsys):
        assert run([command, "--help"]) == 0
        shown = capsys.readouterr().out
        assert f"Usage: streamfn {command}" in shown
        assert "\\b" not in shown, "click's mark for lines to keep is shown"

    @pytest.mark.parametrize("command", [["tail"], ["replay"], ["stream", "trim"], ["fn", "seek"]])
    def test_every_command_that_takes_a_time_says_that_it_is_local(self, command, capsys):
        assert run([*command, "--help"]) == 0

        said = " ".join(capsys.readouterr().out.split())
        assert "local time, unless it ends in a zone such as Z or +01:00" in said

    def test_the_version(self, capsys):
        assert run(["--version"]) == 0
        assert capsys.readouterr().out == f"streamfn {__version__}\n"

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["tial"], "there is no command `tial`, did you mean `tail`?"),
            (["put"], "missing argument `STREAM`"),
            (["put", "a b"], "`a b` cannot be a name"),
            (["put", "s", "--sharts", "2"], "--sharts"),
            (["put", "s", "--shards", "0"], "0 is not in the range"),
            (["put", "s", "--durability", "none"], "`none` is not one of"),
            (["worker", "app.py", "--drain-timeout", "soon"], "`soon` is not a duration"),
            (
                ["worker", "app.py", "--processes", "0"],
                "`0` is not `auto` or a number of at least 1",
            ),
        ],
    )
    def test_wrong_usage_is_one_line_with_a_hint(self, arguments, said, capsys):
        assert run(arguments) == Exit.USAGE

        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert said in line
        assert "--help` shows the usage)" in line

    @pytest.mark.parametrize(
        ("arguments", "meant"),
        [
            (["worker", "app.py", "--burts"], "--burst"),
            (["worker", "app.py", "--process", "2"], "--processes"),
            (["worker", "app.py", "--log", "x"], "--log-dir"),
            (["put", "s", "--log_dir", "x"], "--log-dir"),
            (["put", "s", "--Shards", "2"], "--shards"),
            (["stream", "lss"], "ls"),
            (["fn", "resum", "x"], "resume"),
            (["dlq", "re-drive"], "redrive"),
            (["wroker"], "worker"),
        ],
    )
    def test_what_is_near_is_named(self, arguments, meant, capsys):
        assert run(arguments) == Exit.USAGE
        assert f", did you mean `{meant}`? (hint: " in capsys.readouterr().err

    @pytest.mark.parametrize(
        "arguments",
        [
            ["put", "s", "--port", "2"],
            ["worker", "app.py", "--port", "2"],
            ["worker", "app.py", "--port=2"],
            ["worker", "app.py", "--workers", "2"],
            ["put", "s", "-x"],
            ["tail", "s", "--follow"],
            ["stream", "list"],
            ["read"],
            ["stop"],
            ["p"],
            ["x" * 100_000],
        ],
    )
    def test_what_is_not_near_is_not_guessed_at(self, arguments, capsys):
        """`--port` is not `--burst`, although both begin with two dashes."""
        assert run(arguments) == Exit.USAGE

        said = capsys.readouterr().err
        assert said.startswith(("error: no such option `", "error: there is no command `"))
        assert "did you mean" not in said

    @pytest.mark.parametrize("group", [[], ["stream"], ["dlq"], ["fn"], ["filter"]])
    def test_a_group_without_a_command_shows_its_help_as_laid_out(self, group, capsys):
        assert run([*group, "--help"]) == 0
        expected = capsys.readouterr().out

        assert run(group) == Exit.USAGE
        assert capsys.readouterr() == ("", expected)

    @pytest.mark.parametrize(
        ("command", "is_made_by_put"),
        [(["stream", "ls"], True), (["put", "s"], False), (["fsck"], False)],
    )
    def test_what_to_do_where_there_is_no_log(self, command, is_made_by_put, tmp_path, capsys):
        """That `put` makes one is said where it does: not over a folder of something else."""
        (tmp_path / "notes.txt").touch()
        hint = "(hint: choose another with --log-dir or STREAMFN_LOG_DIR)"

        assert run([*command, "--log-dir", str(tmp_path)]) == Exit.CONFIG
        assert hint in capsys.readouterr().err

        if is_made_by_put:
            assert run([*command, "--log-dir", str(tmp_path / "none")]) == Exit.CONFIG
            assert (
                "or STREAMFN_LOG_DIR; `streamfn put` creates a new one)" in capsys.readouterr().err
            )

    def test_an_error_of_ours_shows_its_traceback(self, capsys, monkeypatch):
        """A bug must be reportable; a mistake of the user must be readable."""
        monkeypatch.setattr("streamfn.cli.stream.open_log", lambda _: 1 / 0)

        assert run(["stream", "ls"]) == Exit.FAILED
        said = capsys.readouterr().err
        assert "Traceback" in said
        assert said.splitlines()[-1] == "error: ZeroDivisionError: division by zero"

    def test_control_c_ends_with_its_own_code(self, capsys, monkeypatch):
        def interrupted(_):
            raise KeyboardInterrupt

        monkeypatch.setattr("streamfn.cli.stream.open_log", interrupted)

        assert run(["stream", "ls"]) == Exit.INTERRUPTED


class TestExitCodes:
    """Tests for `exit_code`."""

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (errors.StreamNotFound("s"), 1),
            (errors.RecordTooLarge(2, 1, "record bytes", 0), 1),
            (Reject("no"), 1),
            (errors.StoragePoisoned("/log", errno.EIO), 1),
            (click.UsageError("no"), 2),
            (click.BadParameter("no"), 2),
            (ConfigError("APP", "does not import"), 2),
            (errors.Corruption("/log/s.seg", 0, 0, 0, "damaged"), 5),
            (errors.LogFull("/log"), 75),
            (errors.LockTimeout("/log/lock", "somebody"), 75),
            (OSError(errno.ENOSPC, "No space left on device", "out.zst"), 75),
            (ConfigError("log_dir", "is not a log"), 78),
            (errors.UnsupportedFormat("/log/FORMAT", "2", "1"), 78),
            (KeyboardInterrupt(), 130),
            (click.Abort(), 130),
            (OSError(errno.EACCES, "Permission denied", "out.zst"), 1),
            (CommandError("no", code=Exit.CONFIG), 78),
            (RuntimeError("a bug"), 1),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_each_error_has_the_code_of_the_conventions(self, error, code):
        assert exit_code(error) == code

    def test_an_error_is_one_line_with_its_hint(self):
        error = errors.LogFull("/log\n/x")

        assert one_line(error) == (
            "error: no space left on the disk for /log /x"
            " (hint: free some space and try again; nothing acknowledged was lost)"
        )
