// What tests ask of a running project again and again.
import { poll } from "../../scripts/lib/wait.ts";
import type { Project } from "./project.ts";

/** Every wait is bounded: for "up until healthy", Compose has it from its own health checks. */
export const up = ["up", "--detach", "--wait"];

export const healthPaths = ["/health", "/health/ready", "/health/database", "/api/health/db"];

export const brokenMigration = {
  path: "migrations/29990101000000_broken.sql",
  text: "-- migrate:up\nalter table no_such_table add column x int;\n\n-- migrate:down\nselect 1;\n",
};

export async function statusOf(url: string): Promise<number> {
  const response = await fetch(url, { signal: AbortSignal.timeout(5000) });
  await response.text();
  return response.status;
}

export async function databaseHealth(project: Project) {
  const response = await fetch(`${project.url}/health/database`, { signal: AbortSignal.timeout(5000) });
  return { status: response.status, body: await response.json() };
}

/** Whether the condition came true in time. A request that fails meanwhile counts as "not yet". */
export async function until(seconds: number, condition: () => Promise<boolean>): Promise<boolean> {
  return (
    (await poll({ seconds: seconds }, async () => ((await condition().catch(() => false)) ? true : undefined))) ?? false
  );
}

export async function inspect(project: Project, service: string, format: string): Promise<string> {
  return (await project.docker(["inspect", "--format", format, project.container(service)])).stdout.trim();
}

/** Of every container, one line: a container that was recreated or restarted has another one. */
export async function identities(project: Project, services: readonly string[]): Promise<string> {
  const format = "{{.Name}} {{.Id}} {{.State.StartedAt}}";
  return (await Promise.all(services.map((service) => inspect(project, service, format)))).join("\n");
}
