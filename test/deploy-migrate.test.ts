// scripts/lib/deploy-migrate.ts, without a server: what is decided from what the database says under the lock. On a server:
// test/live/deploy-faults.test.ts.
import { expect, test } from "bun:test";
import { migrate } from "../scripts/lib/deploy-migrate.ts";
import { requireAll } from "../scripts/lib/deploy-rehearse.ts";
import { requireRehearsed } from "../scripts/lib/deploy-run.ts";
import { type Failure, formatFailure } from "../scripts/lib/failure.ts";
import { type MigrationFile, parseMigration } from "../scripts/lib/migration-file.ts";
import type { RehearsalPlan } from "../scripts/lib/rehearse-plan.ts";

const file = (name: string, up: string, options = "") =>
  parseMigration(name, `-- migrate:up${options}\n${up}\n-- migrate:down\n`);
const one = file("1_one.sql", "create table one (id int);");
const two = file("2_two.sql", "create table two (id int);");
const batch = file("3_batch.sql", "do $$ begin update one set id = id + 1; commit; end $$;", " transaction:false");
const index = file("4_index.sql", "create index concurrently one_id on one (id);", " transaction:false");
const drop = file("5_drop.sql", "drop table two;");

type Invalid = { oid: number; index: string; name: string; isBeingBuilt: boolean; builtBy?: number };
const look = (applied: string[], { invalid = [] as Invalid[], busy = false } = {}) =>
  JSON.stringify({ applied, recorded: {}, invalid, busy, user: "app", database: "shop" });

type Answer = { exitCode?: number; stdout?: string; stderr?: string };
/** Nothing was begun, because the database says this, or that. */
const says = (text: string): Answer => ({ exitCode: 5, stdout: `${text}\n` });
const ended = (code: number, after: string, ...lines: string[]): Answer => ({
  stdout: [code, after, "", ...lines, ""].join("\n"),
});

type Scene = { files: readonly MigrationFile[]; planned?: string[]; answers: readonly Answer[] };

/** @returns what came of it, what the server was told, and what people were. */
async function scene({ files, planned, answers }: Scene) {
  const left = [...answers];
  const told: string[] = [];
  let mayHaveBegun = false;
  const outcome = await migrate({
    ...{ release: 7, files, planned: planned ?? files.map(({ version }) => version), waitSeconds: 3 },
    async call([name, , , , limits, ...names], { stdin = "" } = {}) {
      told.push([name, limits, ...names].filter(Boolean).join(" "));
      const expected = `${stdin}`.split("\0")[4];
      if (names.length > 0) told.push(`  where it says ${expected}`);
      return { exitCode: 0, stdout: "", stderr: "", seconds: 0, ...left.shift()! };
    },
    note: (text) => told.push(`  ${text}`),
    pause: async (milliseconds) => void told.push(`  ${milliseconds} ms`),
    mayHaveBegun: (may) => {
      mayHaveBegun = may;
    },
  }).then(
    (applied) => applied.join(" "),
    (error: Failure) => `${formatFailure(error)}\nexit ${error.exitCode}`,
  );
  expect(left).toEqual([]);
  return { outcome, told: told.join("\n"), mayHaveBegun };
}

test("what is pending is what the database says under the lock, whatever was planned", async () => {
  const answers = [says(look(["1"])), ended(0, look(["1", "2"]), "Applying: 2_two.sql")];
  expect(await scene({ files: [one, two], answers })).toEqual({
    outcome: "1 2",
    told: `migrate -\nmigrate - 2_two.sql\n  where it says ${look(["1"])}`,
    mayHaveBegun: true,
  });
});

test("another runner was faster: nothing was begun, and nothing is left to do", async () => {
  const answers = [says(look([])), says(look(["1"]))];
  expect(await scene({ files: [one], answers })).toEqual({
    outcome: "1",
    told: `migrate -\nmigrate - 1_one.sql\n  where it says ${look([])}`,
    mayHaveBegun: false,
  });
});

test("an index that is built beside the traffic has a run of its own, which may wait", async () => {
  const answers = [
    says(look(["1", "2"])),
    ended(0, look(["1", "2", "4"])),
    ended(0, look(["1", "2", "4", "5"]), "Applying: 5_drop.sql"),
  ];
  const { outcome, told } = await scene({ files: [one, two, index, drop], answers });
  expect([outcome, told]).toEqual([
    "1 2 4 5",
    `migrate -
  4_index.sql may have to wait for every transaction of the database, at most 15 min; the app does not
migrate -c lock_timeout=900s -c statement_timeout=0 4_index.sql
  where it says ${look(["1", "2"])}
migrate - 5_drop.sql
  where it says ${look(["1", "2", "4"])}`,
  ]);
});

const lockError = "Error: pq: canceling statement due to lock timeout (55P03)";

test("a lock that somebody had: again, and no more than four times", async () => {
  const once = ended(2, look(["1"]), "Applying: 2_two.sql", lockError);
  const { outcome, told } = await scene({ files: [one, two], answers: [says(look([])), once, once, once, once] });
  expect(outcome).toContain(
    "Cannot apply migrations/2_two.sql: canceling statement due to lock timeout (55P03); it was tried 4 times\n  | applied: 1_one.sql\n  | taken back whole: 2_two.sql\n",
  );
  const notes = told.split("\n").filter((line) => /again| ms$/.test(line));
  expect(notes).toEqual([
    "  somebody holds a lock that it needs; trying again (2 of 4)",
    "  1000 ms",
    "  somebody holds a lock that it needs; trying again (3 of 4)",
    "  2000 ms",
    "  somebody holds a lock that it needs; trying again (4 of 4)",
    "  4000 ms",
  ]);
  expect(told.match(/^migrate.*/gm)).toEqual([
    "migrate -",
    "migrate - 1_one.sql 2_two.sql",
    ...Array(3).fill("migrate - 2_two.sql"),
  ]);
});

test("but not what may have committed a part of what it does, nor for a notice that looks like it", async () => {
  const failing = ended(2, look(["1"]), "Applying: 3_batch.sql", lockError);
  const { outcome } = await scene({ files: [one, batch], answers: [says(look(["1"])), failing] });
  expect(outcome).toContain("not one transaction, so what it did until then stays: 3_batch.sql");
  const lines = ["Applying: 2_two.sql", "NOTICE: lock timeout", "Error: pq: oops (P0001)"];
  const noticed = await scene({ files: [one, two], answers: [says(look(["1"])), ended(2, look(["1"]), ...lines)] });
  expect(noticed.outcome).toStartWith("Cannot apply migrations/2_two.sql: oops (P0001)\n");
});

test("an index that could not be finished for a lock goes again, unless that fails", async () => {
  const invalid = [{ oid: 9, index: "public.one_id", name: "one_id", isBeingBuilt: false }];
  const failing = ended(1, look(["1"], { invalid }), "Applying: 4_index.sql", lockError);
  const files = [one, index];
  const dropped = await scene({ files, answers: [says(look(["1"])), failing, {}] });
  expect(dropped.told).toEndWith("drops the index that it could not finish: public.one_id\ndrop_index");
  expect(dropped.outcome).toContain("taken back whole: 4_index.sql\n");
  expect(dropped.outcome).not.toContain("public.one_id");
  const { outcome } = await scene({ files, answers: [says(look(["1"])), failing, { exitCode: 1 }] });
  expect(outcome).toContain("left behind, and not valid: public.one_id\n");
});

test("dbmate's 0 is not believed, neither for a file nor for an index", async () => {
  const lost = await scene({ files: [one], answers: [says(look([])), ended(0, look([]), "Applying: 1_one.sql")] });
  expect(
    lost.outcome,
  ).toBe(`Cannot apply migrations/1_one.sql: dbmate says that it is done, and schema_migrations says that it is not
  | applied: none
  | taken back whole: 1_one.sql
  next: the same command again
  read: docs/runbook/migration-failed.md
exit 1`);
  const invalid = [{ oid: 9, index: "public.one_id", name: "one_id", isBeingBuilt: false }];
  const spoilt = await scene({ files: [index], answers: [says(look([])), ended(0, look(["4"], { invalid }))] });
  expect(spoilt.outcome).toBe(`Everything is applied, but not as it should be: public.one_id is not valid
  next: on the server, where compose.yaml is: docker compose exec postgres psql --username app --dbname shop --command 'reindex index concurrently public.one_id;'
  read: docs/runbook/migration-failed.md
exit 3`);
});

test("an index that somebody builds by hand is neither in the way for good nor left by this deploy", async () => {
  const invalid = [{ oid: 9, index: "public.one_id", name: "one_id", isBeingBuilt: true, builtBy: 4711 }];
  const { outcome, mayHaveBegun } = await scene({ files: [index], answers: [says(look([], { invalid }))] });
  expect([outcome, mayHaveBegun]).toEqual([
    `Cannot migrate: migrations/4_index.sql makes the index public.one_id, which Postgres process 4711 is building just now
  next: the same command again, when it has ended
  read: docs/runbook/migration-failed.md
exit 4`,
    false,
  ]);
  const beside = await scene({ files: [one], answers: [says(look([])), ended(0, look(["1"], { invalid }))] });
  expect(beside.outcome).toBe("1");
});

test("where it was not begun: who has the lock, or why there is no session for it", async () => {
  const holder = "another runner (Postgres process 4711, since 2026-11-21 03:00:00 UTC)";
  const locked = await scene({ files: [one], answers: [says(look([])), { exitCode: 4, stdout: holder }] });
  expect([locked.outcome, locked.mayHaveBegun]).toEqual([
    `Cannot migrate: ${holder} migrates this database (waited 3 s)
  next: the same command with --wait 600
  read: docs/runbook/migration-hangs.md
exit 4`,
    false,
  ]);
  const silent = await scene({ files: [one], answers: [{ exitCode: 7, stderr: "Postgres does not answer\n" }] });
  expect([silent.outcome, silent.mayHaveBegun]).toEqual([
    `Cannot migrate: there is no session for the lock: Postgres does not answer
  next: on the server: docker compose ps postgres; docker compose logs --tail 50 postgres
  next: the same command again
  read: docs/runbook/database-unhealthy.md
exit 3`,
    false,
  ]);
});

test("after six hours it was ended; and where nobody can see what was applied, nothing is claimed", async () => {
  const late = await scene({ files: [one], answers: [says(look([])), ended(124, look([]), "Applying: 1_one.sql")] });
  expect(late.outcome).toStartWith("Cannot apply migrations/1_one.sql: it was ended after 6 hours\n");
  const gone = [says(look([])), ended(1, ""), { exitCode: 1, stderr: "psql: error: FATAL: no\n" }];
  expect(await scene({ files: [one], answers: gone })).toEqual({
    outcome: `What was applied cannot be seen: psql: error: FATAL: no
  next: bun scripts/migrate.ts status --on production
  read: docs/runbook/database-unhealthy.md
exit 1`,
    told: `migrate -\nmigrate - 1_one.sql\n  where it says ${look([])}\nlook_at_migrations`,
    mayHaveBegun: true,
  });
});

test("sums that cannot be kept are a warning", async () => {
  const trouble = { stdout: `0\n${look(["1"])}\nERROR:  permission denied for schema dbops\nApplying: 1_one.sql\n` };
  const { outcome, told } = await scene({ files: [one], answers: [says(look([])), trouble] });
  expect([outcome, told.split("\n").at(-1)]).toEqual([
    "1",
    "  warning: the sums of the files cannot be kept: ERROR:  permission denied for schema dbops",
  ]);
});

const refusal = (work: () => void) => {
  try {
    work();
  } catch (error) {
    return `${formatFailure(error as Failure)}\nexit ${(error as Failure).exitCode}`;
  }
};

test("what was not planned is not applied: it was neither said, nor backed up before, nor rehearsed", async () => {
  const { outcome } = await scene({ files: [one, two], planned: ["2"], answers: [says(look([]))] });
  expect(outcome).toBe(`Cannot migrate: 1 is pending, and was not when this deploy looked
  next: the same command again
exit 3`);
  expect(refusal(() => requireRehearsed(["2"], ["1", "2"]))).toBeUndefined();
  expect(refusal(() => requireRehearsed(["1", "2", "3"], ["2"]))).toBe(
    `Nothing was deployed: another deploy came in between, and 1, 3 were not rehearsed
  next: the same command again
  read: docs/rehearse.md
exit 3`,
  );
});

test("a backup that has what is to be applied is none to rehearse it with", () => {
  const pending = [
    { ...one, isLive: true },
    { ...two, isLive: false },
  ];
  const plan = { backup: { id: "ID" }, pending } as unknown as RehearsalPlan;
  expect(refusal(() => requireAll(plan, ["2"]))).toBeUndefined();
  expect(
    refusal(() => requireAll(plan, ["2", "3"])),
  ).toBe(`Cannot rehearse with ID: it has 3 already, which is to be applied
  next: bun scripts/backup.ts --on production   # as the database is now; then the same command again
  next: or with an older one by hand: bun scripts/migrate.ts rehearse BACKUP --on production
exit 3`);
});
