// What an application on Dapr's SDK for Go does in its life. Says what came of each step: see ../tour.ts.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sort"
	"sync"
	"time"

	dapr "github.com/dapr/go-sdk/client"
	"github.com/dapr/go-sdk/service/common"
	grpcservice "github.com/dapr/go-sdk/service/grpc"
	httpservice "github.com/dapr/go-sdk/service/http"
)

const (
	store  = "store"
	pubsub = "pubsub"
	stale  = "99"
)

var (
	ctx        = context.Background()
	firstWrite = dapr.WithConcurrency(dapr.StateConcurrencyFirstWrite)
	heard      = struct {
		sync.Mutex
		by map[string][]event
	}{by: map[string][]event{}}
)

type event struct {
	Data any    `json:"data"`
	Type string `json:"type"`
}

type outcome map[string]any

func say(step string, what outcome) {
	what["step"] = step
	line, err := json.Marshal(what)
	if err != nil {
		panic(err)
	}
	fmt.Printf("[tour] %s\n", line)
}

func step(name string, work func() (any, error)) {
	if value, err := work(); err != nil {
		say(name, outcome{"error": err.Error()})
	} else {
		say(name, outcome{"value": value})
	}
}

func failure(err error) string {
	if err == nil {
		return "it did not fail"
	}
	return err.Error()
}

// record returns how often this topic has been heard.
func record(topic string, e *common.TopicEvent) int {
	heard.Lock()
	defer heard.Unlock()
	data := e.Data
	if bytes, ok := data.([]byte); ok {
		data = string(bytes)
	}
	heard.by[topic] = append(heard.by[topic], event{data, e.DataContentType})
	return len(heard.by[topic])
}

func hear(topic string, count int) ([]event, error) {
	for range 1500 {
		heard.Lock()
		events := append([]event{}, heard.by[topic]...)
		heard.Unlock()
		if len(events) >= count {
			return events, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil, fmt.Errorf("%s was not heard %d times", topic, count)
}

// The application that listens.

func listen(service common.Service, overHTTP bool) {
	handle := func(topic string) common.TopicEventHandler {
		return func(_ context.Context, e *common.TopicEvent) (bool, error) {
			// With gRPC the handler of orders is there for every topic that has none.
			if topic == "orders" {
				topic = e.Topic
			}
			times := record(topic, e)
			if topic == "retried" && times == 1 {
				return true, errors.New("not now")
			}
			if topic == "dropped" {
				return false, errors.New("never")
			}
			return false, nil
		}
	}
	subscribe := func(sub common.Subscription) {
		sub.PubsubName = pubsub
		if sub.Route == "" {
			sub.Route = "/" + sub.Topic
		}
		if err := service.AddTopicEventHandler(&sub, handle(sub.Route[1:])); err != nil {
			panic(err)
		}
	}
	subscribe(common.Subscription{Topic: "orders", DisableTopicValidation: !overHTTP})
	for _, topic := range []string{"notes", "many", "retried", "dead"} {
		subscribe(common.Subscription{Topic: topic})
	}
	subscribe(common.Subscription{Topic: "raw", Metadata: map[string]string{"rawPayload": "true"}})
	subscribe(common.Subscription{Topic: "dropped", DeadLetterTopic: "dead"})
	subscribe(common.Subscription{Topic: "kinds", Route: "/plain"})
	subscribe(common.Subscription{Topic: "kinds", Route: "/special", Match: `event.type == "special"`, Priority: 1})
	if overHTTP {
		// A file of the sidecar's resources names this route.
		declared := func(_ context.Context, in *common.InvocationEvent) (*common.Content, error) {
			var e common.TopicEvent
			if err := json.Unmarshal(in.Data, &e); err != nil {
				return nil, err
			}
			record("declared", &e)
			return nil, nil
		}
		if err := service.AddServiceInvocationHandler("/declared", declared); err != nil {
			panic(err)
		}
	}
	go func() {
		if err := service.Start(); err != nil {
			panic(err)
		}
	}()
}

// The steps.

func state(client dapr.Client) {
	read := func(key string) string {
		item, err := client.GetState(ctx, store, key, nil)
		if err != nil {
			return err.Error()
		}
		return string(item.Value)
	}
	save := func(key, value string) error { return client.SaveState(ctx, store, key, []byte(value), nil) }

	step("state.get", func() (any, error) {
		if err := save("drink", "tea"); err != nil {
			return nil, err
		}
		item, err := client.GetState(ctx, store, "drink", nil)
		if err != nil {
			return nil, err
		}
		return outcome{"value": string(item.Value), "etag": item.Etag != ""}, nil
	})
	step("state.missing", func() (any, error) { return read("nothing"), nil })
	step("state.bulk-get", func() (any, error) {
		one := &dapr.SetStateItem{Key: "one", Value: []byte("uno")}
		two := &dapr.SetStateItem{Key: "two", Value: []byte("due")}
		if err := client.SaveBulkState(ctx, store, one, two); err != nil {
			return nil, err
		}
		items, err := client.GetBulkState(ctx, store, []string{"one", "two", "none"}, nil, 10)
		values := outcome{}
		for _, item := range items {
			values[item.Key] = string(item.Value)
		}
		return values, err
	})
	step("state.stale-etag", func() (any, error) {
		err := client.SaveStateWithETag(ctx, store, "drink", []byte("milk"), stale, nil, firstWrite)
		return outcome{"error": failure(err), "value": read("drink")}, nil
	})
	step("state.etag", func() (any, error) {
		item, err := client.GetState(ctx, store, "drink", nil)
		if err != nil {
			return nil, err
		}
		err = client.SaveStateWithETag(ctx, store, "drink", []byte("coffee"), item.Etag, nil, firstWrite)
		return read("drink"), err
	})
	step("state.stale-delete", func() (any, error) {
		options := &dapr.StateOptions{Concurrency: dapr.StateConcurrencyFirstWrite}
		err := client.DeleteStateWithETag(ctx, store, "drink", &dapr.ETag{Value: stale}, nil, options)
		return outcome{"error": failure(err), "value": read("drink")}, nil
	})
	step("state.delete", func() (any, error) {
		err := client.DeleteState(ctx, store, "drink", nil)
		return read("drink"), err
	})
	upsert := func(key, value, etag string) *dapr.StateOperation {
		item := &dapr.SetStateItem{Key: key, Value: []byte(value)}
		if etag != "" {
			item.Etag = &dapr.ETag{Value: etag}
		}
		return &dapr.StateOperation{Type: dapr.StateOperationTypeUpsert, Item: item}
	}
	step("state.transaction", func() (any, error) {
		remove := &dapr.StateOperation{
			Type: dapr.StateOperationTypeDelete,
			Item: &dapr.SetStateItem{Key: "two"},
		}
		err := client.ExecuteStateTransaction(ctx, store, nil,
			[]*dapr.StateOperation{upsert("one", "eins", ""), remove})
		return outcome{"one": read("one"), "two": read("two")}, err
	})
	step("state.stale-transaction", func() (any, error) {
		err := client.ExecuteStateTransaction(ctx, store, nil,
			[]*dapr.StateOperation{upsert("three", "tre", ""), upsert("one", "wrong", stale)})
		return outcome{"error": failure(err), "one": read("one"), "three": read("three")}, nil
	})
	step("state.bulk-delete", func() (any, error) {
		err := client.DeleteBulkState(ctx, store, []string{"one", "two"}, nil)
		return outcome{"one": read("one"), "two": read("two")}, err
	})
	step("state.ttl", func() (any, error) {
		ttl := map[string]string{"ttlInSeconds": "1"}
		if err := client.SaveState(ctx, store, "brief", []byte("soon gone"), ttl); err != nil {
			return nil, err
		}
		before := read("brief")
		for tries := 0; read("brief") != "" && tries < 400; tries++ {
			time.Sleep(50 * time.Millisecond)
		}
		return outcome{"before": before, "after": read("brief")}, nil
	})
}

func around(client dapr.Client) {
	step("metadata.get", func() (any, error) {
		answer, err := client.GetMetadata(ctx)
		if err != nil {
			return nil, err
		}
		names := []string{}
		for _, component := range answer.RegisteredComponents {
			names = append(names, component.Name)
		}
		sort.Strings(names)
		return outcome{"id": answer.ID, "components": names}, nil
	})
	step("metadata.set", func() (any, error) {
		if err := client.SetMetadata(ctx, "colour", "green"); err != nil {
			return nil, err
		}
		answer, err := client.GetMetadata(ctx)
		if err != nil {
			return nil, err
		}
		return answer.ExtendedMetadata["colour"], nil
	})
	step("secrets.get", func() (any, error) { return client.GetSecret(ctx, "secrets", "db:password", nil) })
	step("secrets.bulk", func() (any, error) { return client.GetBulkSecret(ctx, "secrets", nil) })
	step("secrets.missing", func() (any, error) {
		_, err := client.GetSecret(ctx, "secrets", "nothing", nil)
		return failure(err), nil
	})
}

func listening(client dapr.Client) {
	text := dapr.PublishEventWithContentType("text/plain")
	publish := func(topic string, data any, options ...dapr.PublishEventOption) error {
		return client.PublishEvent(ctx, pubsub, topic, data, options...)
	}

	step("listen.json", func() (any, error) {
		if err := publish("orders", outcome{"id": 1}); err != nil {
			return nil, err
		}
		return hear("orders", 1)
	})
	step("listen.text", func() (any, error) {
		if err := publish("notes", "hello", text); err != nil {
			return nil, err
		}
		return hear("notes", 1)
	})
	step("listen.raw", func() (any, error) {
		if err := publish("raw", []byte("as it is"), dapr.PublishEventWithRawPayload()); err != nil {
			return nil, err
		}
		events, err := hear("raw", 1)
		if err != nil {
			return nil, err
		}
		return []any{events[0].Data}, nil
	})
	step("listen.many", func() (any, error) {
		answer := client.PublishEvents(ctx, pubsub, "many", []any{"a", "b", "c"})
		if answer.Error != nil {
			return nil, answer.Error
		}
		events, err := hear("many", 3)
		all := []string{}
		for _, each := range events {
			all = append(all, fmt.Sprint(each.Data))
		}
		sort.Strings(all)
		return outcome{"failed": len(answer.FailedEvents), "heard": all}, err
	})
	step("listen.declared", func() (any, error) {
		if err := publish("declared", outcome{"id": 2}); err != nil {
			return nil, err
		}
		return hear("declared", 1)
	})
	step("listen.routed", func() (any, error) {
		made := outcome{"specversion": "1.0", "id": "4", "source": "me", "type": "special", "data": outcome{"id": 4}}
		made["datacontenttype"] = "application/json"
		line, err := json.Marshal(made)
		if err != nil {
			return nil, err
		}
		cloudEvent := dapr.PublishEventWithContentType("application/cloudevents+json")
		if err := publish("kinds", line, cloudEvent); err != nil {
			return nil, err
		}
		return hear("special", 1)
	})
	step("listen.retry", func() (any, error) {
		if err := publish("retried", "again", text); err != nil {
			return nil, err
		}
		events, err := hear("retried", 2)
		return len(events), err
	})
	step("listen.drop", func() (any, error) {
		if err := publish("dropped", "bad", text); err != nil {
			return nil, err
		}
		dead, err := hear("dead", 1)
		if err != nil {
			return nil, err
		}
		dropped, err := hear("dropped", 1)
		return outcome{"dead": dead[0].Data, "times": len(dropped)}, err
	})
}

func streaming(client dapr.Client) {
	text := dapr.PublishEventWithContentType("text/plain")
	// pull takes one event from a stream of its own.
	pull := func(topic string, publish func() error) (*dapr.SubscriptionMessage, error) {
		subscription, err := client.Subscribe(ctx, dapr.SubscriptionOptions{PubsubName: pubsub, Topic: topic})
		if err != nil {
			return nil, err
		}
		defer subscription.Close()
		if err := publish(); err != nil {
			return nil, err
		}
		message, err := subscription.Receive()
		if err != nil {
			return nil, err
		}
		return message, message.Success()
	}
	handle := func(topic, dead string, answer func(times int) common.SubscriptionResponseStatus) (func() error, error) {
		options := dapr.SubscriptionOptions{PubsubName: pubsub, Topic: topic}
		if dead != "" {
			options.DeadLetterTopic = &dead
		}
		return client.SubscribeWithHandler(ctx, options, func(e *common.TopicEvent) common.SubscriptionResponseStatus {
			return answer(record(topic, e))
		})
	}

	step("stream.json", func() (any, error) {
		message, err := pull("streamed", func() error {
			return client.PublishEvent(ctx, pubsub, "streamed", outcome{"id": 3})
		})
		if err != nil {
			return nil, err
		}
		return []event{{message.Data, message.DataContentType}}, nil
	})
	step("stream.retry", func() (any, error) {
		stop, err := handle("stream-retried", "", func(times int) common.SubscriptionResponseStatus {
			if times == 1 {
				return common.SubscriptionResponseStatusRetry
			}
			return common.SubscriptionResponseStatusSuccess
		})
		if err != nil {
			return nil, err
		}
		defer stop()
		if err := client.PublishEvent(ctx, pubsub, "stream-retried", "again", text); err != nil {
			return nil, err
		}
		events, err := hear("stream-retried", 2)
		return len(events), err
	})
	step("stream.drop", func() (any, error) {
		stop, err := handle("stream-dropped", "stream-dead", func(int) common.SubscriptionResponseStatus {
			return common.SubscriptionResponseStatusDrop
		})
		if err != nil {
			return nil, err
		}
		defer stop()
		message, err := pull("stream-dead", func() error {
			return client.PublishEvent(ctx, pubsub, "stream-dropped", "bad", text)
		})
		if err != nil {
			return nil, err
		}
		dropped, err := hear("stream-dropped", 1)
		return outcome{"dead": message.Data, "times": len(dropped)}, err
	})
}

func main() {
	overHTTP := os.Args[1] == "http"
	address := "127.0.0.1:" + os.Getenv("APP_PORT")
	if overHTTP {
		listen(httpservice.NewService(address), true)
	} else if service, err := grpcservice.NewService(address); err == nil {
		listen(service, false)
	} else {
		panic(err)
	}
	client, err := dapr.NewClient()
	if err != nil {
		panic(err)
	}
	step("wait", func() (any, error) { return true, client.Wait(ctx, 30*time.Second) })
	state(client)
	around(client)
	listening(client)
	streaming(client)
	step("shutdown", func() (any, error) { return true, client.Shutdown(ctx) })
}
