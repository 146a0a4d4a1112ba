// The fake op of test/lab, held against 1Password's own client of the program, and used by it for every error there is.
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inject, item, read, setServiceAccount, validateCli, vault, version } from "@1password/op-js";
import { run } from "../../scripts/lib/run.ts";
import { type Op, opErrors, startOp } from "../lab/op.ts";

setDefaultTimeout(60_000);

const password = "p$HOME \"q\" 's' #h \\n é";
const items = [
  { vault: "Production", title: "My App", fields: { password, "admin/password": "second\nline" } },
  { vault: "Production", title: "twice", fields: { password: "one" } },
  { vault: "Production", title: "twice", fields: { password: "two" } },
  { vault: "Other", title: "db", fields: { url: "postgres://x" } },
];

let op: Op;
let folder: string;
const before = { ...process.env };
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "dbops-secret-op-"));
  op = await startOp({ items });
  // op-js starts op with this process's own environment.
  process.env.PATH = op.environment.PATH;
  setServiceAccount(op.environment.OP_SERVICE_ACCOUNT_TOKEN!);
});
afterAll(async () => {
  process.env.PATH = before.PATH;
  await op.stop();
  await rm(folder, { recursive: true });
});
afterEach(() => op.behave({ error: undefined, readsLeft: 1000, hangs: false }));

/** As people call it. */
async function call(
  words: readonly string[],
  more: { stdin?: string; environment?: Record<string, string | undefined> } = {},
) {
  const environment = { ...op.environment, ...more.environment };
  const accept = Array.from({ length: 256 }, (_, code) => code);
  return await run({ argv: ["op", ...words], environment, accept, ...(more.stdin && { stdin: more.stdin }) });
}

test("op-js accepts it as a recent op", async () => {
  await validateCli();
  expect(version()).toBe("2.39.0");
});

test("op-js reads, injects and gets with it", () => {
  expect(read.parse("op://Production/My App/password")).toBe(password);
  expect(read.parse("op://production/MY APP/Admin/password")).toBe("second\nline");
  expect(inject.data("a={{ op://Production/My App/password }};")).toBe(`a=${password};`);
  const found = item.get("My App", { vault: "Production" });
  expect(found).toMatchObject({
    title: "My App",
    vault: { name: "Production" },
    fields: [
      { label: "password", value: password, type: "CONCEALED", reference: "op://Production/My App/password" },
      { label: "password", section: { label: "admin" }, reference: "op://Production/My App/admin/password" },
    ],
  });
  expect(vault.list().map(({ name }) => name)).toEqual(["Production", "Other"]);
});

test.each([
  [
    "op://Nowhere/db/url",
    /^could not read secret 'op:\/\/Nowhere\/db\/url': "Nowhere" isn't a vault in this account\./,
  ],
  [
    "op://Other/nothing/url",
    /: could not resolve item UUID for item nothing: could not find item nothing in vault \w{26}$/,
  ],
  ["op://Other/db/nothing", /: item 'Other\/db' does not have a field 'nothing'$/],
  ["op://Production/twice/password", /: could not get item Production\/twice: More than one item matches "twice"\./],
  ["op://Other/db(x)/url", /: invalid character in secret reference: '\('$/],
  ["op://Other/url", /: too few '\/': secret references should have at least vault, item and field specified$/],
])("op-js makes an error of %s that has the text and the time", (reference, text) => {
  let thrown: unknown;
  try {
    read.parse(reference);
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toMatchObject({ name: "CLIError", status: 1, timestamp: expect.any(Date) });
  expect((thrown as Error).message).toMatch(text);
});

test("variables expand anywhere in a template, but not in a value; both forms of a reference", async () => {
  const environment = { STAGE: "Production", WORD: "expanded" };
  const template =
    '$WORD ${NONE:-otherwise} x$NONE, {{ op://$STAGE/My App/password }} {{ "$" }} op://Other/db/url, xop://a/b/c';
  const { stdout, stderr } = await call(["inject"], { stdin: template, environment });
  expect(stdout).toBe(`expanded otherwise x, ${password} $ postgres://x, xop://a/b/c`);
  expect(stderr).toBe("");
});

test("inject to a file: 0600, none after an error, an existing one only with --force, and `-` is a name", async () => {
  const file = join(folder, "out");
  const write = (template: string, ...more: string[]) => call(["inject", "-o", file, ...more], { stdin: template });
  expect((await write("{{ op://Other/db/nothing }}")).exitCode).toBe(1);
  expect(await readdir(folder)).toEqual([]);
  expect((await write("{{ op://Other/db/url }}")).exitCode).toBe(0);
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  expect((await write("other")).exitCode).toBe(1);
  expect((await write("other", "--force")).exitCode).toBe(0);
  expect(await readFile(file, "utf8")).toBe("other");
  await run({ argv: ["op", "inject", "-o", "-"], stdin: "x", environment: op.environment, directory: folder });
  expect((await readdir(folder)).sort()).toEqual(["-", "out"]);
});

test("read ends with a line break unless told -n", async () => {
  expect((await call(["read", "op://Other/db/url"])).stdout).toBe("postgres://x\n");
  expect((await call(["read", "-n", "op://Other/db/url"])).stdout).toBe("postgres://x");
});

test("run: the later file wins, output is masked, the exit code is passed on", async () => {
  await writeFile(join(folder, "one.env"), "A=op://Other/db/url\nB=one\n");
  await writeFile(join(folder, "two.env"), "B=two\n");
  const files = ["--env-file", join(folder, "one.env"), "--env-file", join(folder, "two.env")];
  const masked = await call(["run", ...files, "--", "sh", "-c", 'echo "$A $B"; exit 7']);
  expect([masked.stdout, masked.exitCode]).toEqual(["<concealed by 1Password> two\n", 7]);
  const shown = await call(["run", "--no-masking", ...files, "--", "sh", "-c", 'echo "$A"']);
  expect(shown.stdout).toBe("postgres://x\n");
});

test("item get hides values, and a service account has to name the vault", async () => {
  const hidden = await call(["item", "get", "db", "--vault", "Other"]);
  expect(hidden.stdout).toContain("--reveal' to reveal]");
  expect(hidden.stdout).not.toContain("postgres://x");
  expect((await call(["item", "get", "db"])).stderr).toContain("a vault query must be provided");
});

test.each<[string, Record<string, string | undefined>, RegExp, number]>([
  ["nobody", { OP_SERVICE_ACCOUNT_TOKEN: undefined }, /^No accounts configured for use with 1Password CLI\./, 1],
  ["something that is no token", { OP_SERVICE_ACCOUNT_TOKEN: "nonsense" }, /DecodeSACredentials/, 1],
  ["an old token", { OP_SERVICE_ACCOUNT_TOKEN: "ops_old" }, /\(401\) Unauthorized/, 1],
  [
    "Connect first, whatever else is set",
    { OP_CONNECT_HOST: "http://localhost", OP_CONNECT_TOKEN: "ops_old" },
    /\(401\)/,
    1,
  ],
])("signed in as %s", async (_, environment, text, code) => {
  const refused = await call(["read", "op://Other/db/url"], { environment });
  expect(refused.stderr).toMatch(text);
  expect(refused.exitCode).toBe(code);
});

test("a limit of reads: the next one is told 429, and asking for the limit costs nothing", async () => {
  op.behave({ readsLeft: 1 });
  await call(["service-account", "ratelimit"]);
  expect((await call(["read", "op://Other/db/url"])).exitCode).toBe(0);
  expect((await call(["inject"], { stdin: "{{ op://Other/db/url }}" })).stderr).toContain("(429) Too Many Requests");
  expect((await call(["service-account", "ratelimit"])).stdout).toContain("0");
});

test.each(Object.entries(opErrors))("an error as the real one: %s", async (_, text) => {
  op.behave({ error: text });
  expect((await call(["read", "op://Other/db/url"])).stderr).toMatch(/^\[ERROR\] \d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d /);
});

test("it keeps a log of arguments and of the names in its environment", async () => {
  await call(["read", "op://Other/db/url"], { environment: { WITNESS: "not in the log" } });
  const last = op.calls().at(-1)!;
  expect(last.argv).toEqual(["read", "op://Other/db/url"]);
  expect(last.environment).toContain("WITNESS");
  expect(JSON.stringify(last)).not.toContain("not in the log");
});
