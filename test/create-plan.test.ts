// Whole plans of the scaffolder for a small kit: what happens to each file, and what is written.
import { expect, test } from "bun:test";
import type { Answers } from "../create/answers.ts";
import type { Payload } from "../create/kit.ts";
import { formatManifest, type Manifest, manifestOf, manifestPath } from "../create/manifest.ts";
import type { Observed } from "../create/observe.ts";
import { detectPackageManager, installCommand, runCommand } from "../create/package-manager.ts";
import { type Plan, planProject } from "../create/plan.ts";
import { renderProject } from "../create/render.ts";
import { formatNext, formatPlan, formatSummary, nextCommands, nextNotes } from "../create/report.ts";
import { localEnvironment } from "../scripts/lib/environment.ts";

const file = (path: string, text: string, executable = false) => ({ path, text, executable });
const kit: Payload = {
  version: "1.2.3",
  files: [
    file("compose/compose.yaml", "name: dbops-app\nbuild: { dockerfile: app/Dockerfile }\n"),
    file("migrations/20260101090000_tables.sql", "create table t ();\n"),
    file("scripts/up.ts", "#!/usr/bin/env bun\n", true),
    file("templates/app/main.ts", "serve();\n"),
    file("templates/gitignore", ".env\n"),
    file("templates/migrations/20260101090000_start.sql", "select 1;\n"),
    file("templates/package.json", '{"name":"dbops-app","scripts":{},"dependencies":{"postgres":"3.4.9"}}\n'),
  ],
};
const answers: Answers = {
  name: "shop",
  database: "shop",
  domain: "app.example.com",
  image: "ghcr.io/example/shop",
  server: "deploy@app.example.com",
  runtime: "bun",
  app: true,
  with: [],
};
const grown = { ...answers, app: false };
const options = { password: "secret", force: [] };
const environment = localEnvironment({ name: "shop", database: "shop", password: "secret" });

/** A folder that holds exactly these files. */
function folder(files: Record<string, string>, manifest?: Manifest): Observed {
  const all: Record<string, string> = manifest ? { ...files, [manifestPath]: formatManifest(manifest) } : files;
  const paths = Object.keys(all);
  return {
    directory: "/srv/shop",
    empty: paths.length === 0,
    entries: [...new Set(paths.map((path) => path.split("/")[0]!))],
    migrations: paths.filter((path) => path.startsWith("migrations/")).map((path) => path.slice("migrations/".length)),
    manifest,
    read: (path) => all[path],
  };
}

/** The same folder after a plan was applied to it. */
function after(observed: Record<string, string>, plan: Plan): Record<string, string> {
  return {
    ...observed,
    ...Object.fromEntries(plan.files.flatMap(({ write }) => (write ? [[write.path, write.text]] : []))),
  };
}

const actions = (plan: Plan) => Object.fromEntries(plan.files.map(({ path, action }) => [path, action]));
const written = (plan: Plan) =>
  Object.fromEntries(plan.files.flatMap(({ write }) => (write ? [[write.path, write.text]] : [])));

test("an empty folder gets everything, the manifest last", () => {
  const plan = planProject(folder({}), answers, kit, options);
  expect(plan.files.map(({ path, action, write }) => [path, action, write?.mode])).toEqual([
    [".gitignore", "create", 0o644],
    ["app/main.ts", "create", 0o644],
    ["compose.yaml", "create", 0o644],
    ["migrations/20260101090000_tables.sql", "create", 0o644],
    ["package.json", "create", 0o644],
    ["scripts/up.ts", "create", 0o755],
    [".env", "create", 0o600],
    [".dbops/manifest.json", "create", 0o644],
  ]);
  expect(written(plan)["compose.yaml"]).toBe("name: shop\nbuild: { dockerfile: app/Dockerfile }\n");
  expect(written(plan)[".env"]).toBe(environment);
  expect(plan.conflicts).toEqual([]);
});

test("the manifest tells kit, answers and hashes, never a secret, and opens with no hashes at all", () => {
  const plan = planProject(folder({}), answers, kit, options);
  const manifest = JSON.parse(written(plan)[manifestPath]!);
  expect(manifest).toMatchObject({ kit: "1.2.3", answers });
  expect(Object.keys(manifest.files)).not.toContain(".env");
  expect(manifest.files["app/main.ts"]).toBe(new Bun.CryptoHasher("sha256").update("serve();\n").digest("hex"));
  expect(JSON.parse(plan.opening!.text)).toEqual({ kit: "1.2.3", answers, files: {} });
});

test("the same folder again: nothing to do", () => {
  const plan = planProject(folder({}), answers, kit, options);
  const again = planProject(folder(after({}, plan), JSON.parse(written(plan)[manifestPath]!)), answers, kit, {
    ...options,
    password: "another",
  });
  expect(new Set(Object.values(actions(again)))).toEqual(new Set(["same"]));
  expect(again.opening).toBeUndefined();
  expect(formatPlan("shop", again)).toBe("==> shop: nothing to do, everything is there");
});

test("cut off anywhere: the second run ends with the very same files", () => {
  const plan = planProject(folder({}), answers, kit, options);
  const writes = [plan.opening!, ...plan.files.flatMap(({ write }) => write ?? [])];
  for (let cut = 1; cut < writes.length; cut++) {
    const left = Object.fromEntries(writes.slice(0, cut).map(({ path, text }) => [path, text]));
    const manifest = JSON.parse(left[manifestPath]!);
    const second = planProject(folder(left, manifest), manifest.answers, kit, options);
    expect(after(left, second)).toEqual(after({}, plan));
  }
});

const theirs = {
  ".gitignore": "dist\n",
  "compose.yaml": "services: {}\n",
  "docker-compose.yml": "services: {}\n",
  "migrations/001_theirs.sql": "create table theirs ();\n",
  "package.json": '{\n  "name": "theirs",\n  "dependencies": {\n    "postgres": "2.0.0"\n  }\n}\n',
  ".env": "A=1\n",
};

test("a project of theirs: nothing overwritten, ours merged or beside, no starter", () => {
  const plan = planProject(folder(theirs), grown, kit, options);
  expect(actions(plan)).toEqual({
    ".gitignore": "merge",
    "compose.yaml": "beside",
    "package.json": "merge",
    "scripts/up.ts": "create",
    ".env": "beside",
    ".dbops/manifest.json": "create",
  });
  const files = written(plan);
  expect(files["compose.yaml.dbops"]).toBe("name: shop\nbuild: { dockerfile: Dockerfile }\n");
  expect(files[".env.dbops"]).toBe(environment);
  expect(files["package.json"]).toBe(
    '{\n  "name": "theirs",\n  "dependencies": {\n    "postgres": "2.0.0"\n  },\n  "scripts": {\n    "up": "bun scripts/up.ts"\n  }\n}\n',
  );
  expect(Object.keys(files).filter((path) => path in theirs)).toEqual([".gitignore", "package.json"]);
  expect(plan.files.find(({ path }) => path === ".env")!.write!.mode).toBe(0o600);
});

test("what a person is told about it", () => {
  const plan = planProject(folder(theirs), grown, kit, options);
  const circumstances = {
    answers: grown,
    manager: "pnpm" as const,
    directory: "my shop",
    hasRuntime: true,
    needsInstall: true,
    observed: folder(theirs),
  };
  expect(formatSummary("/srv/shop", plan)).toBe(
    [
      "==> /srv/shop: 2 files created",
      "  merge      .gitignore",
      "  beside     compose.yaml.dbops (yours stays)",
      "  merge      package.json",
      "  beside     .env.dbops (yours stays)",
    ].join("\n"),
  );
  expect(formatNext(nextCommands(plan, circumstances), nextNotes(plan, circumstances))).toBe(
    [
      "==> to know",
      '  package.json: dependencies.postgres stays "2.0.0", the kit has "3.4.9"',
      "  compose.yaml is yours: `up` starts it as it is, so take over compose.yaml.dbops first",
      "  .env lacks names that Compose needs: take them over from .env.dbops",
      "  docker-compose.yml is no longer read: Docker Compose takes compose.yaml",
      "  no starter app was added: compose.yaml builds yours from a Dockerfile at the project's root",
      "  your app listens on 0.0.0.0 and the port in PORT (3000), and stops on SIGTERM",
      "  your app answers /health and /health/ready: healthRoutes() of scripts/validator.ts does it",
      "  your Dockerfile has a HEALTHCHECK that asks /health/ready: nginx waits for it",
      "  set app.command and schema.criticalTables in dbops.config.ts, and write your tables into migrations/",
      "==> next",
      "  cd 'my shop'",
      "  diff compose.yaml compose.yaml.dbops",
      "  pnpm install --no-frozen-lockfile",
      "  pnpm run up",
    ].join("\n"),
  );
  const without = nextCommands(plan, { ...circumstances, hasRuntime: false, needsInstall: false, directory: "." });
  expect(without.at(-1)).toBe("pnpm dlx bun scripts/up.ts");
});

const withDeno = { ...kit, files: [...kit.files, file("templates/deno.json", '{"tasks":{}}\n')] };
const theirUp = '{"scripts":{"up":"vite"},"tasks":{"up":"vite"}}\n';
const compose = "docker compose up";
const denoUp = "deno run -A scripts/up.ts";

const situations: { title: string; files: Record<string, string>; said: Answers; deno?: true; next: string[] }[] = [
  { title: "new, with the starter app", files: {}, said: answers, next: [compose, "npm run up"] },
  { title: "new, for Deno", files: {}, said: answers, deno: true, next: [compose, "deno task up"] },
  { title: "no Dockerfile yet", files: {}, said: grown, next: ["npm run up"] },
  {
    title: "their .env",
    files: { ".env": "A=1\n" },
    said: answers,
    next: ["npm run up"],
  },
  {
    title: "their compose.yaml",
    files: { "compose.yaml": "services: {}\n" },
    said: answers,
    next: ["diff compose.yaml compose.yaml.dbops", "npm run up"],
  },
  { title: "their script `up`", files: { "package.json": theirUp }, said: grown, next: ["bun scripts/up.ts"] },
  {
    title: "their scripts are no object",
    files: { "package.json": '{"scripts":[]}\n' },
    said: grown,
    next: ["bun scripts/up.ts"],
  },
  {
    title: "their script `up` does not matter to Deno",
    files: { "package.json": theirUp },
    said: grown,
    deno: true,
    next: ["deno task up"],
  },
  { title: "their task `up`", files: { "deno.json": theirUp }, said: grown, deno: true, next: [denoUp] },
  {
    title: "their deno.jsonc, whatever it holds",
    files: { "deno.jsonc": `// a comment\n${theirUp}` },
    said: grown,
    deno: true,
    next: ["diff deno.jsonc deno.jsonc.dbops", denoUp],
  },
];

test.each(situations)("next: $title", ({ files, said, deno, next }) => {
  const chosen: Answers = { ...said, runtime: deno ? "deno" : "bun" };
  const circumstances = {
    answers: chosen,
    manager: deno ? ("deno" as const) : ("npm" as const),
    directory: ".",
    hasRuntime: true,
    needsInstall: false,
  };
  const plan = planProject(folder(files), chosen, withDeno, options);
  expect(nextCommands(plan, { ...circumstances, observed: folder(files) })).toEqual(next);

  // A second time, when the plan writes nothing: the same, until ours is taken over.
  const left = folder(after(files, plan), JSON.parse(written(plan)[manifestPath]!));
  const again = planProject(left, chosen, withDeno, options);
  expect(written(again)).toEqual({});
  expect(nextCommands(again, { ...circumstances, observed: left })).toEqual(next);
});

test("a new bunfig.toml among their files is told about: Bun no longer loads their .env", () => {
  const withBun = { ...kit, files: [...kit.files, file("templates/bunfig.toml", "env = false\n")] };
  const notes = (files: Record<string, string>, said: Answers) => {
    const observed = folder(files);
    const plan = planProject(observed, said, withBun, options);
    const circumstances = { answers: said, manager: "bun" as const, directory: ".", hasRuntime: true };
    const all = nextNotes(plan, { ...circumstances, needsInstall: false, observed });
    return all.filter((note) => note.startsWith("bunfig.toml"));
  };
  expect(notes({ "src/index.ts": "" }, grown)).toEqual([
    "bunfig.toml is new: with its env = false Bun no longer loads .env by itself; your own scripts need bun --env-file=.env",
  ]);
  expect(notes({ "bunfig.toml": "\n" }, grown)).toEqual([
    "bunfig.toml needs env = false: Bun's own .env loader rewrites $ in values",
  ]);
  expect(notes({}, answers)).toEqual([]);
});

test("theirs, a second time: what was declined is not offered again, whatever they did with it", () => {
  const plan = planProject(folder(theirs), grown, kit, options);
  const manifest = JSON.parse(written(plan)[manifestPath]!);
  const left = after(theirs, plan);
  const { "compose.yaml.dbops": _merged, ...cleaned } = left;
  const edited = { ...cleaned, "scripts/up.ts": "// theirs now\n", ".env": environment };
  const { "scripts/up.ts": _removed, ...removed } = cleaned;
  for (const state of [left, edited, removed]) {
    const again = planProject(folder(state, manifest), grown, kit, options);
    expect(written(again)).toEqual({});
  }
});

test("theirs without migrations get one that changes nothing, for dbmate and the validator", () => {
  const { "migrations/001_theirs.sql": _theirs, ...without } = theirs;
  const plan = planProject(folder(without), grown, kit, options);
  expect(written(plan)["migrations/20260101090000_start.sql"]).toBe("select 1;\n");
  const manifest = JSON.parse(written(plan)[manifestPath]!);
  // Once it is applied somewhere it stays part of the project, beside whatever they add.
  const later = { ...after(without, plan), "migrations/2027_theirs.sql": "" };
  expect(written(planProject(folder(later, manifest), grown, kit, options))).toEqual({});
});

test("a newer kit lands beside, also where they have changed nothing", () => {
  const plan = planProject(folder({}), answers, kit, options);
  const manifest = JSON.parse(written(plan)[manifestPath]!);
  const newer = {
    version: "1.3.0",
    files: kit.files.map((f) => (f.path === "scripts/up.ts" ? { ...f, text: "// new\n" } : f)),
  };
  const second = planProject(folder(after({}, plan), manifest), answers, newer, options);
  expect(Object.keys(written(second))).toEqual(["scripts/up.ts.dbops", manifestPath]);
  expect(JSON.parse(written(second)[manifestPath]!).kit).toBe("1.3.0");
});

test("--force overwrites that file and no other", () => {
  const state = { ...theirs, "scripts/up.ts": "// theirs\n" };
  const plan = planProject(folder(state), grown, kit, { ...options, force: ["compose.yaml"] });
  expect(actions(plan)).toMatchObject({
    "compose.yaml": "overwrite",
    "scripts/up.ts": "beside",
    ".gitignore": "merge",
  });
  expect(written(plan)["compose.yaml"]).toContain("name: shop");
});

test("--force brings back a file that was removed", () => {
  const plan = planProject(folder({}), answers, kit, options);
  const { "scripts/up.ts": _removed, ...left } = after({}, plan);
  const manifest = manifestOf("1.2.3", answers, renderProject(kit, answers));
  const again = planProject(folder(left, manifest), answers, kit, { ...options, force: ["scripts/up.ts"] });
  expect(Object.keys(written(again))).toEqual(["scripts/up.ts"]);
});

test("a deno.jsonc is not shadowed by a deno.json", () => {
  const plan = planProject(folder({ "deno.jsonc": "{ /* theirs */ }\n" }), grown, withDeno, options);
  expect(actions(plan)).toMatchObject({ "deno.jsonc": "beside" });
  expect(Object.keys(written(plan))).toContain("deno.jsonc.dbops");
  expect(Object.keys(written(plan))).not.toContain("deno.json");
});

test.each([
  { userAgent: "npm/11.0.0 node/v24", entries: [], expected: "npm" },
  { userAgent: "pnpm/10.0.0 npm/?", entries: [], expected: "pnpm" },
  { userAgent: "yarn/1.22.22 npm/?", entries: [], expected: "yarn" },
  { userAgent: "bun/1.4.5 npm/?", entries: [], expected: "bun" },
  { userAgent: "deno/2.9.6 npm/?", entries: [], expected: "deno" },
  { userAgent: "npm/11.0.0", entries: ["pnpm-lock.yaml"], expected: "pnpm" },
  { userAgent: "npm/11.0.0", entries: ["bun.lock", "package-lock.json"], expected: "npm" },
  { userAgent: "", entries: ["yarn.lock"], expected: "yarn" },
  { userAgent: "npm/11.0.0", entries: [], runtime: "deno", onPath: ["deno"], expected: "npm" },
  { userAgent: "", entries: ["bun.lock"], runtime: "deno", onPath: ["bun", "deno"], expected: "bun" },
  { userAgent: "", entries: [], runtime: "deno", onPath: ["bun", "deno"], expected: "deno" },
  { userAgent: "", entries: [], runtime: "bun", onPath: ["bun", "deno"], expected: "bun" },
  { userAgent: "", entries: [], runtime: "bun", onPath: ["deno"], expected: "deno" },
  { userAgent: "", entries: [], runtime: "deno", onPath: ["bun"], expected: "bun" },
  { userAgent: "", entries: [], runtime: "deno", onPath: [], expected: "npm" },
] as const)("detectPackageManager() %j", ({ expected, ...given }) => {
  const { userAgent, entries, runtime, onPath } = { runtime: "bun" as const, onPath: [], ...given };
  const isOnPath = (program: string) => (onPath as readonly string[]).includes(program);
  expect(detectPackageManager({ userAgent, entries, runtime, isOnPath })).toBe(expected);
});

test("package managers are spelled so that nothing else happens", () => {
  expect(installCommand("npm")).toEqual(["npm", "install"]);
  expect(runCommand("yarn", "up")).toBe("yarn run up");
  expect(runCommand("deno", "up")).toBe("deno task up");
});
