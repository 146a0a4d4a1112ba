// One deploy of the kit, measured; and the app's boot without it.
import { chmod, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Slot } from "../../../scripts/lib/upstream.ts";
import { runVerb, type Stand } from "../../demo/server.ts";
import type { Load } from "../../lab/load.ts";

export type Deploy = { seconds: number; steps: Readonly<Record<string, number>>; slot: Slot };

/** From the command to its end, with what it prints about its steps. */
export async function measureDeploy(stand: Stand, image: string): Promise<Deploy> {
  const { seconds, lines, stdout } = await runVerb(stand, "deploy", ["--image", image, "--json"]);
  const steps = lines.flatMap(({ text }) => {
    const [, name, value] = /^ {2}done {3}(\S+) +([\d.]+) s$/.exec(text) ?? [];
    return name ? [[name, Number(value)] as const] : [];
  });
  return { seconds, steps: Object.fromEntries(steps), slot: JSON.parse(stdout).slot };
}

/** What the app takes for itself, in seconds. */
export type Own = { boot: number; end: number };

/** The container of the idle slot, by nothing but Docker: started until its health check passes for the first time, and stopped. */
export async function measureOwn({ server, project }: Stand, live: Slot): Promise<Own> {
  const idle = live === "blue" ? "green" : "blue";
  const label = "--filter label=com.docker.compose";
  const { stdout } = await server.ssh(
    `id=$(docker ps --all --quiet ${label}.project=${project.name} ${label}.service=app-${idle})
docker wait "$id" >/dev/null
docker start "$id" >/dev/null
until [ "$(docker inspect --format '{{.State.Health.Status}}' "$id")" = healthy ]; do sleep 0.1; done
docker inspect --format '{{json .State}}' "$id"
stopped=$(date +%s%N)
docker stop "$id" >/dev/null
echo $(($(date +%s%N) - stopped))`,
  );
  const [state = "", nanoseconds] = stdout.split("\n");
  const { StartedAt, Health } = JSON.parse(state) as State;
  // Those of its last start are still listed.
  const passed = Health.Log.find(({ ExitCode, Start }) => ExitCode === 0 && Date.parse(Start) > Date.parse(StartedAt));
  return { boot: (Date.parse(passed!.End) - Date.parse(StartedAt)) / 1000, end: Number(nanoseconds) / 1e9 };
}

type State = { StartedAt: string; Health: { Log: { Start: string; End: string; ExitCode: number }[] } };

export type FlipBack = {
  /** What the verb says: from the decision's order until nginx answers with the release before. */
  said: number;
  /** From the verb's line "FAILED bake" until the last error that a client got. */
  untilLastError: number;
  /** From the first error that a client got until the last. */
  errorsFor: number;
  errors: number;
};

/** A deploy of a release that answers with errors. The clients are looked at ten times a second. */
export async function measureFlipBack(stand: Stand, load: Load, image: string): Promise<FlipBack> {
  const errorsBefore = (await load.settle()).failures["5xx"] ?? 0;
  const grown: number[] = [];
  let errors = 0;
  const look = () => {
    const now = (load.report().failures["5xx"] ?? 0) - errorsBefore;
    if (now > errors) grown.push(performance.now());
    errors = now;
  };
  const looking = setInterval(look, 10);
  try {
    const { lines } = await runVerb(stand, "deploy", ["--image", image], { exitCode: 1 });
    await load.settle();
    look();
    const text = lines.map((line) => line.text).join("\n");
    const decided = lines.find((line) => line.text.startsWith("  FAILED bake"))!.at;
    return {
      said: Number(/switched back to release \d+ in ([\d.]+) s/.exec(text)![1]),
      untilLastError: (grown.at(-1)! - decided) / 1000,
      errorsFor: (grown.at(-1)! - grown[0]!) / 1000,
      errors,
    };
  } finally {
    clearInterval(looking);
  }
}

/** How often a deploy asks the server something and waits for the answer: what comes out of its ssh is one line for each. */
export async function countRoundTrips(stand: Stand, image: string): Promise<number> {
  const { project } = stand;
  const { PATH } = project.environment;
  const answers = join(project.directory, "count", "answers");
  const script = `#!/bin/bash\nset -o pipefail\nPATH='${PATH}' ssh "$@" | tee '${answers}'\n`;
  await project.write("count/ssh", script);
  await chmod(join(project.directory, "count", "ssh"), 0o755);
  const environment = { PATH: `${join(project.directory, "count")}:${PATH}` };
  await runVerb(stand, "deploy", ["--image", image], { environment });
  return (await readFile(answers, "utf8")).split("\n").filter((line) => /^\d+ \d+ /.test(line)).length;
}
