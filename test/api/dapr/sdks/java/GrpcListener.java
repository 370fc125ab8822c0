package tour;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.google.protobuf.Empty;
import io.dapr.v1.AppCallbackAlphaGrpc;
import io.dapr.v1.AppCallbackGrpc;
import io.dapr.v1.DaprAppCallbackProtos.BulkSubscribeConfig;
import io.dapr.v1.DaprAppCallbackProtos.ListTopicSubscriptionsResponse;
import io.dapr.v1.DaprAppCallbackProtos.TopicEventBulkRequest;
import io.dapr.v1.DaprAppCallbackProtos.TopicEventBulkResponse;
import io.dapr.v1.DaprAppCallbackProtos.TopicEventBulkResponseEntry;
import io.dapr.v1.DaprAppCallbackProtos.TopicEventRequest;
import io.dapr.v1.DaprAppCallbackProtos.TopicEventResponse;
import io.dapr.v1.DaprAppCallbackProtos.TopicEventResponse.TopicEventResponseStatus;
import io.dapr.v1.DaprAppCallbackProtos.TopicRoutes;
import io.dapr.v1.DaprAppCallbackProtos.TopicRule;
import io.dapr.v1.DaprAppCallbackProtos.TopicSubscription;
import io.grpc.ServerBuilder;
import io.grpc.stub.StreamObserver;
import java.util.List;

/** Listens for gRPC, on the service that the SDK brings. */
final class GrpcListener extends AppCallbackGrpc.AppCallbackImplBase {
  private final ObjectMapper json = new ObjectMapper();
  private final Heard heard;

  GrpcListener(Heard heard) {
    this.heard = heard;
  }

  static void start(Heard heard, int port) throws Exception {
    var listener = new GrpcListener(heard);
    ServerBuilder.forPort(port)
        .addService(listener)
        .addService(listener.new Alpha())
        .build()
        .start();
  }

  @Override
  public void listTopicSubscriptions(Empty request, StreamObserver<ListTopicSubscriptionsResponse> answer) {
    var response = ListTopicSubscriptionsResponse.newBuilder();
    for (String topic : List.of("orders", "notes", "many", "retried", "dead", "raw", "dropped", "gathered")) {
      var subscription = TopicSubscription.newBuilder().setPubsubName("pubsub").setTopic(topic);
      if (topic.equals("raw")) subscription.putMetadata("rawPayload", "true");
      if (topic.equals("dropped")) subscription.setDeadLetterTopic("dead");
      if (topic.equals("gathered"))
        subscription.setBulkSubscribe(BulkSubscribeConfig.newBuilder().setEnabled(true).setMaxMessagesCount(10));
      response.addSubscriptions(subscription);
    }
    var rule = TopicRule.newBuilder().setMatch("event.type == 'special'").setPath("/special");
    response.addSubscriptions(
        TopicSubscription.newBuilder()
            .setPubsubName("pubsub")
            .setTopic("kinds")
            .setRoutes(TopicRoutes.newBuilder().setDefault("/plain").addRules(rule)));
    answer.onNext(response.build());
    answer.onCompleted();
  }

  @Override
  public void onTopicEvent(TopicEventRequest request, StreamObserver<TopicEventResponse> answer) {
    try {
      // Those with routes, the one in the sidecar's resources among them, are known by them.
      String topic = request.getPath().isEmpty() ? request.getTopic() : request.getPath().substring(1);
      Object data = request.getData().toStringUtf8();
      if (request.getDataContentType().equals("application/json"))
        data = json.readValue(request.getData().toByteArray(), Object.class);
      String status = heard.record(topic, data, request.getDataContentType());
      answer.onNext(
          TopicEventResponse.newBuilder().setStatus(TopicEventResponseStatus.valueOf(status)).build());
      answer.onCompleted();
    } catch (Exception error) {
      answer.onError(error);
    }
  }

  /** The service that has bulk deliveries in this version of the SDK. */
  private final class Alpha extends AppCallbackAlphaGrpc.AppCallbackAlphaImplBase {
    @Override
    public void onBulkTopicEventAlpha1(
        TopicEventBulkRequest request, StreamObserver<TopicEventBulkResponse> answer) {
      var response = TopicEventBulkResponse.newBuilder();
      for (var entry : request.getEntriesList()) {
        var event = entry.getCloudEvent();
        heard.record(request.getTopic(), event.getData().toStringUtf8(), event.getDataContentType());
        response.addStatuses(
            TopicEventBulkResponseEntry.newBuilder()
                .setEntryId(entry.getEntryId())
                .setStatus(TopicEventResponseStatus.SUCCESS));
      }
      answer.onNext(response.build());
      answer.onCompleted();
    }
  }
}
