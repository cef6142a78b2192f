"""Functions at damaged records: one stops and says so, the other goes on; neither is silent."""

import json

from streamfn import Log

HEADER = 4096
RECORDS = 60


def damage(log_dir, batch):
    """Change a byte in the body of one batch of many."""
    [segment] = (log_dir / "streams" / "orders").rglob("*.seg")
    size = (segment.stat().st_size - HEADER) // RECORDS
    with segment.open("r+b") as file:
        file.seek(HEADER + batch * size + 200)
        file.write(b"rot")


def test_one_stops_one_passes_and_both_say_so(workers, log_dir, seen_dir):
    with Log.open(log_dir) as log:
        stream = log.create_stream("orders", compression="none")
        for number in range(RECORDS):
            stream.put(b"x" * 104, f"key-{number % 7}")
    damage(log_dir, 30)

    worker = workers.start("damaged", "--burst", "--processes", 1, SEEN=seen_dir)
    assert worker.wait(240) == 5, workers.errors_of(worker)

    seen = {path.name: sorted(map(int, path.read_text().split())) for path in seen_dir.iterdir()}
    assert seen["bold"] == [number for number in range(RECORDS) if number != 30]
    assert seen["careful"] == list(range(30))
    lines = [json.loads(line) for line in workers.errors_of(worker).splitlines()]
    stopped = [line for line in lines if line.get("event") == "lane_stopped"]
    passed = [line for line in lines if line.get("event") == "damage_passed"]
    assert {line["slot"] for line in stopped} == {0, 1}
    assert {line["slot"] for line in passed} == {0, 1}
    assert all((line["sequence"], line["last"]) == (30, 30) for line in stopped + passed)
    assert any("1 lost" in line["message"] for line in lines if line.get("event") == "totals")

    assert workers.run("damaged", "--burst", "--only", "bold", SEEN=seen_dir) == 0
