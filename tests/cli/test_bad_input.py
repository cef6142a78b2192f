"""Bad input: one line that names the cause and the fix, and the exit code of the conventions."""

import pytest
from decoder import crc32c


@pytest.fixture
def refused(run_streamfn):
    """Runs a command that fails; returns its exit code and the one line it says."""

    def refused(*args, **kwargs):
        ended = run_streamfn(*args, **kwargs)
        errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, ended.stderr
        assert ended.stderr.splitlines()[-1] == errors[0]
        assert ended.stdout == ""
        return ended.returncode, errors[0]

    return refused


@pytest.mark.parametrize("command", [["tail"], ["stream", "info"]])
def test_a_stream_with_another_name(command, refused, run_streamfn):
    run_streamfn("put", "clicks", input="1\n")

    said = "error: there is no stream `click` (hint: did you mean `clicks`?)"
    assert refused(*command, "click") == (1, said)


@pytest.mark.parametrize("command", [["tail", "none", "-e"], ["stream", "info", "none"]])
def test_a_stream_that_does_not_exist(command, refused, run_streamfn):
    run_streamfn("put", "clicks", input="1\n")

    code, said = refused(*command)
    assert code == 1
    assert "there is no stream `none`" in said
    assert "`streamfn stream add none` creates it" in said


@pytest.mark.parametrize(
    "command",
    [
        ["tail", "s", "-e"],
        ["stream", "ls"],
        ["stream", "info", "s"],
        ["fn", "ls"],
        ["dlq", "ls", "f"],
    ],
)
def test_a_log_directory_that_is_not_there(command, refused):
    code, said = refused(*command, "--log-dir", "nowhere")

    assert code == 78
    assert "nowhere does not exist (hint: choose another with --log-dir" in said


@pytest.mark.parametrize("command", [["put", "s"], ["stream", "add", "s"], ["tail", "s", "-e"]])
def test_a_log_directory_that_is_something_else(command, refused, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()

    code, said = refused(*command, "--log-dir", "photos", input="1\n")
    assert code == 78
    assert "photos is not a log directory: it has `cat.jpg`" in said
    assert "--log-dir" in said


def test_a_log_directory_that_is_a_file(refused, tmp_path):
    (tmp_path / "file").write_text("")

    code, said = refused("put", "s", "--log-dir", "file", input="1\n")
    assert code == 78
    assert "file" in said


def test_a_log_directory_without_permission(refused, tmp_path):
    (tmp_path / "proc").symlink_to("/proc/1/map_files")

    code, _ = refused("put", "s", "--log-dir", "proc", input="1\n")
    assert code in {1, 78}


def test_a_record_over_the_limit(refused, run_streamfn):
    big = '"' + "x" * (10 * 2**20) + '"\n'

    ended = run_streamfn("put", "s", input="1\n" + big + "3\n")
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert "error: line 2 of standard input is too large: 10,485,762 record bytes" in last
    assert "hint: split it" in last
    assert run_streamfn("tail", "s", "-e").stdout == "1\n"


def test_a_line_that_is_not_json(run_streamfn):
    ended = run_streamfn("put", "s", input='{"n":1}\n{"n":2}\n{"n":\n{"n":4}\n')

    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("error: line 3 of standard input is not JSON (")
    assert "(hint: correct it, or use --format lines or csv; go on there with --from-line 3" in last
    assert run_streamfn("tail", "s", "-e").stdout == '{"n":1}\n{"n":2}\n'


def test_a_log_of_a_newer_version(refused, run_streamfn, tmp_path):
    run_streamfn("put", "s", input="1\n")
    file = tmp_path / ".streamfn" / "FORMAT"
    content = bytearray(file.read_bytes())
    content[8] = 2  # the major version stands behind the magic
    content[60:] = crc32c(bytes(content[:60])).to_bytes(4, "little")
    file.write_bytes(content)

    code, said = refused("tail", "s", "-e")
    assert code == 78
    assert "FORMAT" in said
    assert file.read_bytes() == content


def test_a_segment_with_a_feature_of_a_newer_version(refused, run_streamfn, tmp_path):
    run_streamfn("put", "s", input="1\n")
    (segment,) = (tmp_path / ".streamfn" / "streams" / "s").rglob("*.seg")
    content = bytearray(segment.read_bytes())
    content[12] = 4  # a feature that a reader has to know
    content[4092:4096] = crc32c(bytes(content[:4092])).to_bytes(4, "little")
    segment.write_bytes(content)

    code, said = refused("tail", "s", "-e")
    assert code == 78
    assert "a segment with features 0x4" in said
    assert segment.read_bytes() == content


def test_a_duration_that_no_clock_waits_for(refused):
    code, said = refused("worker", "app.py", "--drain-timeout", "3651d")

    assert code == 2
    assert "`3651d` is longer than 3650 d 00 h" in said
