// `secrets` as people use it: what a provider holds arrives in a container byte for byte, and nowhere else.
import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { readdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { readEnvironment } from "../../scripts/lib/environment.ts";
import { type Result, run, start } from "../../scripts/lib/run.ts";
import { askProgram } from "../../scripts/lib/secret-program.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { type Op, opErrors, startOp } from "../lab/op.ts";
import { allProcesses, argvOf } from "../lab/processes.ts";
import { createProject, type Project } from "../lab/project.ts";
import { linkPackages, type ProjectFiles, writeProjectFiles } from "../lab/project-files.ts";
import { barePath } from "../lab/providers.ts";
import { type Runtime, runTypeScript } from "../lab/starter.ts";

setDefaultTimeout(180_000);

/** Everything that some reader of .env files is known to change, in values that an encoding can carry. */
const nasty = [
  ...[
    "pa$BASE",
    "${BASE}",
    "$$word",
    "pa$$word",
    'esc\\$BASE "x"',
    "a#b",
    "a #b",
    "#start",
    "spaces  inside",
    " around ",
  ],
  ...['double "quotes"', "back\\slash\\n", "\\x41", "$(id)`id`", "!history!", "=equals=", "%41%zz", "it's", "'quoted'"],
  ...["it's a # here", "ünïcödé ✓", "{}[]()<>|&;*?~", "{{ op://production/dbops-app/postgres-password }}", "tab\there"],
];
const uncarried = ["two\nlines", "it's $5", `both ' and "`, "trailing\\", "'`id`"];
const password = 'p$BASE ${x} $$ "q" #h \\n `id` %41 :/?@ é';

let files: ProjectFiles;
let op: Op;
beforeAll(async () => {
  files = await writeProjectFiles();
  await linkPackages(files.directory);
  op = await startOp({ items: [item({ "health-token": "a-health-token" })] });
});
afterAll(async () => {
  await op.stop();
  await rm(files.directory, { recursive: true });
});
afterEach(async () => {
  const items = [item({ "health-token": "a-health-token" })];
  const token = op.environment.OP_SERVICE_ACCOUNT_TOKEN!;
  op.behave({ items, token, error: undefined, readsLeft: 1000, hangs: false, waitsFor: undefined });
  await rm(join(files.directory, ".env.production"), { force: true });
});

const item = (fields: Record<string, string>) => ({
  vault: "production",
  title: "dbops-app",
  fields: { "postgres-password": password, ...fields },
});

type More = { environment?: Record<string, string | undefined>; runtime?: Runtime; directory?: string };

async function secrets(
  words: readonly string[],
  { environment, runtime = "bun", directory }: More = {},
): Promise<Result> {
  return await run({
    argv: [...runTypeScript(runtime, "scripts/secrets.ts"), ...words],
    directory: directory ?? files.directory,
    environment: { ...op.environment, ...environment },
    accept: Array.from({ length: 256 }, (_, code) => code),
  });
}

const written = (name = ".env.production") => readEnvironment(join(files.directory, name));

describe("inject", () => {
  test.each(["bun", "deno"] as const)(
    "under %s: one call of op, a file for its owner alone, nothing shown",
    async (runtime) => {
      const callsBefore = op.calls().length;
      const { stdout, stderr, exitCode } = await secrets(["inject"], { runtime });
      expect({ stdout, stderr, exitCode }).toEqual({
        stdout: "wrote .env.production: 8 values\n",
        stderr: "",
        exitCode: 0,
      });
      expect(
        op
          .calls()
          .slice(callsBefore)
          .map(({ argv }) => argv),
      ).toEqual([["inject"]]);
      expect((await stat(join(files.directory, ".env.production"))).mode & 0o777).toBe(0o600);
      expect(await written()).toEqual({
        DATABASE_URL: `postgres://dbops_app:${encodeURIComponent(password)}@postgres:5432/dbops_app?sslmode=disable`,
        COMPOSE_PATH_SEPARATOR: ":",
        COMPOSE_FILE: "compose.yaml:compose/production.yaml",
        POSTGRES_DB: "dbops_app",
        POSTGRES_USER: "dbops_app",
        POSTGRES_PASSWORD: password,
        DOMAIN: "app.example.com",
        HEALTH_TOKEN: "a-health-token",
      });
    },
  );

  test("while it works, no argument of any process holds a secret or the token, and no environment a secret", async () => {
    const release = join(files.directory, "release-op");
    op.behave({ waitsFor: release });
    const callsBefore = op.calls().length;
    const seen = new Set<string>();
    const look = () => {
      for (const pid of allProcesses()) seen.add(argvOf(pid).join(" ")).add(environmentOf(pid));
    };
    let result: Result | undefined;
    void secrets(["inject"]).then((ended) => {
      result = ended;
    });
    await poll({ seconds: 30, everyMilliseconds: 1 }, async () => {
      look();
      if (op.calls().length > callsBefore && !existsSync(release)) {
        // op is there and waits: once more, now for certain at the time at which it runs.
        look();
        await writeFile(release, "");
      }
      return result;
    });
    await rm(release);
    expect(result?.exitCode).toBe(0);
    const all = [...seen].join("\n");
    expect(all).toContain("op/main.ts inject");
    for (const secret of [password, encodeURIComponent(password), "a-health-token"]) expect(all).not.toContain(secret);
    const inArguments = [...seen].filter((text) => !text.startsWith("environment "));
    expect(inArguments.filter((text) => text.includes(op.environment.OP_SERVICE_ACCOUNT_TOKEN!))).toEqual([]);
  });

  test("--json is one document with names only; --plan asks nobody; --stdout prints the file", async () => {
    const callsBefore = op.calls().length;
    const plan = await secrets(["inject", "--plan", "--json"]);
    expect(JSON.parse(plan.stdout).steps[1]).toBe("write .env.production, readable for you alone");
    expect(op.calls().length).toBe(callsBefore);
    expect(existsSync(join(files.directory, ".env.production"))).toBe(false);
    const asJson = await secrets(["inject", "--json"]);
    expect(JSON.parse(asJson.stdout)).toMatchObject({
      file: ".env.production",
      names: expect.arrayContaining(["DOMAIN"]),
    });
    expect((await secrets(["inject", "--stdout"])).stdout).toBe(
      readFileSync(join(files.directory, ".env.production"), "utf8"),
    );
  });

  test("in GitHub Actions everything secret is masked, and stdout stays one document", async () => {
    const { stdout, stderr } = await secrets(["inject", "--json"], { environment: { GITHUB_ACTIONS: "true" } });
    expect(JSON.parse(stdout).file).toBe(".env.production");
    expect(stderr.split("\n")).toContain(`::add-mask::${password.replaceAll("%", "%25")}`);
    expect(stderr.split("\n")).toContain(`::add-mask::${encodeURIComponent(password).replaceAll("%", "%25")}`);
    expect(stderr).toContain("::add-mask::a-health-token\n");
    expect(stderr).not.toContain("dbops_app\n");
    const others = stderr.split("\n").filter((line) => line && !line.startsWith("::add-mask::"));
    expect(others).toEqual([]);
  });

  test("a file that was not made from .env.tpl is not replaced, one that was is", async () => {
    await writeFile(join(files.directory, ".env"), "POSTGRES_PASSWORD=of-my-own-data\n");
    const refused = await secrets(["inject", "--out", ".env"]);
    expect(refused.exitCode).toBe(5);
    expect(refused.stderr).toBe(`Cannot replace .env: it was not made from .env.tpl, and would be lost
  next: the same command with --out ANOTHER, or with --yes
`);
    expect(await written(".env")).toEqual({ POSTGRES_PASSWORD: "of-my-own-data" });
    expect((await secrets(["inject", "--out", ".env", "--yes"])).exitCode).toBe(0);
    expect((await secrets(["inject", "--out", ".env"])).exitCode).toBe(0);
    await rm(join(files.directory, ".env"));
  });

  test.each(uncarried.map((value) => ({ value })))(
    "%j is refused by name, and nothing is written",
    async ({ value }) => {
      op.behave({ items: [item({ "health-token": value })] });
      const refused = await secrets(["inject"]);
      expect(refused.exitCode).toBe(2);
      expect(refused.stderr).toContain(
        "Cannot use .env.tpl: 1 problem\n  | HEALTH_TOKEN: its value holds a line break, or",
      );
      for (const line of value.split("\n")) expect(refused.stdout + refused.stderr).not.toContain(line);
      expect((await readdir(files.directory)).filter((name) => name.startsWith(".env."))).toEqual([".env.tpl"]);
    },
  );

  test.each<[string, Partial<Parameters<Op["behave"]>[0]>, string, number]>([
    ["out of reads", { readsLeft: 0 }, "its limit of reads is used up, and there are new ones in 59 minutes", 1],
    ["signed out", { error: opErrors.signedOut }, "op is not signed in", 2],
    ["a deleted account", { error: opErrors.forbidden }, "the account may not read this", 2],
    ["an old token", { token: "ops_another" }, "the token is not accepted", 2],
    ["an unknown error", { error: opErrors.unheardOf }, "op refused", 1],
  ])("%s: the sentence, the exit code, and the old file stays", async (_, behaviour, sentence, exitCode) => {
    await secrets(["inject"]);
    const old = await written();
    op.behave(behaviour);
    const refused = await secrets(["inject"]);
    expect(refused.stderr).toContain(`Cannot read secrets from 1Password: ${sentence}`);
    expect(refused.exitCode).toBe(exitCode);
    expect(refused.stdout).toBe("");
    expect(await written()).toEqual(old);
  });

  test("no op on PATH", async () => {
    const bare = await barePath();
    const { stderr, exitCode } = await secrets(["inject"], { environment: { PATH: bare.PATH } });
    await bare.remove();
    expect(stderr).toContain('Cannot read secrets from 1Password: "op" is not installed, or not on PATH\n');
    expect(exitCode).toBe(2);
  });

  test("an op that hangs is given up", async () => {
    op.behave({ hangs: true });
    const command = { argv: ["op", "inject"], stdin: "x", environment: op.environment, timeoutSeconds: 0.5 };
    expect(await askProgram(command)).toEqual({ kind: "slow", stderr: "" });
  });
});

describe("check", () => {
  test("all good: one call, exit 0", async () => {
    const callsBefore = op.calls().length;
    const { stdout, stderr, exitCode } = await secrets(["check"]);
    expect({ stdout, stderr, exitCode }).toEqual({
      stdout: `good   POSTGRES_PASSWORD  op://production/dbops-app/postgres-password
good   HEALTH_TOKEN       op://production/dbops-app/health-token
all 7 values can be used
`,
      stderr: "",
      exitCode: 0,
    });
    expect(op.calls().length).toBe(callsBefore + 1);
  });

  test("one is missing: which, why, exit 3; the others are looked at as well", async () => {
    op.behave({ items: [item({})] });
    const { stdout, exitCode } = await secrets(["check", "--json"]);
    expect(exitCode).toBe(3);
    const { ok, provider, values } = JSON.parse(stdout);
    expect({ ok, provider }).toEqual({ ok: false, provider: "op" });
    expect(values.slice(-3)).toEqual([
      { name: "POSTGRES_PASSWORD", references: ["op://production/dbops-app/postgres-password"] },
      { name: "DOMAIN", references: [] },
      {
        name: "HEALTH_TOKEN",
        references: ["op://production/dbops-app/health-token"],
        problem: 'item "production/dbops-app" has no field or section "health-token"',
      },
    ]);
    expect(stdout).not.toContain(password);
  });

  test("two items of one name", async () => {
    op.behave({ items: [item({}), item({})] });
    const { stdout, exitCode } = await secrets(["check"]);
    expect(stdout.match(/→ more than one item is named "dbops-app"/g)).toHaveLength(2);
    expect(exitCode).toBe(3);
  });

  test("nobody answers: no verdict on any, exit as of inject", async () => {
    op.behave({ error: opErrors.signedOut });
    const { stdout, stderr, exitCode } = await secrets(["check"]);
    expect(stdout).toBe("");
    expect(stderr).toContain("op is not signed in");
    expect(exitCode).toBe(2);
  });
});

describe("run", () => {
  test.each(["bun", "deno"] as const)(
    "under %s: values in the environment, hidden in the output, its exit code",
    async (runtime) => {
      const script =
        'echo "is $HEALTH_TOKEN"; printf "%s\\n" "$POSTGRES_PASSWORD" | base64 -w 0 >&2; printf "no end: $HEALTH_TOKEN"; cat; exit 7';
      const { stdout, stderr, exitCode } = await secrets(["run", "--", "sh", "-c", script], { runtime });
      expect(stdout).toBe("is [secret]\nno end: [secret]\n");
      expect(stderr).toMatch(/^\[secret\].{0,4}\n$/);
      expect(exitCode).toBe(7);
      const same = await secrets(["run", "--", "sh", "-c", `test "$HEALTH_TOKEN" = a-health-token`], { runtime });
      expect(same.exitCode).toBe(0);
    },
  );

  test("everything that was written arrives, however much", async () => {
    const command = 'seq 1 60000; echo "$HEALTH_TOKEN"';
    const argv = [...runTypeScript("bun", "scripts/secrets.ts"), "run", "--", "sh", "-c", command];
    // A reader that is slower than the writer, which has long come to its end then.
    const reader = 'while IFS= read -r line; do printf "%s\\n" "$line"; done';
    const piped = ["bash", "-c", `{ "$@"; echo $? >&2; } | ${reader}`, "bash", ...argv];
    const { stdout, stderr } = await run({ argv: piped, directory: files.directory, environment: op.environment });
    expect(stdout.split("\n").length).toBe(60002);
    expect(stdout.endsWith("60000\n[secret]\n")).toBe(true);
    expect(stderr).toBe("0\n");
  });

  test("another template, which need not suit a server; and a flag of the command is not ours", async () => {
    await files.write(".env.local.tpl", "TOKEN='op://production/dbops-app/health-token'\n");
    const { stdout } = await secrets([
      "run",
      "--template",
      ".env.local.tpl",
      "--",
      "env",
      "--unset=X",
      "sh",
      "-c",
      'echo "<$TOKEN>"',
    ]);
    expect(stdout).toBe("<[secret]>\n");
    await rm(join(files.directory, ".env.local.tpl"));
  });

  test("a signal is handed on, and the command says how it ends", async () => {
    const lines: string[] = [];
    const program = await start({
      argv: [
        ...runTypeScript("bun", "scripts/secrets.ts"),
        ...["run", "--", "sh", "-c", 'trap "echo stopping; exit 9" TERM; echo ready; while :; do sleep 0.05; done'],
      ],
      directory: files.directory,
      environment: op.environment,
      onLine: (line) => lines.push(line),
    });
    await poll({ seconds: 30 }, async () => lines.includes("ready") || undefined);
    process.kill(program.pid, "SIGTERM");
    expect(await program.ended).toBe(9);
    expect(lines).toEqual(["ready", "stopping"]);
  });

  test("a command that a signal ended, and one that is not there", async () => {
    expect((await secrets(["run", "--", "sh", "-c", "kill -KILL $$"])).exitCode).toBe(137);
    const missing = await secrets(["run", "--", "no-such-program"]);
    expect(missing.stderr).toContain('"no-such-program" is not installed, or not on PATH');
    expect(missing.exitCode).toBe(1);
  });
});

describe("in a container", () => {
  let project: Project;
  afterAll(() => project?.remove());

  test("every value is what it is at the provider, byte for byte", async () => {
    project = await createProject();
    await linkPackages(project.directory);
    const names = nasty.map((_, index) => `OWN_${index}`);
    op.behave({ items: [item(Object.fromEntries(nasty.map((value, index) => [names[index]!, value])))] });
    const references = names.map((name) => `${name}='op://production/dbops-app/${name}'`);
    const template = [
      "COMPOSE_FILE=witness.yaml",
      "POSTGRES_DB=app",
      "POSTGRES_USER=it's me",
      "DOMAIN=localhost",
      "BASE=base",
    ];
    const passwordLine = "POSTGRES_PASSWORD=op://production/dbops-app/postgres-password";
    await project.write(".env.tpl", [...template, passwordLine, ...references].join("\n"));
    const passed = [...names, "POSTGRES_PASSWORD", "POSTGRES_USER", "DATABASE_URL"];
    const environment = passed.map((name) => `      ${name}: \${${name}?}`).join("\n");
    await project.write(
      "witness.yaml",
      `services:\n  witness:\n    image: nginx:1.30-alpine\n    entrypoint: [cat, /proc/self/environ]\n    environment:\n${environment}\n`,
    );

    const injected = await secrets(["inject", "--out", ".env", "--yes"], { directory: project.directory });
    expect(injected.exitCode).toBe(0);
    const { stdout } = await project.compose(["run", "--rm", "--no-TTY", "witness"]);

    const pairs = stdout
      .split("\0")
      .map((entry) => [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)]);
    const inside: Record<string, string> = Object.fromEntries(pairs);
    expect(names.map((name) => inside[name])).toEqual(nasty);
    expect(inside.POSTGRES_PASSWORD).toBe(password);
    const url = new URL(inside.DATABASE_URL!);
    expect([url.username, url.password].map(decodeURIComponent)).toEqual(["it's me", password]);
    expect([url.host, url.pathname, url.search]).toEqual(["postgres:5432", "/app", "?sslmode=disable"]);
  });
});

function environmentOf(pid: number): string {
  try {
    return `environment ${readFileSync(`/proc/${pid}/environ`, "utf8").replaceAll("\0", "\n")}`;
  } catch {
    // It ended while we looked.
    return "";
  }
}
