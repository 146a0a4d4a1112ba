// The command lines that fill a restored database, what a file's name says, and SQL text that must not reach psql.
import { describe, expect, test } from "bun:test";
import { asFailure } from "../scripts/lib/failure.ts";
import type { Place } from "../scripts/lib/place.ts";
import { createProgress } from "../scripts/lib/progress.ts";
import { archiveStage, type Loading, load, textStage } from "../scripts/lib/restore-load.ts";
import { kindOfFile, type OpenSource } from "../scripts/lib/restore-source.ts";
import { manifestAt } from "./lab/backup-samples.ts";

const place = {
  client: (words: readonly string[], database?: string) => ({ argv: [`in ${database}`, ...words] }),
} as unknown as Place;
const source: OpenSource = {
  ...{ name: "old.sql", manifest: undefined, format: "plain", bytes: 100, folder: undefined },
  read: () => emptyText(),
  stages: () => [],
  close: async () => {},
};
async function* emptyText(): AsyncGenerator<Uint8Array> {}

const options =
  "PGOPTIONS=-c synchronous_commit=off -c maintenance_work_mem=256MB -c statement_timeout=0 -c lock_timeout=0";

const toItsEnd = ["sh", "-c", '"$@" && cat > /dev/null', "sh"];
const words = ["pg_restore", "--no-password", "--exit-on-error"];

test.each([
  [1000, 18, ["--single-transaction"]],
  [1001, 18, ["--transaction-size=1000"]],
  [1001, 16, []],
])("archiveStage() for %p tables on version %p", (count, major, transaction) => {
  const rows = Object.fromEntries(Array.from({ length: count }, (_, table) => [`public.t${table}`, 0]));
  const manifest = manifestAt("2026-11-21T03:00:00Z", { rows });
  expect(archiveStage({ place, target: "new", source: { ...source, manifest }, major })).toEqual({
    name: "pg_restore",
    argv: ["in new", "env", options, ...toItsEnd, ...words, ...transaction, "--dbname=new"],
  });
});

test("textStage()", () => {
  const words = ["psql", "--no-psqlrc", "--no-password", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1"];
  expect(textStage(place, "new")).toEqual({
    name: "psql",
    argv: ["in new", "env", options, ...words, "--output=/dev/null"],
  });
});

test.each([
  ["a/b.sql", { format: "plain", isZipped: false, isLocked: false }],
  ["b.sql.gz.gpg", { format: "plain", isZipped: true, isLocked: true }],
  ["b.dump", { format: "custom", isZipped: false, isLocked: false }],
  ["b.backup.gpg", { format: "custom", isZipped: false, isLocked: true }],
  ["latest", undefined],
  ["2026-11-21T03-00-00Z-4f2c1a2b", undefined],
  ["app/2026-11-21T03-00-00Z-4f2c1a2b/manifest.json", undefined],
] as const)("kindOfFile(%p)", (file, kind) => {
  expect(kindOfFile(file)).toEqual(kind);
});

describe("SQL text", () => {
  const end = "--\n-- PostgreSQL database dump complete\n--\n";
  const cat = { client: () => ({ argv: ["cat"] }) } as unknown as Place;

  async function loaded(...chunks: string[]) {
    const meter = { at() {}, clear() {}, end() {} };
    async function* read() {
      for (const chunk of chunks) yield Buffer.from(chunk);
    }
    const interrupted = new AbortController().signal;
    const progress = createProgress();
    const job: Loading = {
      place: cat,
      source: { ...source, read },
      target: "new",
      major: 18,
      meter,
      progress,
      interrupted,
    };
    return await load(job).then(
      () => "loaded",
      (error) => [asFailure(error).exitCode, asFailure(error).message],
    );
  }

  test("that is whole", async () => {
    expect(await loaded("select 1;\n", end)).toBe("loaded");
  });

  test("that is cut off", async () => {
    const message = 'The SQL text is not whole: it does not end with "-- PostgreSQL database dump complete"';
    expect(await loaded("select 1;\n", end.slice(0, 20))).toEqual([3, message]);
  });

  test.each([
    ["at its beginning", ["\\connect shop\n"]],
    ["over the edge of two chunks", ["select 1;\n\\con", 'nect "shop"\n']],
  ])("that goes to another database, %s", async (_, chunks) => {
    const message = "Cannot restore old.sql: it connects to a database by its name, which may be the live one";
    expect(await loaded(...chunks, end)).toEqual([3, message]);
  });
});
