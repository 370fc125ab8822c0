/** What kafkajs throws, in our words. */
import { KafkaError } from "../errors.ts";

/** The error for what kafkajs threw while it spoke with a node. */
export function translate(error: unknown, address: string): KafkaError {
  if (error instanceof KafkaError) return error;
  const { name, message, code } = fieldsOf(error);
  const text = `${message} ${code}`;
  if (name === "KafkaJSSASLAuthenticationError" || /sasl|authentication failed/i.test(text)) {
    const why = /not supported by the server/i.test(message) ? message : "the broker refused the credentials";
    return new KafkaError(
      "refused",
      `${address}: authentication failed: ${why}`,
      "SASL_AUTHENTICATION_FAILED",
      error,
    );
  }
  const certificate = certificateProblem(text);
  if (certificate) return new KafkaError("refused", `${address}: ${certificate}`, "TLS_FAILED", error);
  if (name === "KafkaJSServerDoesNotSupportApiKey") {
    return new KafkaError(
      "refused",
      `${address}: the broker is too old: ${message}`,
      "UNSUPPORTED_VERSION",
      error,
    );
  }
  // Its message may have bytes of an answer in it, but nothing that was sent.
  return new KafkaError("unavailable", `${address}: ${message}`, "", error);
}

function certificateProblem(text: string): string | undefined {
  if (/unable to (get|verify)|self[- ]signed|UNABLE_TO_|SELF_SIGNED/i.test(text)) {
    return "the broker's certificate is not signed by a known CA; set caCert";
  }
  if (/CERT_HAS_EXPIRED|certificate has expired/i.test(text)) return "the broker's certificate has expired";
  if (/does not match certificate|ERR_TLS_CERT_ALTNAME/i.test(text)) {
    return "the broker's certificate is for another host";
  }
  if (
    /alert (bad |unknown )?(certificate|ca)|alert handshake|certificate_required|certificate required/i.test(
      text,
    )
  ) {
    return "the broker refused the client's certificate, or wants one";
  }
  if (/wrong version number|packet length too long/i.test(text)) {
    return "the port does not speak TLS; set disableTls if that is meant";
  }
  return undefined;
}

function fieldsOf(error: unknown): { name: string; message: string; code: string } {
  if (!(error instanceof Error)) return { name: "", message: String(error), code: "" };
  const code = (error as { code?: unknown }).code;
  return { name: error.name, message: error.message, code: typeof code === "string" ? code : "" };
}
