package tour;

import com.fasterxml.jackson.annotation.JsonProperty;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** What the application has been given, by topic. */
final class Heard {
  record Event(@JsonProperty("data") Object data, @JsonProperty("type") String type) {}

  private final Map<String, List<Event>> byTopic = new ConcurrentHashMap<>();

  /** Returns what is to become of the event. */
  synchronized String record(String topic, Object data, String type) {
    List<Event> events = byTopic.computeIfAbsent(topic, name -> new ArrayList<>());
    events.add(new Event(data, type));
    notifyAll();
    if (topic.endsWith("retried") && events.size() == 1) return "RETRY";
    return topic.equals("dropped") ? "DROP" : "SUCCESS";
  }

  synchronized List<Event> hear(String topic, int count) throws InterruptedException {
    long end = System.currentTimeMillis() + 30_000;
    while (byTopic.getOrDefault(topic, List.of()).size() < count) {
      long left = end - System.currentTimeMillis();
      if (left <= 0) throw new IllegalStateException(topic + " was not heard " + count + " times");
      wait(left);
    }
    return List.copyOf(byTopic.get(topic));
  }

  List<Object> data(String topic, int count) throws InterruptedException {
    return hear(topic, count).stream().map(Event::data).toList();
  }
}
