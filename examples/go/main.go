// Publishes orders, gets them on a stream that it opens itself, and counts what was sold.
//
// No port is opened here and no broker's client is used: what stands behind the sidecar is a line of YAML.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pubsub "example/sales/gen/outrider/pubsub/v1"
	state "example/sales/gen/outrider/state/v1"
)

const topic = "go.orders"

type order struct {
	Item     string `json:"item"`
	Quantity int    `json:"quantity"`
}

var errNothing = errors.New("nothing was ordered")

type app struct {
	events pubsub.PubSubServiceClient
	store  state.StateServiceClient
}

func main() {
	log.SetFlags(0)
	endpoint := cmp.Or(os.Getenv("OUTRIDER_GRPC_ENDPOINT"), "127.0.0.1:50001")
	connection, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	sales := app{pubsub.NewPubSubServiceClient(connection), state.NewStateServiceClient(connection)}
	if err := sales.run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func (a app) run(ctx context.Context) error {
	waiting := map[string]bool{}
	for _, quantity := range []int{2, 0, 3} {
		id, err := a.publish(ctx, order{Item: "tea", Quantity: quantity})
		if err != nil {
			return err
		}
		waiting[id] = true
	}
	fmt.Println(len(waiting), "orders published")
	if err := a.receive(ctx, waiting); err != nil {
		return err
	}
	fmt.Println("all settled")
	return nil
}

// publish returns the id of the event. It is on disk then.
func (a app) publish(ctx context.Context, o order) (string, error) {
	data, err := json.Marshal(o)
	if err != nil {
		return "", err
	}
	event := &pubsub.Event{Type: "order.placed", DataContentType: "application/json", Data: data}
	response, err := a.events.Publish(ctx, &pubsub.PublishRequest{
		Topic:    topic,
		Outgoing: &pubsub.Outgoing{Event: event, Key: o.Item},
	})
	return response.GetPublished().GetId(), err
}

// receive handles events until all that are waited for have been settled.
func (a app) receive(ctx context.Context, waiting map[string]bool) error {
	stream, err := a.events.Subscribe(ctx)
	if err != nil {
		return err
	}
	// One by one, in the order of their publishes, and never more than eight at a time.
	open := &pubsub.Open{Subscription: 1, Topic: topic, Ordered: true, MaxInFlight: 8}
	// An error of Send is told by Recv.
	_ = stream.Send(&pubsub.SubscribeRequest{Message: &pubsub.SubscribeRequest_Open{Open: open}})
	for {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		if closed := message.GetClosed(); closed.GetCode() != 0 {
			return errors.New(closed.GetMessage())
		} else if closed != nil {
			return nil
		}
		for _, delivery := range message.GetDeliver().GetDeliveries() {
			settle := a.handle(ctx, delivery)
			_ = stream.Send(&pubsub.SubscribeRequest{Message: &pubsub.SubscribeRequest_Settle{Settle: settle}})
			id := delivery.GetEvent().GetId()
			if !waiting[id] {
				continue
			}
			delete(waiting, id)
			if len(waiting) == 0 {
				// Nothing new comes then, and Closed when all is settled.
				end := &pubsub.Close{Subscription: 1}
				_ = stream.Send(&pubsub.SubscribeRequest{Message: &pubsub.SubscribeRequest_Close{Close: end}})
			}
		}
	}
}

// handle counts one delivery and says what became of it.
func (a app) handle(ctx context.Context, delivery *pubsub.Delivery) *pubsub.Settle {
	settle := &pubsub.Settle{
		Deliveries: []*pubsub.DeliveryRange{{First: delivery.GetId()}},
		Outcome:    pubsub.Outcome_OUTCOME_ACK,
	}
	total, err := a.count(ctx, delivery.GetEvent())
	if err == nil {
		fmt.Printf("%s: %d sold\n", delivery.GetEvent().GetData(), total)
		return settle
	}
	fmt.Printf("%s: %v\n", delivery.GetEvent().GetData(), err)
	settle.Reason = err.Error()
	settle.Outcome = pubsub.Outcome_OUTCOME_RETRY
	if errors.Is(err, errNothing) {
		// It would fail each time.
		settle.Outcome = pubsub.Outcome_OUTCOME_REJECT
	}
	return settle
}

// count adds an order to what was sold of its item: once, however often it comes. It returns the sum.
func (a app) count(ctx context.Context, event *pubsub.Event) (int, error) {
	var o order
	if err := json.Unmarshal(event.GetData(), &o); err != nil || o.Quantity < 1 {
		return 0, errNothing
	}
	key, mark := "sold/"+o.Item, "counted/"+event.GetId()
	for {
		found, err := a.store.BatchGet(ctx, &state.BatchGetRequest{Keys: []string{key, mark}})
		if err != nil {
			return 0, err
		}
		sold, counted := found.GetResults()[0].GetItem(), found.GetResults()[1].GetItem()
		total, _ := strconv.Atoi(string(sold.GetValue()))
		if counted != nil {
			return total, nil
		}
		total += o.Quantity
		absent := &state.Precondition{Condition: &state.Precondition_Absent{Absent: true}}
		unchanged := absent
		if sold != nil {
			unchanged = &state.Precondition{Condition: &state.Precondition_Etag{Etag: sold.GetEtag()}}
		}
		// Both or none, and only if nobody has written since we read.
		_, err = a.store.Transact(ctx, &state.TransactRequest{Writes: []*state.TransactWrite{
			set(&state.SetRequest{Key: key, Value: []byte(strconv.Itoa(total)), Precondition: unchanged}),
			set(&state.SetRequest{Key: mark, Precondition: absent}),
		}})
		if status.Code(err) != codes.Aborted {
			return total, err
		}
	}
}

func set(request *state.SetRequest) *state.TransactWrite {
	return &state.TransactWrite{Write: &state.TransactWrite_Set{Set: request}}
}
