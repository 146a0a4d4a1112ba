// Asks an engine and its Compose what they are.
import { run } from "../../scripts/lib/run.ts";

export type Version = { engine: string; compose: string | undefined };

/** undefined when no engine answers. */
export async function versionOf(environment: Record<string, string>): Promise<Version | undefined> {
  const ask = (argv: string[]) =>
    run({ argv, environment, timeoutSeconds: 15 }).then(
      ({ stdout }) => stdout.trim(),
      () => undefined,
    );
  const engine = await ask(["docker", "version", "--format", "{{.Server.Version}}"]);
  return engine ? { engine, compose: await ask(["docker", "compose", "version", "--short"]) } : undefined;
}

export function isAtLeast(version: string, [major, minor]: readonly [number, number]): boolean {
  const [ours = 0, oursMinor = 0] = version.replace(/^v/, "").split(".").map(Number);
  return ours > major || (ours === major && oursMinor >= minor);
}
