package tour;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.dapr.client.DaprClient;
import io.dapr.client.DaprClientBuilder;
import io.dapr.client.DaprPreviewClient;
import io.dapr.client.SubscriptionListener;
import io.dapr.client.domain.CloudEvent;
import io.dapr.client.domain.ComponentMetadata;
import io.dapr.client.domain.PublishEventRequest;
import io.dapr.client.domain.SaveStateRequest;
import io.dapr.client.domain.State;
import io.dapr.client.domain.StateOptions;
import io.dapr.client.domain.TransactionalStateOperation;
import io.dapr.client.domain.TransactionalStateOperation.OperationType;
import io.dapr.utils.TypeRef;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import reactor.core.publisher.Mono;

/** What an application on Dapr's SDK for Java does in its life. Says what came of each step: see ../tour.ts. */
public final class Tour {
  private static final String STALE = "99";
  private static final StateOptions FIRST_WRITE =
      new StateOptions(StateOptions.Consistency.STRONG, StateOptions.Concurrency.FIRST_WRITE);

  private final ObjectMapper json = new ObjectMapper();
  private final Heard heard = new Heard();
  private final DaprClient dapr = new DaprClientBuilder().build();
  private final DaprPreviewClient preview = new DaprClientBuilder().buildPreviewClient();

  public static void main(String[] words) throws Exception {
    var tour = new Tour();
    int port = Integer.parseInt(System.getenv("APP_PORT"));
    if (words[0].equals("http")) HttpListener.start(tour.heard, port);
    else GrpcListener.start(tour.heard, port);
    tour.step("wait", () -> tour.dapr.waitForSidecar(30_000).thenReturn(true).block());
    tour.state();
    tour.around();
    tour.listening();
    tour.streaming();
    tour.step("shutdown", () -> tour.dapr.shutdown().thenReturn(true).block());
    System.exit(0);
  }

  private void step(String name, Callable<Object> work) throws JsonProcessingException {
    Map<String, Object> outcome = new HashMap<>(Map.of("step", name));
    try {
      outcome.put("value", work.call());
    } catch (Exception error) {
      outcome.put("error", error.toString());
    }
    System.out.println("[tour] " + json.writeValueAsString(outcome));
  }

  private static String failure(Mono<?> work) {
    try {
      work.block();
      return "it did not fail";
    } catch (RuntimeException error) {
      return error.toString();
    }
  }

  // The steps.

  private String read(String key) {
    String value = dapr.getState("store", key, String.class).block().getValue();
    return value == null ? "" : value;
  }

  private String etag(String key) {
    return dapr.getState("store", key, String.class).block().getEtag();
  }

  private void state() throws JsonProcessingException {
    step(
        "state.get",
        () -> {
          dapr.saveState("store", "drink", "tea").block();
          return Map.of("value", read("drink"), "etag", !etag("drink").isEmpty());
        });
    step("state.missing", () -> read("nothing"));
    step(
        "state.bulk-get",
        () -> {
          dapr.saveBulkState("store", List.of(new State<>("one", "uno", null, null), new State<>("two", "due", null, null)))
              .block();
          Map<String, String> values = new HashMap<>();
          for (var item : dapr.getBulkState("store", List.of("one", "two", "none"), String.class).block())
            values.put(item.getKey(), item.getValue() == null ? "" : item.getValue());
          return values;
        });
    step(
        "state.stale-etag",
        () -> {
          String error = failure(dapr.saveState("store", "drink", STALE, "milk", FIRST_WRITE));
          return Map.of("error", error, "value", read("drink"));
        });
    step(
        "state.etag",
        () -> {
          dapr.saveState("store", "drink", etag("drink"), "coffee", FIRST_WRITE).block();
          return read("drink");
        });
    step(
        "state.stale-delete",
        () -> {
          String error = failure(dapr.deleteState("store", "drink", STALE, FIRST_WRITE));
          return Map.of("error", error, "value", read("drink"));
        });
    step(
        "state.delete",
        () -> {
          dapr.deleteState("store", "drink").block();
          return read("drink");
        });
    step(
        "state.transaction",
        () -> {
          var upsert = new TransactionalStateOperation<>(OperationType.UPSERT, new State<>("one", "eins", null, null));
          var delete = new TransactionalStateOperation<>(OperationType.DELETE, new State<String>("two"));
          dapr.executeStateTransaction("store", List.of(upsert, delete)).block();
          return Map.of("one", read("one"), "two", read("two"));
        });
    step(
        "state.stale-transaction",
        () -> {
          var fine = new TransactionalStateOperation<>(OperationType.UPSERT, new State<>("three", "tre", null, null));
          var stale = new TransactionalStateOperation<>(OperationType.UPSERT, new State<>("one", "wrong", STALE, null));
          String error = failure(dapr.executeStateTransaction("store", List.of(fine, stale)));
          return Map.of("error", error, "one", read("one"), "three", read("three"));
        });
    step(
        "state.ttl",
        () -> {
          var item = new State<>("brief", "soon gone", null, Map.of("ttlInSeconds", "1"), null);
          dapr.saveBulkState(new SaveStateRequest("store").setStates(item)).block();
          String before = read("brief");
          for (int tries = 0; !read("brief").isEmpty() && tries < 400; tries++) Thread.sleep(50);
          return Map.of("before", before, "after", read("brief"));
        });
  }

  private void around() throws JsonProcessingException {
    step(
        "metadata.get",
        () -> {
          var metadata = dapr.getMetadata().block();
          var names = metadata.getComponents().stream().map(ComponentMetadata::getName).sorted().toList();
          return Map.of("id", metadata.getId(), "components", names);
        });
    step("secrets.get", () -> dapr.getSecret("secrets", "db:password").block());
    step("secrets.bulk", () -> dapr.getBulkSecret("secrets").block());
    step("secrets.missing", () -> failure(dapr.getSecret("secrets", "nothing")));
  }

  private Mono<Void> publishText(String topic, String text) {
    return dapr.publishEvent(
        new PublishEventRequest("pubsub", topic, text.getBytes()).setContentType("text/plain"));
  }

  private void publishMany(String topic) {
    var answer = preview.publishEvents("pubsub", topic, "text/plain", List.of("a", "b", "c")).block();
    if (!answer.getFailedEntries().isEmpty())
      throw new IllegalStateException(answer.getFailedEntries().get(0).getErrorMessage());
  }

  private void listening() throws JsonProcessingException {
    step(
        "listen.json",
        () -> {
          dapr.publishEvent("pubsub", "orders", Map.of("id", 1)).block();
          return heard.hear("orders", 1);
        });
    step(
        "listen.text",
        () -> {
          publishText("notes", "hello").block();
          return heard.hear("notes", 1);
        });
    step(
        "listen.raw",
        () -> {
          var request = new PublishEventRequest("pubsub", "raw", "as it is".getBytes());
          request.setContentType("application/octet-stream").setMetadata(Map.of("rawPayload", "true"));
          dapr.publishEvent(request).block();
          return heard.data("raw", 1);
        });
    step(
        "listen.many",
        () -> {
          publishMany("many");
          return Map.of("failed", 0, "heard", heard.data("many", 3).stream().sorted().toList());
        });
    step(
        "listen.declared",
        () -> {
          dapr.publishEvent("pubsub", "declared", Map.of("id", 2)).block();
          return heard.hear("declared", 1);
        });
    step(
        "listen.gathered",
        () -> {
          publishMany("gathered");
          return heard.data("gathered", 3).stream().sorted().toList();
        });
    step(
        "listen.routed",
        () -> {
          var event = new CloudEvent<>("4", "me", "special", "1.0", "application/json", Map.of("id", 4));
          var request = new PublishEventRequest("pubsub", "kinds", event).setContentType(CloudEvent.CONTENT_TYPE);
          dapr.publishEvent(request).block();
          return heard.hear("special", 1);
        });
    step(
        "listen.retry",
        () -> {
          publishText("retried", "again").block();
          return heard.hear("retried", 2).size();
        });
    step(
        "listen.drop",
        () -> {
          publishText("dropped", "bad").block();
          var dead = heard.data("dead", 1).get(0);
          return Map.of("dead", dead, "times", heard.hear("dropped", 1).size());
        });
  }

  private <T> SubscriptionListener<T> recording(String topic) {
    return new SubscriptionListener<>() {
      @Override
      public Mono<Status> onEvent(CloudEvent<T> event) {
        String status = heard.record(topic, event.getData(), event.getDatacontenttype());
        return Mono.just(Status.valueOf(status));
      }

      @Override
      public void onError(RuntimeException error) {
        error.printStackTrace();
      }
    };
  }

  private void streaming() throws JsonProcessingException {
    step(
        "stream.json",
        () -> {
          var type = new TypeRef<Map<String, Integer>>() {};
          try (var subscription = preview.subscribeToEvents("pubsub", "streamed", recording("streamed"), type)) {
            dapr.publishEvent("pubsub", "streamed", Map.of("id", 3)).block();
            return heard.hear("streamed", 1);
          }
        });
    step(
        "stream.retry",
        () -> {
          var listener = this.<byte[]>recording("stream-retried");
          try (var subscription =
              preview.subscribeToEvents("pubsub", "stream-retried", listener, TypeRef.BYTE_ARRAY)) {
            publishText("stream-retried", "again").block();
            return heard.hear("stream-retried", 2).size();
          }
        });
  }
}
