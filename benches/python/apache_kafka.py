"""Apache Kafka, through confluent-kafka: one broker in KRaft mode, a topic of one partition.

As a program it is the process at the other end of `servers.follow`:

    python apache_kafka.py ADDRESS COUNT
"""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from servers import LOOPBACK, PATIENCE, Server, free_ports, on_its_way, say_ready, say_times
from systems import BATCH_RECORDS, Durability, Touch

NAME: Final = "bench"
"""Of the topic, and of the consumer group."""
WARM_UP: Final = "warm-up"
"""A topic written before anything is measured: a new Java machine interprets what it runs."""
WARM_UP_BATCHES: Final = 200
BATCH_BYTES_MAX: Final = 2 * 2**20
"""The default of 1 MB would part a list of 1 KiB records in two requests, and two flushes."""
JVM: Final = (
    "-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent",
)  # fmt: skip
"""As Kafka's own script starts it."""
CLUSTER: Final = "c3RyZWFtZm4tYmVuY2hlcw"
"""Its identity: sixteen bytes in base64."""
JARS: Final = Path(__file__).parents[2] / "target" / "kafka"
SETTINGS: Final = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://{address},CONTROLLER://{controller}
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers={controller}
log.dirs={folder}/data
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
group.initial.rebalance.delay.ms=0
message.max.bytes={batch_bytes_max}
"""


class Kafka:
    """Acknowledged by the broker when written; `flush.messages=1` of a topic flushes before.

    With `linger.ms` a list leaves in one request as soon as `flush` is called, and in none before.
    """

    def __init__(self, folder: Path, durability: Durability) -> None:
        port, controller_port = free_ports(2)
        self.address = f"{LOOPBACK}:{port}"
        self.flush = {"process": {}, "group": {"flush.messages": "1"}}[durability]
        settings = folder / "server.properties"
        settings.write_text(SETTINGS.format(
            address=self.address, controller=f"{LOOPBACK}:{controller_port}", folder=folder,
            batch_bytes_max=BATCH_BYTES_MAX,
        ))  # fmt: skip
        _format(settings)
        self.server = Server([*_java(), "kafka.Kafka", str(settings)], folder)
        self.server.wait_for(lambda: _listens(port))
        try:
            self._connect()
        except BaseException:
            self.server.stop()
            raise

    def _connect(self) -> None:
        admin = AdminClient({"bootstrap.servers": self.address})
        topics = [NewTopic(name, 1, 1, config=self.flush) for name in (NAME, WARM_UP)]
        for created in admin.create_topics(topics, operation_timeout=PATIENCE).values():
            created.result(PATIENCE)
        self.producer = Producer({
            "bootstrap.servers": self.address, "acks": "all", "linger.ms": 100,
            "batch.size": BATCH_BYTES_MAX, "message.max.bytes": BATCH_BYTES_MAX,
        })  # fmt: skip
        self.consumer = _consumer(self.address, {"enable.auto.commit": False})
        for _ in range(WARM_UP_BATCHES):
            self._append(WARM_UP, [bytes(100)] * BATCH_RECORDS)
        self._consume(WARM_UP, lambda _: None)

    def append(self, batches: Sequence[list[bytes]]) -> None:
        """Produce each list, and wait until all of it is acknowledged."""
        for batch in batches:
            self._append(NAME, batch)

    def _append(self, topic: str, batch: list[bytes]) -> None:
        self.producer.produce_batch(topic, [{"value": data} for data in batch], partition=0)
        self._flush()

    def put_each(self, records: Iterable[bytes]) -> None:
        """Produce and wait for the acknowledgement, one by one."""
        for data in records:
            self.producer.produce(NAME, data, partition=0)
            self._flush()

    def _flush(self) -> None:
        if waiting := self.producer.flush(PATIENCE):
            raise RuntimeError(f"{waiting} records were not acknowledged")

    def rewind(self) -> None:
        """Commit the first offset."""
        self.consumer.commit(offsets=[TopicPartition(NAME, 0, 0)], asynchronous=False)

    def consume(self, touch: Touch, *, per_record: bool) -> None:
        """Read from the committed offset; commit, and wait for it, after each batch."""

        def touch_all(messages: list[Message]) -> None:
            if per_record:
                for message in messages:
                    touch.value(message.value())
            else:
                touch.values([message.value() for message in messages])

        self._consume(NAME, touch_all)

    def _consume(self, topic: str, function: Callable[[list[Message]], None]) -> None:
        _, end = self.consumer.get_watermark_offsets(TopicPartition(topic, 0), PATIENCE)
        self.consumer.assign([TopicPartition(topic, 0)])
        seen = 0
        while seen < end:
            messages = self.consumer.consume(min(BATCH_RECORDS, end - seen), PATIENCE)
            if not messages:
                raise RuntimeError(f"only {seen} of {end} records came")
            function(messages)
            seen += len(messages)
            self.consumer.commit(asynchronous=False)
        self.consumer.unassign()

    def follower(self, count: int) -> list[str]:
        """Return the command of a process that polls as a member of a consumer group."""
        return [sys.executable, __file__, self.address, str(count)]

    def close(self) -> None:
        """Close the connections, end the broker."""
        self.consumer.close()
        del self.producer  # which closes it, in versions without a `close` too
        self.server.stop()


def missing() -> str:
    """Return what a broker lacks on this machine; empty if nothing."""
    if shutil.which("java") is None:
        return "there is no java on the PATH"
    # The make target writes it last, when the jars have run.
    return "" if (JARS / ".made").exists() else "no jars of it; `make bench-full` tries to get them"


def version() -> str:
    """Return the version of the broker that is there."""
    (jar,) = JARS.glob("kafka-server-[0-9]*.jar")
    return jar.stem.removeprefix("kafka-server-")


def _java() -> list[str]:
    return ["java", *JVM, "-cp", f"{JARS}/*"]


def _format(settings: Path) -> None:
    """Write the identity of a cluster into the folder of its files, as a broker wants it."""
    command = [*_java(), "kafka.tools.StorageTool", "format", "--standalone", "-t", CLUSTER,
               "-c", str(settings)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the folder could not be formatted: {done.stdout}{done.stderr}")


def _listens(port: int) -> bool | None:
    try:
        with socket.create_connection((LOOPBACK, port)):
            return True
    except ConnectionRefusedError:
        return None


def _consumer(address: str, settings: dict[str, Any]) -> Consumer:
    return Consumer(
        {"bootstrap.servers": address, "group.id": NAME, "auto.offset.reset": "earliest"} | settings
    )


def _follow(address: str, count: int) -> None:
    # Offsets are committed as they are by default: every five seconds.
    consumer = _consumer(address, {})
    consumer.subscribe([NAME], on_assign=lambda *_: say_ready())
    seen: list[float] = []
    end = time.monotonic() + PATIENCE  # for the next record: it may be slower than the rate
    while len(seen) < count and time.monotonic() < end:
        message = consumer.poll(1.0)
        if message is not None:
            seen.append(on_its_way(message.value(), time.monotonic_ns()))
            end = time.monotonic() + PATIENCE
    consumer.close()
    say_times(seen)


if __name__ == "__main__":
    _follow(sys.argv[1], int(sys.argv[2]))
