// The kit as it lies here: everything in it lands in a project or is known to stay, and every variant renders.
import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Answers } from "../create/answers.ts";
import { isUnder, landing, landingOf, readKit, staysInTheKit } from "../create/kit.ts";
import { renderProject, withProjectValues } from "../create/render.ts";
import { run } from "../scripts/lib/run.ts";
import { repository } from "./lab/repository.ts";

const kit = readKit(repository);
const answers: Answers = {
  name: "shop",
  database: "shop_db",
  domain: "shop.example.org",
  image: "registry.example.org/team/shop",
  server: "ops@shop.example.org",
  runtime: "bun",
  app: true,
  with: [],
};
const variants = (["bun", "deno"] as const).flatMap((runtime) =>
  [true, false].map((app) => ({ ...answers, runtime, app })),
);
const projectOf = (variant: Answers) => new Map(renderProject(kit, variant).map((file) => [file.path, file]));

test("every file of the repository is in the payload, or known to stay in the kit", async () => {
  const listed = await run({
    argv: ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
    directory: repository,
  });
  const files = listed.stdout.split("\0").filter(Boolean);
  const carried = new Set(kit.files.map(({ path }) => path));
  expect(files.length).toBeGreaterThan(carried.size);
  const unknown = files.filter((path) => !carried.has(path) && !staysInTheKit.some((from) => isUnder(path, from)));
  // Not in the work tree any more: removed, and the removal not yet committed.
  const gone = new Set(
    (await run({ argv: ["git", "ls-files", "-d", "-z"], directory: repository })).stdout.split("\0"),
  );
  expect(unknown.filter((path) => !gone.has(path))).toEqual([]);
});

test("the scaffolder starts programs with start() only: run() needs zx, which the bundle leaves out", () => {
  const importing = readdirSync(join(repository, "create")).flatMap((name) => {
    const text = readFileSync(join(repository, "create", name), "utf8");
    return /import \{([^}]*)\} from "\.\.\/scripts\/lib\/run\.ts"/.exec(text)?.[1]?.split(",") ?? [];
  });
  expect(importing.map((name) => name.trim()).sort()).toEqual(["start", "type Running"]);
});

test("no entry of the landing list is out of reach", () => {
  const shadowed = landing.filter(({ from }) => landingOf(from.endsWith("/") ? `${from}x` : from)?.from !== from);
  expect(shadowed).toEqual([]);
});

test.each(variants)("renders for $runtime, starter app: $app", (variant) => {
  const project = projectOf(variant);
  const rendered = [...project.values()].filter(({ path }) => !/^(scripts|migrations)\//.test(path));
  const leftOver = rendered.filter(({ text }) => /dbops-app|dbops_app|app\.example\.com|ghcr\.io\/example/.test(text));
  expect(leftOver.map(({ path }) => path)).toEqual([]);
  expect(project.get("compose.yaml")!.text).toContain("\nname: shop\n");
  expect(project.get("compose.yaml")!.text).toContain(`dockerfile: ${variant.app ? "app/Dockerfile" : "Dockerfile"}`);
  expect(project.has("app/main.ts")).toBe(variant.app);
  expect([...project.keys()].filter((path) => /^(app|compose\/app)\/.*\.(bun|deno)$/.test(path))).toEqual([]);
  // dbmate fails on an empty folder, and "never migrated" must differ from "migrated".
  expect([...project.keys()].some((path) => /^migrations\/\d+_\w+\.sql$/.test(path))).toBe(true);
  expect(project.has("migrations/20260101090000_start.sql")).toBe(!variant.app);
});

test.each(variants)("dbops.config.ts fits: $runtime, starter app: $app", (variant) => {
  const text = projectOf(variant).get("dbops.config.ts")!.text;
  const javascript = new Bun.Transpiler({ loader: "ts" }).transformSync(text);
  const config = new Function(javascript.replace("export default", "return"))();
  expect(config).toMatchObject({
    name: "shop",
    database: "shop_db",
    app: { command: { 0: variant.runtime } },
    environments: {
      production: { server: "ops@shop.example.org", domain: "shop.example.org", directory: "/opt/shop" },
    },
  });
  expect(config.environments.production.image).toBe("registry.example.org/team/shop");
  expect(config.schema.criticalTables.length > 0).toBe(variant.app);
});

test("scripts and migrations land byte for byte, with their modes", () => {
  const project = projectOf(answers);
  const verbatim = kit.files.filter(({ path }) => /^(scripts|migrations)\//.test(path));
  expect(verbatim.length).toBeGreaterThan(10);
  for (const { path, text, executable } of verbatim.filter(({ path }) => !path.startsWith("migrations/tenants/"))) {
    expect(project.get(path)).toEqual({ path, text, mode: executable ? 0o755 : 0o644 });
  }
});

test("every verb is a script and a task", () => {
  const verbs = kit.files.flatMap(({ path }) => /^scripts\/([a-z-]+)\.ts$/.exec(path)?.[1] ?? []);
  const project = projectOf({ ...answers, runtime: "deno" });
  const tasks = Object.fromEntries(verbs.map((verb) => [verb, `deno run -A scripts/${verb}.ts`]));
  expect(JSON.parse(project.get("package.json")!.text).scripts).toEqual(tasks);
  expect(JSON.parse(project.get("deno.json")!.text).tasks).toEqual(tasks);
  expect(JSON.parse(projectOf(answers).get("package.json")!.text).scripts.up).toBe("bun scripts/up.ts");
});

test("a project gets the versions that the kit is tested with", () => {
  const read = (path: string) => JSON.parse(readFileSync(join(repository, path), "utf8"));
  const tested = read("package.json").devDependencies;
  const project = read("templates/package.json");
  for (const [name, version] of Object.entries({ ...project.dependencies, ...project.devDependencies })) {
    expect({ name, version }).toEqual({ name, version: tested[name] });
  }
  for (const [name, target] of Object.entries(read("templates/deno.json").imports)) {
    expect({ name, target }).toEqual({ name, target: `npm:${name}@${tested[name]}` });
  }
});

test.each([
  ["dbops-app and dbops_app, dbops-app-postgres-1", "shop and shop_db, shop-postgres-1"],
  ["${POSTGRES_DB:-dbops_app}", "${POSTGRES_DB:-shop_db}"],
  ["https://app.example.com/ of deploy@app.example.com", "https://shop.example.org/ of ops@shop.example.org"],
  ["ghcr.io/example/dbops-app:1", "registry.example.org/team/shop:1"],
  ["create-dbops-app, dbops-apps, my_dbops_app", "create-dbops-app, dbops-apps, my_dbops_app"],
])("withProjectValues(%p) is %p", (text, replaced) => expect(withProjectValues(text, answers)).toBe(replaced));

test("withProjectValues() never replaces what it has put there", () => {
  const names = { ...answers, name: "dbops_app", database: "dbops-app", domain: "dbops-app", image: "dbops_app" };
  expect(withProjectValues("dbops-app dbops_app app.example.com ghcr.io/example/dbops-app", names)).toBe(
    "dbops_app dbops-app dbops-app dbops_app",
  );
});
