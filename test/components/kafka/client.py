"""A client of Kafka that knows nothing of Outrider: kafka-python.

  client.py PORT read TOPIC COUNT [GROUP]   writes a JSON line for each record
  client.py PORT write TOPIC                reads such lines, and writes records of them
"""

import base64
import json
import sys

from kafka import KafkaConsumer, KafkaProducer


def read(port, topic, count, group=None):
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=f"127.0.0.1:{port}",
        group_id=group,
        auto_offset_reset="earliest",
        consumer_timeout_ms=30_000,
    )
    left = int(count)
    for record in consumer:
        print(json.dumps({
            "key": None if record.key is None else record.key.decode(),
            "value": base64.b64encode(record.value or b"").decode(),
            "headers": [[name, value.decode()] for name, value in record.headers],
            "partition": record.partition,
        }), flush=True)
        left -= 1
        if left == 0:
            break
    consumer.close()


def write(port, topic):
    producer = KafkaProducer(bootstrap_servers=f"127.0.0.1:{port}", acks="all")
    for line in sys.stdin:
        record = json.loads(line)
        sent = producer.send(
            topic,
            value=base64.b64decode(record["value"]),
            key=None if record["key"] is None else record["key"].encode(),
            headers=[(name, value.encode()) for name, value in record["headers"]],
        )
        sent.get(timeout=30)
    producer.close()


_, port, what, *words = sys.argv
{"read": read, "write": write}[what](port, *words)
