/** YAML of the cases. */

/** A Component; `more` is what else there is beside its `spec`, as JSON. */
export function component(
  name: string,
  type: string,
  metadata: Readonly<Record<string, unknown>> = {},
  more: Readonly<Record<string, unknown>> = {},
): string {
  const items = Object.entries(metadata).map(([key, value]) =>
    typeof value === "object" ? { name: key, ...value } : { name: key, value },
  );
  const { namespace, ...rest } = more;
  const meta = `{name: '${name.replaceAll("'", "''")}'${namespace ? `, namespace: ${namespace}` : ""}}`;
  const others = Object.entries(rest).map(([key, value]) => `${key}: ${JSON.stringify(value)}\n`);
  return `---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: ${meta}
spec: {type: ${type}, version: v1, metadata: ${JSON.stringify(items)}}
${others.join("")}`;
}

/** A Configuration. */
export function configuration(spec: object): string {
  return `apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata: {name: config}
spec: ${JSON.stringify(spec)}
`;
}
