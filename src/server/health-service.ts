/** What answers health checks: see health.ts. */
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { Health, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.ts";
import { type Mount, mount } from "./mount.ts";
import type { ReadinessSource } from "./readiness.ts";

/** The health service, for the services of these names. */
export function healthServiceMount(readiness: ReadinessSource, names: ReadonlySet<string>): Mount {
  return mount(Health, healthService(readiness, names), { withoutToken: true });
}

function healthService(readiness: ReadinessSource, names: ReadonlySet<string>): ServiceImpl<typeof Health> {
  const statusOf = (name: string): Status => {
    if (name === "liveness") return Status.SERVING;
    if (!names.has(name)) return Status.SERVICE_UNKNOWN;
    return readiness.ready ? Status.SERVING : Status.NOT_SERVING;
  };
  return {
    check({ service }) {
      const status = statusOf(service);
      if (status !== Status.SERVICE_UNKNOWN) return { status };
      throw new ConnectError(`no service "${service}"`, Code.NotFound);
    },
    list() {
      return { statuses: Object.fromEntries([...names].map((name) => [name, { status: statusOf(name) }])) };
    },
    async *watch({ service }, { signal }) {
      let wake = () => {};
      readiness.onChange(() => wake(), signal);
      signal.addEventListener("abort", () => wake(), { once: true });
      let told: Status | undefined;
      while (!signal.aborted) {
        const changed = new Promise<void>((resolve) => {
          wake = resolve;
        });
        const status = statusOf(service);
        // Readiness that went and came back while the client was slow is no news.
        if (status === told) await changed;
        else yield { status };
        told = status;
      }
      throw signal.reason;
    },
  };
}
