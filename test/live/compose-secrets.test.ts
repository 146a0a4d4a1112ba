// A secret in .env is in every container what it is in the file, and opens the database from there.
import { afterAll, describe, expect, test } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { databaseHealth, inspect, up } from "../lab/observe.ts";
import { buildAppImage, createProject, type Project } from "../lab/project.ts";

describe("secrets in .env", () => {
  /** Everything that some reader of .env files is known to change, in values that an encoding can carry. */
  const nasty = [
    "pa$BASE",
    "${BASE}",
    "$$word",
    "a#b",
    "a #b",
    "spaces  inside",
    " around ",
    'double "quotes"',
    "back\\slash\\n",
    "$(id)`id`",
    "!history!",
    "=equals=",
    "%41%zz",
    "#start",
    "it's",
    "'quoted'",
    "it's a # here",
    "ünïcödé ✓",
    "{}[]()<>|&;*?~",
    "",
  ];
  let project: Project;
  afterAll(() => project?.remove());

  // One password for each of the two encodings: single quotes, and double quotes around a single one.
  test.each(['p$BASE ${x} $$ "q" #h \\n \\ `id` %41 :/?@ é', "it's a # secret: %41 @/?"])(
    "POSTGRES_PASSWORD %p opens the database to migrations and app",
    async (password) => {
      await project?.remove();
      project = await createProject({ environment: { POSTGRES_PASSWORD: password, BASE: "base" } });
      const compose = await readFile(join(project.directory, "compose.yaml"), "utf8");
      const own = nasty.map((_, index) => `      OWN_${index}: \${OWN_${index}?}`).join("\n");
      await project.write("compose.yaml", compose.replace("      # STRIPE_KEY:", `${own}\n      # STRIPE_KEY:`));
      await project.setEnvironment(Object.fromEntries(nasty.map((value, index) => [`OWN_${index}`, value])));
      await project.setEnvironment({ APP_IMAGE: await buildAppImage(project) });

      await project.compose(up);
      // From another container, over TCP: inside its own, Postgres trusts everybody.
      expect((await databaseHealth(project)).body.status).toBe("healthy");
      for (const [service, name] of [
        ["postgres", "POSTGRES_PASSWORD"],
        ["migrations", "PGPASSWORD"],
        ["app", "PGPASSWORD"],
      ]) {
        expect((await environmentOf(project, service!))[name!]).toBe(password);
      }
      const inside = await environmentOf(project, "app");
      expect(nasty.map((_, index) => inside[`OWN_${index}`])).toEqual(nasty);
    },
  );
});

async function environmentOf(project: Project, service: string): Promise<Record<string, string>> {
  const stdout = await inspect(project, service, "{{json .Config.Env}}");
  const entries = (JSON.parse(stdout) as string[]).map((line) => [
    line.slice(0, line.indexOf("=")),
    line.slice(line.indexOf("=") + 1),
  ]);
  return Object.fromEntries(entries);
}
