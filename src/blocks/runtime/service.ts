/** What a sidecar says of itself, as a service. */
import type { ServiceImpl } from "@connectrpc/connect";
import { ComponentStatus, type RuntimeService } from "../../../gen/outrider/runtime/v1/runtime_pb.ts";
import { fault } from "../../faults.ts";
import { durationFromMs, timestampFromMs } from "../../protobuf/times.ts";
import type { ComponentView, LastReload, Sidecar } from "./sidecar-view.ts";

/** How long a component has to answer a health check, in milliseconds. */
export const healthCheckTimeoutMs = 2000;

const statuses = {
  opening: ComponentStatus.OPENING,
  ready: ComponentStatus.READY,
  failed: ComponentStatus.FAILED,
  closed: ComponentStatus.FAILED,
} as const;

/** RuntimeService over a sidecar. */
export function runtimeService(sidecar: Sidecar): ServiceImpl<typeof RuntimeService> {
  return {
    async getMetadata(_request, context) {
      const subscriptions = await sidecar.subscriptions(context.signal);
      const reload = sidecar.lastReload();
      return {
        appId: sidecar.appId,
        version: sidecar.version,
        instanceId: sidecar.instanceId,
        startedAt: timestampFromMs(sidecar.startedAtMs),
        ports: sidecar.ports().map(({ name, address, port }) => ({ name, address, port })),
        components: byName(sidecar.components()).map((component) => {
          const { state, message } = component.status();
          return {
            name: component.name,
            type: component.type,
            version: component.version,
            capabilities: [...component.capabilities()],
            status: statuses[state],
            statusMessage: state === "ready" ? (component.trouble?.() ?? "") : message,
            declaredIn: component.declaredIn,
          };
        }),
        subscriptions: subscriptions.map(({ lag, partitions = [], ...view }) => ({
          ...view,
          partitions: [...partitions],
          ...(lag === undefined ? {} : { lag }),
        })),
        subscribeStreams: sidecar.subscribeStreams(),
        dataDirectory: sidecar.dataDirectory(),
        ...(reload && { lastReload: messageOf(reload) }),
      };
    },

    async checkHealth(request, context) {
      const wanted = sidecar.components().filter(({ name }) => [name, ""].includes(request.component));
      if (request.component !== "" && wanted.length === 0) {
        throw fault("COMPONENT_NOT_FOUND", `there is no component "${request.component}"`, {
          metadata: { component: request.component },
        });
      }
      const components = await Promise.all(
        byName(wanted).map((component) => health(component, context.signal)),
      );
      const required = new Set(wanted.filter((component) => component.required).map(({ name }) => name));
      const ready = components.every(
        ({ name, status }) => status === ComponentStatus.READY || !required.has(name),
      );
      return { ready, components };
    },

    shutdown() {
      sidecar.shutdown();
      return {};
    },
  };
}

function messageOf({ atMs, mistakes, needRestart }: LastReload) {
  return {
    at: timestampFromMs(atMs),
    applied: mistakes.length === 0,
    mistakes: [...mistakes],
    needRestart: [...needRestart],
  };
}

async function health(component: ComponentView, signal: AbortSignal) {
  const { state, message, sinceMs } = component.status();
  const now = Date.now();
  const known = { name: component.name, status: statuses[state] as ComponentStatus, message };
  if (state !== "ready") return { ...known, since: durationFromMs(now - sinceMs) };
  try {
    await answered(component, AbortSignal.any([signal, AbortSignal.timeout(healthCheckTimeoutMs)]));
    return { ...known, message: component.trouble?.() ?? "", since: durationFromMs(now - sinceMs) };
  } catch {
    // What a library says of it may have a connection string in it; the log has that.
    return {
      ...known,
      status: ComponentStatus.FAILED,
      message: "it does not answer",
      since: durationFromMs(0),
    };
  }
}

/** Pings, and gives up when the signal aborts, also when the driver does not heed it. */
async function answered(component: ComponentView, signal: AbortSignal): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const giveUp = () => reject(signal.reason);
  signal.addEventListener("abort", giveUp, { once: true });
  try {
    await Promise.race([component.ping(signal), promise]);
  } finally {
    signal.removeEventListener("abort", giveUp);
  }
}

function byName<T extends { readonly name: string }>(views: readonly T[]): T[] {
  return views.toSorted((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}
