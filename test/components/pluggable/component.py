"""A pluggable component as its author would write it: a state store and a broker on SQLite, in Python.

component.py SOCKET DATABASE MODULES: serves until it is killed. What is answered survives that. MODULES is the folder
of what grpcio-tools made of proto/. Metadata of the YAML that has a meaning here: `consumerID`, the group; `features`,
what to declare instead of everything; `initError`, why Init fails; `hang`, the name of a method that never answers.
"""

import os
import sqlite3
import sys
import threading
import time
import uuid
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone

socket_path, database_path, modules = sys.argv[1:4]
sys.path.insert(0, modules)

import grpc  # noqa: E402
from dapr.proto.components.v1 import common_pb2 as common  # noqa: E402
from dapr.proto.components.v1 import pubsub_pb2, pubsub_pb2_grpc, state_pb2, state_pb2_grpc  # noqa: E402
from google.protobuf import any_pb2  # noqa: E402
from google.rpc import error_details_pb2, status_pb2  # noqa: E402
import reflection_pb2  # noqa: E402
import reflection_pb2_grpc  # noqa: E402

database = sqlite3.connect(database_path, check_same_thread=False, isolation_level=None)
database.execute("PRAGMA journal_mode=WAL")
database.execute("PRAGMA synchronous=OFF")  # A process that is killed loses nothing by it.
database.execute(
    "CREATE TABLE IF NOT EXISTS items (key TEXT PRIMARY KEY, value BLOB, etag TEXT, type TEXT, expires REAL)"
)
database.execute(
    "CREATE TABLE IF NOT EXISTS messages (seq INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT, message BLOB)"
)
database.execute("CREATE TABLE IF NOT EXISTS handled (grp TEXT, seq INTEGER, PRIMARY KEY (grp, seq)) WITHOUT ROWID")
lock = threading.RLock()

FIRST_WRITE = state_pb2.StateOptions.CONCURRENCY_FIRST_WRITE
properties = defaultdict(dict)  # By service and component: one process serves several of each.


def instance(context):
    return dict(context.invocation_metadata()).get("x-component-instance", "")


def initialize(kind, context, metadata):
    properties[kind, instance(context)] = dict(metadata.properties)
    if "initError" in metadata.properties:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, metadata.properties["initError"])


def features(kind, context, own):
    declared = properties[kind, instance(context)].get("features")
    return common.FeaturesResponse(features=own if declared is None else filter(None, declared.split(",")))


def maybe_hang(kind, context, method):
    if properties[kind, instance(context)].get("hang") == method:
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait()


class EtagError(Exception):
    pass


def refuse(context, why):
    detail = any_pb2.Any()
    violation = error_details_pb2.BadRequest.FieldViolation(field="etag", description=why)
    detail.Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    status = status_pb2.Status(code=grpc.StatusCode.FAILED_PRECONDITION.value[0], message=why, details=[detail])
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, why)


def find(key):
    row = database.execute("SELECT value, etag, type, expires FROM items WHERE key = ?", (key,)).fetchone()
    return None if row is None or (row[3] is not None and row[3] <= time.time()) else row


def check(request):
    item = find(request.key)
    if request.HasField("etag"):
        if item is None or item[1] != request.etag.value:
            raise EtagError("another etag")
    elif request.options.concurrency == FIRST_WRITE and item is not None:
        raise EtagError("the item exists already")


def put(request):
    check(request)
    seconds = int(request.metadata.get("ttlInSeconds", "0"))
    row = (
        request.key,
        request.value,
        uuid.uuid4().hex,
        request.content_type,
        time.time() + seconds if seconds > 0 else None,
    )
    database.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?, ?)", row)


def remove(request):
    check(request)
    database.execute("DELETE FROM items WHERE key = ?", (request.key,))


def all_or_none(context, work):
    with lock:
        database.execute("BEGIN")
        try:
            work()
            database.execute("COMMIT")
            return
        except EtagError as error:
            database.execute("ROLLBACK")
            why = str(error)
    refuse(context, why)


def answer(item):
    """The fields that Get and BulkGet have alike."""
    if item is None:
        return {}
    value, etag, content_type, expires = item
    metadata = {}
    if expires is not None:
        metadata["ttlExpireTime"] = datetime.fromtimestamp(expires, timezone.utc).isoformat().replace("+00:00", "Z")
    return dict(data=value, etag=state_pb2.Etag(value=etag), content_type=content_type, metadata=metadata)


class State(
    state_pb2_grpc.StateStoreServicer,
    state_pb2_grpc.TransactionalStateStoreServicer,
):
    def Init(self, request, context):
        initialize("state", context, request.metadata)
        return state_pb2.InitResponse()

    def Features(self, request, context):
        return features("state", context, ["ETAG", "TRANSACTIONAL", "TTL"])

    def Ping(self, request, context):
        return common.PingResponse()

    def Get(self, request, context):
        maybe_hang("state", context, "Get")
        with lock:
            return state_pb2.GetResponse(**answer(find(request.key)))

    def Set(self, request, context):
        all_or_none(context, lambda: put(request))
        return state_pb2.SetResponse()

    def Delete(self, request, context):
        all_or_none(context, lambda: remove(request))
        return state_pb2.DeleteResponse()

    def BulkGet(self, request, context):
        with lock:
            items = [state_pb2.BulkStateItem(key=each.key, **answer(find(each.key))) for each in request.items]
        return state_pb2.BulkGetResponse(items=items)

    def BulkSet(self, request, context):
        all_or_none(context, lambda: [put(each) for each in request.items])
        return state_pb2.BulkSetResponse()

    def BulkDelete(self, request, context):
        all_or_none(context, lambda: [remove(each) for each in request.items])
        return state_pb2.BulkDeleteResponse()

    def Transact(self, request, context):
        def work():
            for operation in request.operations:
                if operation.HasField("set"):
                    put(operation.set)
                else:
                    remove(operation.delete)

        all_or_none(context, work)
        return state_pb2.TransactionalStateResponse()


class Queue:
    """What a group has still to handle of a topic. Members take from its beginning."""

    def __init__(self, group, topic):
        self.changed = threading.Condition(lock)
        rows = database.execute(
            "SELECT seq, message FROM messages WHERE topic = ? AND seq NOT IN (SELECT seq FROM handled WHERE grp = ?)"
            " ORDER BY seq",
            (topic, group),
        )
        self.waiting = [tuple(row) for row in rows]

    def give_back(self, messages):
        with lock:
            self.waiting = sorted([*messages, *self.waiting])
            self.changed.notify_all()


queues = {}  # By group and topic.


class Broker(pubsub_pb2_grpc.PubSubServicer):
    def Init(self, request, context):
        initialize("pubsub", context, request.metadata)
        return pubsub_pb2.PubSubInitResponse()

    def Features(self, request, context):
        return features("pubsub", context, [])

    def Ping(self, request, context):
        return common.PingResponse()

    def Publish(self, request, context):
        maybe_hang("pubsub", context, "Publish")
        self.append(request.topic, [(request.data, request.metadata, request.content_type)])
        return pubsub_pb2.PublishResponse()

    def BulkPublish(self, request, context):
        entries = [(each.event, each.metadata, each.content_type) for each in request.entries]
        self.append(request.topic, entries)
        return pubsub_pb2.BulkPublishResponse()

    def append(self, topic, entries):
        with lock:
            database.execute("BEGIN")
            added = []
            for data, metadata, content_type in entries:
                message = pubsub_pb2.PullMessagesResponse(
                    data=data, topic_name=topic, metadata=metadata, content_type=content_type
                ).SerializeToString()
                cursor = database.execute("INSERT INTO messages (topic, message) VALUES (?, ?)", (topic, message))
                added.append((cursor.lastrowid, message))
            database.execute("COMMIT")
            for (_, of_topic), queue in queues.items():
                if of_topic == topic:
                    queue.waiting.extend(added)
                    queue.changed.notify_all()

    def PullMessages(self, requests, context):
        topic = next(requests).topic.name
        group = properties["pubsub", instance(context)].get("consumerID", "")
        with lock:
            queue = queues.get((group, topic))
            if queue is None:
                queue = queues[group, topic] = Queue(group, topic)
        context.send_initial_metadata(())  # From now on nothing is missed.
        held = {}
        ended = threading.Event()

        def end():
            ended.set()
            with lock:
                queue.changed.notify_all()

        def settle():
            try:
                for request in requests:
                    with lock:
                        message = held.pop(request.ack_message_id, None)
                        if message is None:
                            continue
                        if request.HasField("ack_error"):
                            queue.give_back([message])
                        else:
                            database.execute("INSERT OR IGNORE INTO handled VALUES (?, ?)", (group, message[0]))
            except grpc.RpcError:
                pass
            end()

        context.add_callback(end)
        threading.Thread(target=settle, daemon=True).start()
        try:
            while not ended.is_set():
                with lock:
                    while not queue.waiting and not ended.is_set():
                        queue.changed.wait()
                    if ended.is_set():
                        return
                    seq, content = queue.waiting.pop(0)
                    message_id = uuid.uuid4().hex
                    held[message_id] = (seq, content)
                message = pubsub_pb2.PullMessagesResponse.FromString(content)
                message.id = message_id
                yield message
        finally:
            with lock:
                queue.give_back(held.values())
                held.clear()


class Reflection(reflection_pb2_grpc.ServerReflectionServicer):
    services = (
        "dapr.proto.components.v1.StateStore",
        "dapr.proto.components.v1.TransactionalStateStore",
        "dapr.proto.components.v1.PubSub",
        "grpc.reflection.v1alpha.ServerReflection",
    )

    def ServerReflectionInfo(self, requests, context):
        for _ in requests:
            found = [reflection_pb2.ServiceResponse(name=name) for name in self.services]
            yield reflection_pb2.ServerReflectionResponse(
                list_services_response=reflection_pb2.ListServiceResponse(service=found)
            )


def main():
    if os.path.exists(socket_path):
        os.unlink(socket_path)
    server = grpc.server(ThreadPoolExecutor(max_workers=200))
    state, broker = State(), Broker()
    state_pb2_grpc.add_StateStoreServicer_to_server(state, server)
    state_pb2_grpc.add_TransactionalStateStoreServicer_to_server(state, server)
    pubsub_pb2_grpc.add_PubSubServicer_to_server(broker, server)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(Reflection(), server)
    server.add_insecure_port(f"unix:{socket_path}")
    server.start()
    print("serving", flush=True)
    server.wait_for_termination()


main()
