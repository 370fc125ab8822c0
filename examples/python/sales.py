"""Publishes orders, gets them on a stream that it opens itself, and counts what was sold.

No port is opened here and no broker's client is used: what stands behind the sidecar is a line of YAML.
"""

import json
import os
import queue

import grpc

from outrider.pubsub.v1 import pubsub_pb2 as pubsub
from outrider.pubsub.v1.pubsub_pb2_grpc import PubSubServiceStub
from outrider.state.v1 import state_pb2 as state
from outrider.state.v1.state_pb2_grpc import StateServiceStub

TOPIC = "python.orders"
ORDERS = [{"item": "tea", "quantity": 2}, {"item": "tea", "quantity": 0}, {"item": "tea", "quantity": 3}]


def publish(events: PubSubServiceStub, order: dict) -> str:
    """Returns the id of the event. It is on disk then."""
    event = pubsub.Event(
        type="order.placed", data_content_type="application/json", data=json.dumps(order).encode()
    )
    request = pubsub.PublishRequest(topic=TOPIC, outgoing=pubsub.Outgoing(event=event, key=order["item"]))
    return events.Publish(request).published.id


def receive(events: PubSubServiceStub, store: StateServiceStub, waiting: set[str]) -> None:
    """Handles events until all that are waited for have been settled."""
    requests: queue.SimpleQueue = queue.SimpleQueue()
    # One by one, in the order of their publishes, and never more than eight at a time.
    opening = pubsub.Open(subscription=1, topic=TOPIC, ordered=True, max_in_flight=8)
    requests.put(pubsub.SubscribeRequest(open=opening))
    for message in events.Subscribe(iter(requests.get, None)):
        if message.HasField("closed"):
            if message.closed.code:
                raise RuntimeError(message.closed.message)
            return
        for delivery in message.deliver.deliveries:
            settle = pubsub.Settle(deliveries=[pubsub.DeliveryRange(first=delivery.id)])
            try:
                total = count(store, delivery.event)
                settle.outcome = pubsub.OUTCOME_ACK
                print(f"{delivery.event.data.decode()}: {total} sold", flush=True)
            except ValueError as error:
                # It would fail each time. What fails only now would be OUTCOME_RETRY.
                settle.outcome, settle.reason = pubsub.OUTCOME_REJECT, str(error)
                print(f"{delivery.event.data.decode()}: {error}", flush=True)
            requests.put(pubsub.SubscribeRequest(settle=settle))
            if delivery.event.id in waiting:
                waiting.remove(delivery.event.id)
                if not waiting:
                    # Nothing new comes then, and Closed when all is settled.
                    requests.put(pubsub.SubscribeRequest(close=pubsub.Close(subscription=1)))


def count(store: StateServiceStub, event: pubsub.Event) -> int:
    """Adds an order to what was sold of its item: once, however often it comes. Returns the sum."""
    order = json.loads(event.data)
    if order["quantity"] < 1:
        raise ValueError("nothing was ordered")
    key, mark = f"sold/{order['item']}", f"counted/{event.id}"
    while True:
        sold, counted = (result.item for result in store.BatchGet(state.BatchGetRequest(keys=[key, mark])).results)
        if counted.etag:
            return int(sold.value)
        total = int(sold.value or 0) + order["quantity"]
        # Both or none, and only if nobody has written since we read.
        unchanged = state.Precondition(etag=sold.etag) if sold.etag else state.Precondition(absent=True)
        writes = [
            state.SetRequest(key=key, value=str(total).encode(), precondition=unchanged),
            state.SetRequest(key=mark, precondition=state.Precondition(absent=True)),
        ]
        try:
            store.Transact(state.TransactRequest(writes=[state.TransactWrite(set=write) for write in writes]))
            return total
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.ABORTED:
                raise


def main() -> None:
    endpoint = os.environ.get("OUTRIDER_GRPC_ENDPOINT", "127.0.0.1:50001")
    with grpc.insecure_channel(endpoint) as channel:
        events, store = PubSubServiceStub(channel), StateServiceStub(channel)
        waiting = {publish(events, order) for order in ORDERS}
        print(f"{len(waiting)} orders published", flush=True)
        receive(events, store, waiting)
        print("all settled", flush=True)


if __name__ == "__main__":
    main()
