package tour;

import io.dapr.Rule;
import io.dapr.Topic;
import io.dapr.client.domain.BulkSubscribeAppResponse;
import io.dapr.client.domain.BulkSubscribeAppResponseEntry;
import io.dapr.client.domain.BulkSubscribeAppResponseStatus;
import io.dapr.client.domain.BulkSubscribeMessage;
import io.dapr.client.domain.CloudEvent;
import io.dapr.springboot.annotations.BulkSubscribe;
import java.util.Map;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RequestBody;
import org.springframework.web.bind.annotation.RestController;

/** Listens over HTTP, with Spring Boot and dapr-sdk-springboot. */
@EnableAutoConfiguration
@RestController
public class HttpListener {
  private final Heard heard;

  HttpListener(Heard heard) {
    this.heard = heard;
  }

  static void start(Heard heard, int port) {
    SpringApplication application = new SpringApplication(HttpListener.class);
    application.addInitializers(context -> context.getBeanFactory().registerSingleton("heard", heard));
    application.run("--server.port=" + port, "--spring.main.banner-mode=off", "--logging.level.root=warn");
  }

  private Map<String, String> record(String topic, CloudEvent<Object> event) {
    Object data = event.getBinaryData() == null ? event.getData() : new String(event.getBinaryData());
    return Map.of("status", heard.record(topic, data, event.getDatacontenttype()));
  }

  @Topic(name = "orders", pubsubName = "pubsub")
  @PostMapping("/orders")
  public Map<String, String> orders(@RequestBody CloudEvent<Object> event) {
    return record("orders", event);
  }

  @Topic(name = "notes", pubsubName = "pubsub")
  @PostMapping("/notes")
  public Map<String, String> notes(@RequestBody CloudEvent<Object> event) {
    return record("notes", event);
  }

  @Topic(name = "raw", pubsubName = "pubsub", metadata = "{\"rawPayload\":\"true\"}")
  @PostMapping("/raw")
  public Map<String, String> raw(@RequestBody CloudEvent<Object> event) {
    return record("raw", event);
  }

  @Topic(name = "many", pubsubName = "pubsub")
  @PostMapping("/many")
  public Map<String, String> many(@RequestBody CloudEvent<Object> event) {
    return record("many", event);
  }

  @Topic(name = "retried", pubsubName = "pubsub")
  @PostMapping("/retried")
  public Map<String, String> retried(@RequestBody CloudEvent<Object> event) {
    return record("retried", event);
  }

  @Topic(name = "dropped", pubsubName = "pubsub", deadLetterTopic = "dead")
  @PostMapping("/dropped")
  public Map<String, String> dropped(@RequestBody CloudEvent<Object> event) {
    return record("dropped", event);
  }

  @Topic(name = "dead", pubsubName = "pubsub")
  @PostMapping("/dead")
  public Map<String, String> dead(@RequestBody CloudEvent<Object> event) {
    return record("dead", event);
  }

  @Topic(name = "kinds", pubsubName = "pubsub")
  @PostMapping("/plain")
  public Map<String, String> plain(@RequestBody CloudEvent<Object> event) {
    return record("plain", event);
  }

  @Topic(name = "kinds", pubsubName = "pubsub", rule = @Rule(match = "event.type == 'special'", priority = 1))
  @PostMapping("/special")
  public Map<String, String> special(@RequestBody CloudEvent<Object> event) {
    return record("special", event);
  }

  /** A file of the sidecar's resources names this route. */
  @PostMapping("/declared")
  public Map<String, String> declared(@RequestBody CloudEvent<Object> event) {
    return record("declared", event);
  }

  @BulkSubscribe(maxMessagesCount = 10)
  @Topic(name = "gathered", pubsubName = "pubsub")
  @PostMapping("/gathered")
  public BulkSubscribeAppResponse gathered(@RequestBody BulkSubscribeMessage<CloudEvent<Object>> message) {
    var statuses =
        message.getEntries().stream()
            .map(
                entry -> {
                  record("gathered", entry.getEvent());
                  return new BulkSubscribeAppResponseEntry(
                      entry.getEntryId(), BulkSubscribeAppResponseStatus.SUCCESS);
                })
            .toList();
    return new BulkSubscribeAppResponse(statuses);
  }
}
