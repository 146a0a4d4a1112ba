// What the tests of nginx and of the production overlay share: certificates, the upstream's answer, the log.
import { mkdtemp, readFile } from "node:fs/promises";
import { join } from "node:path";
import { makeCertificate } from "./certificate.ts";
import type { Project } from "./project.ts";

export const soon = () => AbortSignal.timeout(10_000);

/** What the test's upstream tells about a request that reached it. */
export type Echo = { release: string; method: string; bytes: number; headers: Record<string, string> };

export async function logLines(project: Project): Promise<Record<string, unknown>[]> {
  const { stdout } = await project.compose(["logs", "--no-log-prefix", "nginx"]);
  // Every line of the access log has to parse; nginx's own notices do not begin with a brace.
  const lines = stdout.split("\n").filter((line) => line.startsWith("{"));
  return lines.map((line) => JSON.parse(line));
}

export type Pair = { authority: string; certificate: string; key: string };

/** Signed by an authority of its own, good for localhost, made anew each time. */
export async function makePair(project: Project, commonName = "localhost"): Promise<Pair> {
  const folder = await mkdtemp(join(project.directory, "authority-"));
  const files = await makeCertificate(folder, [commonName, "localhost"]);
  const [authority, certificate, key] = await Promise.all(
    [files.caFile, files.certificateFile, files.keyFile].map((file) => readFile(file, "utf8")),
  );
  return { authority: authority!, certificate: certificate!, key: key! };
}

/** Where nginx reads it. The key is readable for everybody here, because nginx is uid 101. */
export async function installPair(project: Project, { certificate, key }: Pair): Promise<void> {
  await project.write("certificates/privkey.pem", key);
  await project.write("certificates/fullchain.pem", certificate);
}
