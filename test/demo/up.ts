// The stack comes up: postgres, migrations, app, and with Docker nginx in front of it.
import { relative } from "node:path";
import { start } from "../../scripts/lib/run.ts";
import { untilAborted } from "../../scripts/lib/wait.ts";
import { type DemoProject, withProject } from "./project.ts";
import type { Scene, Stage } from "./scene.ts";

/** The app finishes its requests, Postgres writes everything to disk. */
const stopSeconds = 60;

export const up: Scene = {
  shows: "the stack comes up (this is the default)",
  play: (stage) => withProject(stage, (project) => bringUp(project, stage)),
};

async function bringUp(project: DemoProject, { once, json, interrupted }: Stage): Promise<{ exitCode: number }> {
  const program = await start({
    argv: [process.execPath, "scripts/up.ts", "--engine", project.engine, "--json", ...(once ? ["--once"] : [])],
    directory: project.directory,
    environment: project.environment,
    onLine: (line, stream) => {
      if (stream === "stderr") console.error(line);
      else if (json) console.log(line);
      else if (!isFailure(line)) console.log(formatAnswer(line, project, once));
    },
    ownGroup: true,
  });
  // Interrupted, `up` has the last word: 130 before it was up, 0 after that.
  await Promise.race([program.ended, untilAborted(interrupted)]);
  await program.stop("SIGTERM", stopSeconds);
  const code = await program.ended;
  return { exitCode: typeof code === "number" ? code : 1 };
}

/** Explained on stderr already, for people. */
const isFailure = (document: string) => document.startsWith('{"error"');

/** The JSON document of `up`, for people. */
function formatAnswer(document: string, project: DemoProject, once: boolean): string {
  const { url, engine, seconds, health } = JSON.parse(document) as Record<string, unknown>;
  // Through npx, because the demo promises to need nothing but Node and npm.
  const enter = `cd ${relative(process.cwd(), project.directory)} && npx bun scripts`;
  return [
    `The stack is up at ${url} (${engine}, ${seconds} s)`,
    `  health: ${JSON.stringify(health)}`,
    ...(once
      ? []
      : [`  next: curl ${url}/health/database`, `  next: ${enter}/validator.ts`, "  next: npm run demo -- --down"]),
  ].join("\n");
}
