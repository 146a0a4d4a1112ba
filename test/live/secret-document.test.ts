// The providers that print all values as one document: `aws` for real, the others through doubles; one process each.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { readEnvironment } from "../../scripts/lib/environment.ts";
import { run } from "../../scripts/lib/run.ts";
import { startAws } from "../lab/aws.ts";
import { linkPackages, type ProjectFiles, writeProjectFiles } from "../lab/project-files.ts";
import { barePath, type Double, placeDouble } from "../lab/providers.ts";
import { runTypeScript } from "../lab/starter.ts";

setDefaultTimeout(180_000);

const password = 'p$x "q" #h é \\n';
let files: ProjectFiles;
beforeAll(async () => {
  files = await writeProjectFiles();
  await linkPackages(files.directory);
  const template = await readFile(join(files.directory, ".env.tpl"), "utf8");
  await files.write(
    ".env.tpl",
    template.replace(/op:\/\/.*password$/m, "secret://PASSWORD").replace(/op:\/\/.*/, "secret://TOKEN"),
  );
});
afterAll(() => rm(files.directory, { recursive: true }));

/** `secrets` with this provider in dbops.config.ts. */
async function secrets(settings: object, environment: Record<string, string | undefined>, word = "inject") {
  const config = await readFile(join(files.directory, "dbops.config.ts"), "utf8");
  const line = `  secrets: ${JSON.stringify(settings)},\n} satisfies Config;`;
  await files.write(
    "dbops.config.ts",
    config.replace(/( {2}secrets: .*\n)?\} satisfies Config;/, () => line),
  );
  return await run({
    argv: [...runTypeScript("bun", "scripts/secrets.ts"), word],
    directory: files.directory,
    environment,
    accept: [0, 1, 2, 3],
  });
}

const values = async () => await readEnvironment(join(files.directory, ".env.production"));
const document = { PASSWORD: password, TOKEN: "a-token", OTHER: "not asked for" };

type Row = { settings: { provider: string } & Record<string, string>; double: Double };
const rows: Row[] = [
  {
    settings: { provider: "sops", file: "secrets.enc.json" },
    double: { words: "-d --output-type json secrets.enc.json", stdout: JSON.stringify(document) },
  },
  {
    settings: { provider: "vault", path: "shop/production" },
    double: {
      words: "kv get -format=json -mount=secret shop/production",
      stdout: JSON.stringify({ request_id: "1", data: { data: document, metadata: { version: 2 } } }),
    },
  },
  {
    settings: { provider: "doppler", project: "shop", config: "prd" },
    double: {
      words: "secrets download --no-file --format json --project shop --config prd",
      stdout: JSON.stringify(document),
    },
  },
  {
    settings: { provider: "infisical", project: "1f-2e" },
    double: {
      words: "export --format=json --env=prod --path=/ --projectId=1f-2e",
      stdout: JSON.stringify(Object.entries(document).map(([key, value]) => ({ key, value, type: "shared" }))),
    },
  },
];

describe.each(rows)("$settings.provider", ({ settings, double }) => {
  test("one process, and the values as they are", async () => {
    const placed = await placeDouble(settings.provider, double);
    const { stdout, stderr } = await secrets(settings, { PATH: placed.PATH });
    expect({ stdout, stderr }).toEqual({ stdout: "wrote .env.production: 8 values\n", stderr: "" });
    expect(await values()).toMatchObject({ POSTGRES_PASSWORD: password, HEALTH_TOKEN: "a-token" });
    expect(await readFile(join(placed.folder, "calls"), "utf8")).toBe(`${double.words}\n`);
    await placed.remove();
  });

  test("what it prints before it fails is not shown; what it says on stderr is", async () => {
    const placed = await placeDouble(settings.provider, { ...double, stderr: "some reason\n", exitCode: 3 });
    const { stdout, stderr, exitCode } = await secrets(settings, { PATH: placed.PATH });
    expect(stderr).toStartWith(
      `Cannot read secrets from ${settings.provider}: "${settings.provider}" refused\n  | some reason\n`,
    );
    expect(stdout + stderr).not.toContain("a-token");
    expect(exitCode).toBe(1);
    await placed.remove();
  });

  test("it is not installed", async () => {
    const bare = await barePath();
    const { stderr, exitCode } = await secrets(settings, { PATH: bare.PATH });
    await bare.remove();
    expect(
      stderr,
    ).toBe(`Cannot read secrets from ${settings.provider}: "${settings.provider}" is not installed, or not on PATH
  next: ${settings.provider} --version
  read: docs/secrets.md
`);
    expect(exitCode).toBe(2);
  });
});

describe("aws", () => {
  const settings = { provider: "aws", secret: "shop/production", region: "eu-central-1" };

  test.each([
    ["JSON", JSON.stringify(document)],
    ["lines", `PASSWORD='${password}'\nTOKEN=a-token\n`],
  ])("the real program, a secret of %s", async (_, text) => {
    const aws = await startAws({ "shop/production": text });
    const { stdout, stderr } = await secrets(settings, aws.environment);
    expect({ stdout, stderr }).toEqual({ stdout: "wrote .env.production: 8 values\n", stderr: "" });
    expect(await values()).toMatchObject({ POSTGRES_PASSWORD: password, HEALTH_TOKEN: "a-token" });
    expect(aws.asked).toEqual(["shop/production"]);
    await aws.stop();
  });

  test("no such secret, and no credentials", async () => {
    const aws = await startAws({});
    const absent = await secrets(settings, aws.environment);
    expect(absent.stderr).toStartWith(
      "Cannot read secrets from aws: there is nothing at the place that dbops.config.ts names\n",
    );
    expect(absent.exitCode).toBe(2);
    const nobody = { AWS_ACCESS_KEY_ID: undefined, AWS_SECRET_ACCESS_KEY: undefined };
    const refused = await secrets(settings, { ...aws.environment, ...nobody });
    expect(refused.stderr).toStartWith("Cannot read secrets from aws: it lets nobody in with what is set here\n");
    expect(refused.exitCode).toBe(2);
    await aws.stop();
  });
});

describe("env", () => {
  const settings = { provider: "env" };

  test("this process's own environment, and a name that is not in it", async () => {
    const both = { PASSWORD: password, TOKEN: "a-token" };
    expect((await secrets(settings, both)).exitCode).toBe(0);
    expect(await values()).toMatchObject({ POSTGRES_PASSWORD: password, HEALTH_TOKEN: "a-token" });
    const { stdout, exitCode } = await secrets(settings, { PASSWORD: password, TOKEN: undefined }, "check");
    expect(stdout).toBe(`good   POSTGRES_PASSWORD  secret://PASSWORD
wrong  HEALTH_TOKEN       secret://TOKEN  → the provider has no such name
1 of 7 values cannot be used
`);
    expect(exitCode).toBe(3);
  });
});
