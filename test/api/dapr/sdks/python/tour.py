"""What an application on Dapr's SDK for Python does in its life. Says what came of each step: see ../tour.ts.

An application that listens over HTTP uses dapr.ext.fastapi, one that listens for gRPC dapr.ext.grpc.
"""

import asyncio
import base64
import json
import os
import sys
import threading
import time

from dapr.aio.clients import DaprClient as AsyncDaprClient
from dapr.clients import DaprClient
from dapr.clients.exceptions import DaprGrpcError
from dapr.clients.grpc._request import TransactionalStateOperation, TransactionOperationType
from dapr.clients.grpc._response import TopicEventResponse
from dapr.clients.grpc._state import Concurrency, StateItem, StateOptions
from dapr.clients.health import DaprHealth

PORT = int(os.environ['APP_PORT'])
STALE = '99'
FIRST_WRITE = StateOptions(concurrency=Concurrency.first_write)

received: dict[str, list] = {}
changed = threading.Condition()


def say(step, **outcome):
    print('[tour] ' + json.dumps({'step': step, **outcome}), flush=True)


def step(name, work):
    try:
        say(name, value=work())
    except Exception as error:
        say(name, error=describe(error))


def describe(error):
    if isinstance(error, DaprGrpcError):
        return f'{type(error).__name__} {error.code().name}: {error.details()}'
    return f'{type(error).__name__}: {error}'


def failure_of(work):
    try:
        work()
    except Exception as error:
        return describe(error)
    return 'it did not fail'


def record(topic, data, content_type):
    """Returns how often this topic has been heard."""
    with changed:
        heard = received.setdefault(topic, [])
        heard.append({'data': data, 'type': content_type})
        changed.notify_all()
        return len(heard)


def hear(topic, count=1):
    with changed:
        changed.wait_for(lambda: len(received.get(topic, [])) >= count, timeout=30)
        return list(received.get(topic, []))


# Applications that listen.


def status_of(topic, times):
    """Of `retried` the first is to come again; what comes to `dropped` is not wanted."""
    if topic == 'retried' and times == 1:
        return 'retry'
    return 'drop' if topic == 'dropped' else 'success'


TOPICS = ('orders', 'notes', 'many', 'retried', 'dead')


def listen_over_http():
    import uvicorn
    from dapr.ext.fastapi import DaprApp
    from fastapi import Body, FastAPI

    app = FastAPI()
    dapr_app = DaprApp(app)

    def handler(topic):
        def handle(event=Body()):
            data = event.get('data')
            if 'data_base64' in event:
                data = base64.b64decode(event['data_base64']).decode()
            times = record(topic, data, event.get('datacontenttype'))
            return {'status': status_of(topic, times).upper()}

        return handle

    for topic in TOPICS:
        dapr_app.subscribe(pubsub='pubsub', topic=topic)(handler(topic))
    dapr_app.subscribe(pubsub='pubsub', topic='raw', metadata={'rawPayload': 'true'})(handler('raw'))
    dapr_app.subscribe(pubsub='pubsub', topic='dropped', dead_letter_topic='dead')(handler('dropped'))
    # This one is in a file of the sidecar's resources.
    app.post('/declared')(handler('declared'))
    config = uvicorn.Config(app, host='127.0.0.1', port=PORT, log_level='warning')
    threading.Thread(target=uvicorn.Server(config).run, daemon=True).start()


def listen_over_grpc():
    from dapr.ext.grpc import App, Rule

    app = App()

    def handler(topic):
        def handle(event):
            data, content_type = event.Data(), event.ContentType()
            data = json.loads(data) if content_type == 'application/json' else data.decode()
            return TopicEventResponse(status_of(topic, record(topic, data, content_type)))

        return handle

    for topic in TOPICS:
        app.subscribe('pubsub', topic)(handler(topic))
    app.subscribe('pubsub', 'raw', metadata={'rawPayload': 'true'})(handler('raw'))
    app.subscribe('pubsub', 'dropped', dead_letter_topic='dead')(handler('dropped'))
    app.subscribe('pubsub', 'kinds')(handler('plain'))
    special = handler('special')
    special.__name__ = 'special'
    app.subscribe('pubsub', 'kinds', rule=Rule('event.type == "special"', 1))(special)
    threading.Thread(target=app.run, args=(PORT, '127.0.0.1'), daemon=True).start()


# The steps.


def state(dapr):
    def read(key):
        return dapr.get_state('store', key).text()

    def save_and_read():
        dapr.save_state('store', 'drink', 'tea')
        item = dapr.get_state('store', 'drink')
        return {'value': item.text(), 'etag': item.etag != ''}

    def read_several():
        items = [StateItem(key='one', value='uno'), StateItem(key='two', value='due')]
        dapr.save_bulk_state('store', items)
        return {item.key: item.text() for item in dapr.get_bulk_state('store', ['one', 'two', 'none']).items}

    def save_stale():
        error = failure_of(
            lambda: dapr.save_state('store', 'drink', 'milk', etag=STALE, options=FIRST_WRITE)
        )
        return {'error': error, 'value': read('drink')}

    def save_current():
        etag = dapr.get_state('store', 'drink').etag
        dapr.save_state('store', 'drink', 'coffee', etag=etag, options=FIRST_WRITE)
        return read('drink')

    def delete_stale():
        error = failure_of(lambda: dapr.delete_state('store', 'drink', etag=STALE, options=FIRST_WRITE))
        return {'error': error, 'value': read('drink')}

    def delete():
        dapr.delete_state('store', 'drink')
        return read('drink')

    def transact():
        upsert = TransactionalStateOperation(key='one', data='eins')
        delete = TransactionalStateOperation(key='two', operation_type=TransactionOperationType.delete)
        dapr.execute_state_transaction('store', [upsert, delete])
        return {'one': read('one'), 'two': read('two')}

    def transact_stale():
        stale = TransactionalStateOperation(key='one', data='wrong', etag=STALE)
        operations = [TransactionalStateOperation(key='three', data='tre'), stale]
        error = failure_of(lambda: dapr.execute_state_transaction('store', operations))
        return {'error': error, 'one': read('one'), 'three': read('three')}

    def expire():
        dapr.save_state('store', 'brief', 'soon gone', state_metadata={'ttlInSeconds': '1'})
        before = read('brief')
        deadline = time.monotonic() + 20
        while read('brief') and time.monotonic() < deadline:
            time.sleep(0.05)
        return {'before': before, 'after': read('brief')}

    step('state.get', save_and_read)
    step('state.missing', lambda: read('nothing'))
    step('state.bulk-get', read_several)
    step('state.stale-etag', save_stale)
    step('state.etag', save_current)
    step('state.stale-delete', delete_stale)
    step('state.delete', delete)
    step('state.transaction', transact)
    step('state.stale-transaction', transact_stale)
    step('state.ttl', expire)


def around(dapr):
    def metadata():
        answer = dapr.get_metadata()
        names = sorted(component.name for component in answer.registered_components)
        return {'id': answer.application_id, 'components': names}

    def set_metadata():
        dapr.set_metadata('colour', 'green')
        return dapr.get_metadata().extended_metadata['colour']

    step('metadata.get', metadata)
    step('metadata.set', set_metadata)
    step('secrets.get', lambda: dict(dapr.get_secret('secrets', 'db:password').secret))
    step('secrets.bulk', lambda: {k: dict(v) for k, v in dapr.get_bulk_secret('secrets').secrets.items()})
    step('secrets.missing', lambda: failure_of(lambda: dapr.get_secret('secrets', 'nothing')))


def publish(dapr, topic, data, content_type='application/json', **metadata):
    dapr.publish_event('pubsub', topic, data, data_content_type=content_type, publish_metadata=metadata)


def listening(dapr, over_http):
    def json_event():
        publish(dapr, 'orders', json.dumps({'id': 1}))
        return hear('orders')

    def text_event():
        publish(dapr, 'notes', 'hello', 'text/plain')
        return hear('notes')

    def raw_event():
        publish(dapr, 'raw', 'as it is', 'application/octet-stream', rawPayload='true')
        return [event['data'] for event in hear('raw')]

    def many_events():
        answer = dapr.publish_events('pubsub', 'many', ['a', 'b', 'c'], data_content_type='text/plain')
        heard = hear('many', 3)
        return {'failed': len(answer.failed_entries), 'heard': sorted(event['data'] for event in heard)}

    def declared_event():
        publish(dapr, 'declared', json.dumps({'id': 2}))
        return hear('declared')

    def routed_event():
        event = {'specversion': '1.0', 'id': '4', 'source': 'me', 'type': 'special', 'data': {'id': 4}}
        event['datacontenttype'] = 'application/json'
        publish(dapr, 'kinds', json.dumps(event), 'application/cloudevents+json')
        return hear('special')

    def retried_event():
        publish(dapr, 'retried', 'again', 'text/plain')
        return len(hear('retried', 2))

    def dropped_event():
        publish(dapr, 'dropped', 'bad', 'text/plain')
        return {'dead': hear('dead')[0]['data'], 'times': len(hear('dropped'))}

    step('listen.json', json_event)
    step('listen.text', text_event)
    step('listen.raw', raw_event)
    step('listen.many', many_events)
    if over_http:
        step('listen.declared', declared_event)
    else:
        step('listen.routed', routed_event)
    step('listen.retry', retried_event)
    step('listen.drop', dropped_event)


def streaming(dapr):
    def pulled():
        with_subscription = dapr.subscribe('pubsub', 'streamed')
        publish(dapr, 'streamed', json.dumps({'id': 3}))
        message = with_subscription.next_message()
        with_subscription.respond_success(message)
        answer = [{'data': message.data(), 'type': message.data_content_type()}]
        with_subscription.close()
        return answer

    def handled(topic, data, statuses, wait):
        """`statuses` are the answers to the first, second, ... message."""

        def handle(message):
            times = record(topic, message.data(), message.data_content_type())
            return TopicEventResponse(statuses[min(times, len(statuses)) - 1])

        dead = None if topic != 'stream-dropped' else 'stream-dead'
        close = dapr.subscribe_with_handler('pubsub', topic, handle, dead_letter_topic=dead)
        try:
            publish(dapr, topic, data, 'text/plain')
            return wait()
        finally:
            close()

    def dead_letter():
        with_subscription = dapr.subscribe('pubsub', 'stream-dead')
        message = with_subscription.next_message()
        with_subscription.respond_success(message)
        with_subscription.close()
        return {'dead': message.data(), 'times': len(hear('stream-dropped'))}

    async def pulled_by_asynchronous_client():
        async with AsyncDaprClient() as client:
            subscription = await client.subscribe('pubsub', 'streamed-async')
            event = json.dumps({'id': 5})
            await client.publish_event('pubsub', 'streamed-async', event, data_content_type='application/json')
            message = await subscription.next_message()
            await subscription.respond_success(message)
            await subscription.close()
            return [{'data': message.data(), 'type': message.data_content_type()}]

    step('stream.json', pulled)
    step('stream.async', lambda: asyncio.run(pulled_by_asynchronous_client()))
    step(
        'stream.retry',
        lambda: handled('stream-retried', 'again', ['retry', 'success'], lambda: len(hear('stream-retried', 2))),
    )
    step('stream.drop', lambda: handled('stream-dropped', 'bad', ['drop'], dead_letter))


def main():
    over_http = sys.argv[1] == 'http'
    step('wait', lambda: DaprHealth.wait_for_sidecar() is None)
    listen_over_http() if over_http else listen_over_grpc()
    with DaprClient() as dapr:
        state(dapr)
        around(dapr)
        listening(dapr, over_http)
        streaming(dapr)
        step('shutdown', lambda: dapr.shutdown() is not None)


main()
