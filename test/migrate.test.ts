// `bun scripts/migrate.ts`: what it would do and what it says, without a database.
import { describe, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { asFailure, type Failure, formatFailure } from "../scripts/lib/failure.ts";
import { type DownPlan, formatDown, planDown, requireWayBack } from "../scripts/lib/migrate-down.ts";
import { nameOf, nextVersion } from "../scripts/lib/migrate-new.ts";
import { formatStatus } from "../scripts/lib/migrate-status.ts";
import { formatApplied, formatPlan } from "../scripts/lib/migrate-up.ts";
import { type MigrationFile, parseMigration, readMigrations } from "../scripts/lib/migration-file.ts";
import { type InvalidIndex, indexesInTheWay } from "../scripts/lib/migration-indexes.ts";
import {
  downFailed,
  interruptedIn,
  mayTryAgain,
  notApplied,
  type Outcome,
  secondsIn,
  spoiltAfter,
  spoiltIn,
} from "../scripts/lib/migration-outcome.ts";
import { planUp, requireNoneInTheWay, type Seen } from "../scripts/lib/migration-plan.ts";
import { recordStatements } from "../scripts/lib/migration-record.ts";
import { requireAppliable } from "../scripts/lib/migration-refusals.ts";
import { stateOf } from "../scripts/lib/migration-state.ts";
import { main } from "../scripts/migrate.ts";

const place = { database: "shop", name: "this machine", environment: "local" };

/** "2_b.sql" with these statements; a third word is for its options. */
function file(name: string, up: string, { options = "", down = "select 1;" } = {}): MigrationFile {
  return parseMigration(name, `-- What for.\n\n-- migrate:up${options}\n${up}\n\n-- migrate:down\n${down}\n`);
}

const one = file("1_one.sql", "create table one (id int);");
const two = file("2_two.sql", "create table two (id int);\ncreate tabel oops ();");
const three = file("3_three.sql", "create table three (id int);");
const concurrent = (name: string) => ({ options: " transaction:false", name });

const seen = (state: Partial<Seen>): Seen => ({ applied: [], recorded: {}, invalid: [], ...state });
const invalid = (name: string, index = `public.${name}`) => ({ oid: 7, index, name, isBeingBuilt: false });

/** Without a transaction, on the way back as well. */
const migrationWithout = (down: string) =>
  `-- migrate:up transaction:false\nselect 1;\n-- migrate:down transaction:false\n${down}\n`;

async function refusal(work: () => unknown): Promise<string> {
  try {
    await work();
  } catch (error) {
    const failure = asFailure(error);
    return `${failure.exitCode} ${formatFailure(failure)}`;
  }
  return "not refused";
}

describe("the command line", () => {
  const names = "new, up, status, down, lint, dump, verify, rehearse";
  const help = "\n  next: bun scripts/migrate.ts --help";
  test.each([
    [[], `2 Cannot run "bun scripts/migrate.ts": say which of ${names}${help}`],
    [["upp"], `2 Cannot run "bun scripts/migrate.ts": "upp" is none of ${names}${help}`],
    [["up", "now"], `2 Cannot run "bun scripts/migrate.ts": "now" is one word too many${help}`],
    [["up", "--wait", "long"], `2 Cannot run "bun scripts/migrate.ts": --wait takes seconds, not "long"${help}`],
    [["up", "--dry-rum"], `2 Cannot run "bun scripts/migrate.ts": --dry-rum is not a flag of this command${help}`],
  ])("%j", async (argv, says) => {
    expect(await refusal(() => main(argv))).toBe(says);
  });
});

describe("planUp()", () => {
  test.each([
    { name: "nothing is applied", state: {}, pending: [one, two, three], warnings: [] },
    { name: "some is", state: { applied: ["1"] }, pending: [two, three], warnings: [] },
    {
      name: "one was edited, and one is not there any more",
      state: {
        applied: ["0", "1"],
        recorded: { "0": { file: "0_zero.sql", sha256: "" }, "1": { file: "1", sha256: "x" } },
      },
      pending: [two, three],
      warnings: [
        "0_zero.sql is applied, and there is no such file in migrations/",
        "1_one.sql was edited after it had been applied",
      ],
    },
    {
      name: "an index is not valid that a file makes: only under the lock it is known whether that is another runner's",
      state: { applied: ["1", "2"], invalid: [invalid("three_id")] },
      pending: [three],
      warnings: [],
    },
  ])("$name", ({ state, pending, warnings }) => {
    expect(planUp([one, two, three], seen(state))).toEqual({ pending, warnings });
  });

  test("refuses a file that came too late, before anything is done", async () => {
    expect(await refusal(() => planUp([one, two, three], seen({ applied: ["1", "3"] })))).toBe(
      `2 Nothing was migrated: 2 is older than 3, which is applied already
  next: give the file in migrations/ a newer version
  read: docs/runbook/migration-failed.md`,
    );
    expect(await refusal(() => planUp([one, two, three], seen({ applied: ["3"] })))).toContain("1, 2 are older than 3");
  });
});

describe("requireNoneInTheWay()", () => {
  const index = file("4_index.sql", "create unique index concurrently one_id on one (id);", concurrent(""));
  const inPsql = (sql: string) => `psql: ${sql}`;
  const says = (...found: InvalidIndex[]) =>
    refusal(() => requireNoneInTheWay(found, [one, index], "Nothing was migrated", inPsql));

  test("refuses an index that is there, not valid, and about to be taken for the real one", async () => {
    expect(await says(invalid("one_id"))).toBe(
      `3 Nothing was migrated: migrations/4_index.sql makes the index public.one_id, which is there, left by a run that failed, and not valid
  next: psql: drop index concurrently public.one_id;
  next: the same command again
  read: docs/runbook/migration-failed.md`,
    );
    expect(await says(invalid("other"))).toBe("not refused");
  });

  test("does not have anybody drop what somebody is building", async () => {
    expect(await says({ ...invalid("one_id"), isBeingBuilt: true, builtBy: 4711 })).toBe(
      `4 Nothing was migrated: migrations/4_index.sql makes the index public.one_id, which Postgres process 4711 is building just now
  next: the same command again, when it has ended
  read: docs/runbook/migration-failed.md`,
    );
  });
});

describe("what is not even begun", () => {
  const without = { options: " transaction:false" };
  const says = (...files: MigrationFile[]) =>
    refusal(() => requireAppliable(files, "up", "Nothing was migrated").then(() => files));

  test("is said all at once, with the place", async () => {
    const files = [
      one,
      file("2_half.sql", "create table c5 (id int); COMMIT;\nselect nope;"),
      file("3_two.sql", "insert into one values (1);\ninsert into one values (2);", without),
      file("4_index.sql", "create index concurrently if not exists i on one (id);", without),
    ];
    expect(await says(...files)).toBe(
      `2 Nothing was migrated: 2_half.sql, 3_two.sql, 4_index.sql do what dbmate would not apply as it looks
  | 2_half.sql:4: COMMIT ends or nests the transaction of dbmate (transaction-control)
  | 3_two.sql:5: when this statement fails, the one before it stays, and the file cannot be applied again (several-without-transaction)
  | 4_index.sql:4: an INVALID index that a failed run has left would be taken for this one (concurrently-if-not-exists)
  next: bun scripts/migrate.ts lint migrations/2_half.sql migrations/3_two.sql migrations/4_index.sql
  read: docs/migrations.md`,
    );
  });

  test.each([
    ["rollback", file("1_x.sql", "create table c3 (id int);\nrollback;"), "refused"],
    ["end", file("1_x.sql", "create table c3 (id int); end;"), "refused"],
    ["prepare transaction", file("1_x.sql", "prepare transaction 'x';"), "refused"],
    ["a savepoint", file("1_x.sql", "savepoint a; select 1; rollback to a; release a;"), "not refused"],
    ["the word in a function", file("1_x.sql", "do $$ begin commit; end $$;", without), "not refused"],
    ["what its way back does", file("1_x.sql", "select 1;", { down: "drop table x; commit;" }), "not refused"],
    ["what nobody can parse", file("1_x.sql", "create tabel oops (); commit;"), "not refused"],
    [
      "two statements that somebody has allowed",
      file("1_x.sql", "analyze;\n-- dbops:allow several-without-transaction twice is harmless\nanalyze;", without),
      "not refused",
    ],
    [
      "an end of the transaction that somebody has allowed",
      file("1_x.sql", "-- dbops:allow transaction-control I know\ncommit;"),
      "refused",
    ],
  ])("%s: %#", async (_, made, becomes) => {
    expect((await says(made)) === "not refused" ? "not refused" : "refused").toBe(becomes);
  });
});

describe("indexesInTheWay()", () => {
  /** From how Postgres itself writes it: `one_x`, `app."One x"`. */
  function asInvalidIndex(index: string): InvalidIndex {
    const words = [...index.matchAll(/"((?:[^"]|"")+)"|([^".]+)/g)];
    const [name, schema] = words.map(([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain!).reverse();
    return { oid: 0, index, isBeingBuilt: false, name: name!, ...(schema !== undefined && { schema }) };
  }
  const made = async (index: InvalidIndex, statements: readonly string[]) => {
    const files = statements.map((sql, at) => file(`${at}_x.sql`, sql));
    return (await indexesInTheWay([index], files)).map(({ file: of }) => of.file);
  };
  test.each([
    ["one_id", ["create index one_id on one (id);"], ["0_x.sql"]],
    ["one_id", ["CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS one_id\n  ON public.one (id);"], ["0_x.sql"]],
    ["One id", ['create index "One id" on one (id);'], ["0_x.sql"]],
    ["a.b", ["create index axb on one (id);"], []],
    ["id", ["create index one_id on one (id);"], []],
    ["one_id", ["-- create index one_id on one (id);\nselect 1;"], []],
    ["one_id", ["/* create index one_id on one (id); */ select 1;"], []],
    ["one_id", ["drop index concurrently one_id;", "create index one_id on one (id);"], []],
    ["one_id", ["drop index if exists two, public.one_id; create index one_id on one (id);"], []],
    ["one_id", ["create index one_id on one (id);", "drop index one_id;"], ["0_x.sql"]],
    ["one_id", ["create index one_id on one (id); drop index one_id;"], ["0_x.sql"]],
    ["one_id", ["reindex index concurrently one_id;"], []],
    ["one_id", ["reindex index one_id; create index if not exists one_id on one (id);"], []],
    ["one_id", ["alter index one_id rename to former; create index one_id on one (id);"], []],
    ["one_id", ["select 'create index one_id on one (id)';"], []],
    ["one_id", ["do $$ begin raise notice 'drop index one_id'; end $$; create index one_id on one (id);"], ["0_x.sql"]],
    ["one_id", ["create function f() returns text return 'x'; create index one_id on one (id);"], ["0_x.sql"]],
    ["one_id", ["this is no SQL; create index one_id on one (id);"], []],
    ["one_id", ["this is no SQL;", "create index one_id on one (id);"], ["1_x.sql"]],
    ["One_id", ["create index One_id on one (id);"], []],
  ])("%s in %j", async (name, statements, files) => {
    expect(await made(invalid(name), statements)).toEqual(files);
  });

  test.each([
    ["app.one_id", "create index one_id on app.one (id);", ["0_x.sql"]],
    ["app.one_id", "create index one_id on one (id);", ["0_x.sql"]],
    ["app.one_id", "create index one_id on public.one (id);", []],
    ["one_id", "create index one_id on app.one (id);", ["0_x.sql"]],
    ["app.one_id", "drop index other.one_id; create index one_id on app.one (id);", ["0_x.sql"]],
    ["app.one_id", "drop index if exists shop.app.one_id; create index one_id on app.one (id);", []],
    ['"App.x"."One ""id"""', 'create index "One ""id""" on "App.x".one (id);', ["0_x.sql"]],
    ['"App.x"."One ""id"""', 'create index "One ""id""" on app.one (id);', []],
  ])("of one schema: %s in %s", async (index, statements, files) => {
    expect(await made(asInvalidIndex(index), [statements])).toEqual(files);
  });
});

const outcome = (given: Partial<Outcome>): Outcome => ({
  pending: [one, two, three],
  applied: ["1"],
  spoilt: [],
  end: { code: 2, lines: [] },
  tries: 1,
  ...given,
});
const ended = (name: string, error: string) => ({
  code: 2,
  lines: [
    "Applying: 1_one.sql",
    "Applied: 1_one.sql in 2ms",
    `Applying: ${name}`,
    // dbmate says so about the one that has failed, too.
    `Applied: ${name} in 1ms`,
    `Error: ${error}`,
  ],
});

describe("what has become of it", () => {
  test("the file, its line, the error, and what is applied and what is not", () => {
    const end = ended("2_two.sql", 'line: 3, column: 8, position: 45: pq: syntax error at or near "tabel" (42601)');
    expect(formatFailure(notApplied(outcome({ end })))).toBe(
      `Cannot apply migrations/2_two.sql:5: syntax error at or near "tabel" (42601)
  | 5: create tabel oops ();
  | applied: 1_one.sql
  | taken back whole: 2_two.sql
  | not applied: 3_three.sql
  next: correct migrations/2_two.sql
  next: the same command again
  read: docs/runbook/migration-failed.md`,
    );
  });

  test("an error without a line, in a file without a transaction, which has left an index that is not valid", () => {
    const index = file("2_index.sql", "create unique index concurrently one_id on one (id);", concurrent(""));
    const end = ended("2_index.sql", 'pq: could not create unique index "one_id" (23505)');
    const failure = notApplied(outcome({ pending: [one, index], end, spoilt: ["public.one_id"] }));
    expect(formatFailure(failure)).toBe(
      `Cannot apply migrations/2_index.sql: could not create unique index "one_id" (23505)
  | applied: 1_one.sql
  | not one transaction, so what it did until then stays: 2_index.sql
  | left behind, and not valid: public.one_id
  next: in psql: drop index concurrently public.one_id;
  next: correct migrations/2_index.sql
  next: the same command again
  read: docs/runbook/migration-failed.md`,
    );
    expect(failure.exitCode).toBe(1);
  });

  test("a lock: nothing is wrong with the file", () => {
    const end = ended("2_two.sql", "pq: canceling statement due to lock timeout (55P03)");
    expect(formatFailure(notApplied(outcome({ end, tries: 4 })))).toBe(
      `Cannot apply migrations/2_two.sql: canceling statement due to lock timeout (55P03); it was tried 4 times
  | applied: 1_one.sql
  | taken back whole: 2_two.sql
  | not applied: 3_three.sql
  next: the same command again
  read: docs/runbook/migration-hangs.md`,
    );
  });

  test("a database that is not adopted yet: nobody is to correct the file", () => {
    const end = ended("2_two.sql", "pq: knex has migrated this database so far (P0001)");
    expect(formatFailure(notApplied(outcome({ end, flags: " --on production" })))).toBe(
      `Cannot apply migrations/2_two.sql: knex has migrated this database so far (P0001)
  | applied: 1_one.sql
  | taken back whole: 2_two.sql
  | not applied: 3_three.sql
  next: bun scripts/drift.ts adopt --on production
  next: the same command again
  read: docs/adopt.md`,
    );
  });

  test("for programs, which get it as facts", () => {
    const end = ended("2_two.sql", 'line: 3, column: 8, position: 45: pq: syntax error at or near "tabel" (42601)');
    expect(notApplied(outcome({ end })).facts).toEqual({
      applied: ["1_one.sql"],
      failed: { file: "2_two.sql", line: 5, isTakenBack: true },
      notApplied: ["3_three.sql"],
      notValid: [],
    });
    const index = file("2_index.sql", "create unique index concurrently one_id on one (id);", concurrent(""));
    const cut = { code: 143, lines: ["Applying: 2_index.sql"] };
    const reason = { what: "Interrupted", why: "by SIGINT" } as Failure;
    expect(interruptedIn(outcome({ pending: [index], end: cut, spoilt: ["public.one_id"] }), reason).facts).toEqual({
      applied: [],
      failed: { file: "2_index.sql", isTakenBack: false },
      notApplied: [],
      notValid: ["public.one_id"],
    });
    const none = { code: 1, lines: ["no such image"] };
    expect(notApplied(outcome({ pending: [one], applied: [], end: none })).facts).toEqual({
      applied: [],
      notApplied: ["1_one.sql"],
      notValid: [],
    });
    expect(spoiltIn({ spoilt: ["public.a"] }, "It is done").facts).toEqual({ notValid: ["public.a"] });
  });

  test("dbmate did not even begin", () => {
    const end = { code: 1, lines: ["Error response from daemon: No such image: dbmate"] };
    expect(formatFailure(notApplied(outcome({ applied: [], end })))).toBe(
      `Cannot migrate: Error response from daemon: No such image: dbmate
  | applied: none
  | not applied: 1_one.sql, 2_two.sql, 3_three.sql
  | Error response from daemon: No such image: dbmate
  next: the same command again
  read: docs/runbook/migration-failed.md`,
    );
  });

  test("what dbmate says of itself counts for nothing", () => {
    const end = { code: 0, lines: ["Applying: 1_one.sql", "Applied: 1_one.sql in 2ms"] };
    const says =
      "Cannot apply migrations/1_one.sql: dbmate says that it is done, and schema_migrations says that it is not\n";
    expect(formatFailure(notApplied(outcome({ applied: [], end })))).toStartWith(says);
  });

  test("interrupted", () => {
    const end = { code: 143, lines: ["Applying: 1_one.sql", "Applied: 1_one.sql in 2ms", "Applying: 2_two.sql"] };
    const reason = { what: "Interrupted", why: "by SIGINT" } as Failure;
    const failure = interruptedIn(outcome({ end }), reason);
    expect([failure.exitCode, formatFailure(failure)]).toEqual([
      130,
      `Interrupted: by SIGINT, while migrations were applied
  | applied: 1_one.sql
  | taken back whole: 2_two.sql
  | not applied: 3_three.sql
  next: the same command again`,
    ]);
  });

  test("everything is applied, and an index is not valid", () => {
    const failure = spoiltAfter(outcome({ pending: [one], spoilt: ["public.a", "public.b"] }));
    expect([failure.exitCode, formatFailure(failure)]).toEqual([
      3,
      `Everything is applied, but not as it should be: public.a, public.b are not valid
  next: in psql: reindex index concurrently public.a;
  next: in psql: reindex index concurrently public.b;
  read: docs/runbook/migration-failed.md`,
    ]);
  });

  test("a part is applied, and its index is not valid", () => {
    expect(formatFailure(spoiltAfter(outcome({ spoilt: ["public.a"] })))).toBe(
      `1_one.sql is applied, but not as it should be: public.a is not valid
  next: in psql: reindex index concurrently public.a;
  next: the same command again, for the others
  read: docs/runbook/migration-failed.md`,
    );
  });

  test("a way back that fails", () => {
    const made = file("2_two.sql", "create table two ();", { down: "drop table one;\ndrop tabel two;" });
    const end = {
      code: 2,
      lines: ['Error: line: 3, column: 6, position: 40: pq: syntax error at or near "tabel" (42601)'],
    };
    const failed = { file: made, end, spoilt: [], reason: undefined };
    expect(formatFailure(downFailed(failed))).toBe(
      `Cannot take back migrations/2_two.sql:8: syntax error at or near "tabel" (42601); nothing of it was taken back
  next: correct its part under "-- migrate:down"
  next: the same command again
  read: docs/runbook/migration-failed.md`,
    );
    const reason = { what: "Interrupted", why: "by SIGINT" } as Failure;
    const alone = parseMigration("3_index.sql", migrationWithout("drop index concurrently one_id;"));
    expect(formatFailure(downFailed({ ...failed, file: alone, spoilt: ["public.one_id"], reason }))).toBe(
      `Interrupted: by SIGINT; it is not one transaction: what it did until then stays
  next: in psql: drop index concurrently public.one_id;
  next: the same command again`,
    );
  });
});

describe("another try", () => {
  const timeout = "pq: canceling statement due to lock timeout (55P03)";
  const alone = (sql: string) => file("2_two.sql", sql, { options: " transaction:false" });
  test.each([
    {
      name: "a lock that somebody has",
      given: { end: ended("2_two.sql", timeout), pending: [one, file("2_two.sql", "lock table one;")] },
      may: true,
    },
    { name: "any other error", given: { end: ended("2_two.sql", "pq: division by zero (22012)") }, may: false },
    { name: "an index was left behind", given: { end: ended("2_two.sql", timeout), spoilt: ["x"] }, may: false },
    { name: "nobody knows which file", given: { end: { code: 2, lines: [`Error: ${timeout}`] } }, may: false },
    {
      name: "one statement without a transaction",
      given: { end: ended("2_two.sql", timeout), pending: [one, alone("create index concurrently i on one (id);")] },
      may: true,
    },
    {
      name: "a file that ends its transaction by itself",
      given: {
        end: ended("2_two.sql", timeout),
        pending: [one, file("2_two.sql", "insert into one values (1);\nCOMMIT;\nlock table one;")],
      },
      may: false,
    },
    {
      name: "a program without a transaction, which may have committed a part",
      given: { end: ended("2_two.sql", timeout), pending: [one, alone("do $$ begin commit; lock table one; end $$;")] },
      may: false,
    },
  ])("$name: $may", async ({ given, may }) => {
    expect(await mayTryAgain(outcome(given as Partial<Outcome>))).toBe(may);
  });

  const whole = { end: ended("2_two.sql", timeout) };
  test.each([
    ["insert into one values (7); commit; begin; alter table one add column z int;", false],
    ["insert into one values (7); end; lock table one;", false],
    ["insert into one values (7); prepare transaction 'x'; lock table one;", false],
    ["do $$ begin perform 'commit;'; end $$; lock table one;", true],
    ["create tabel oops (); lock table one;", false],
  ])("with a transaction: %s", async (sql, may) => {
    expect(await mayTryAgain(outcome({ ...whole, pending: [one, file("2_two.sql", sql)] }))).toBe(may);
  });
  test.each([
    ["/* x */ do $$ begin commit; lock table one; end $$;", false],
    ["-- x\ncall fill();", false],
    ["select 1; call fill();", false],
    ["update one set id = id + 1;", true],
  ])("without one: %s", async (sql, may) => {
    expect(await mayTryAgain(outcome({ ...whole, pending: [one, alone(sql)] }))).toBe(may);
  });
});

test("secondsIn() reads the times of dbmate", () => {
  const lines = [
    "Applied: 1.sql in 2.5ms",
    "Applied: 2.sql in 1m2.5s",
    "Applied: 3.sql in 1h0m3s",
    "Applied: 4.sql in 120µs",
    "Done",
  ];
  expect(secondsIn(lines)).toEqual({ "1.sql": 0.0025, "2.sql": 62.5, "3.sql": 3603, "4.sql": expect.closeTo(0.00012) });
});

test("what `up` says before and after", () => {
  const index = file("2_index.sql", "create index concurrently i on one (id);", concurrent(""));
  expect(formatPlan({ pending: [one, index], warnings: [] }, place)).toBe(
    'To apply to "shop" on this machine, oldest first:\n  1_one.sql\n  2_index.sql   without a transaction',
  );
  expect(formatPlan({ pending: [], warnings: [] }, place)).toBe('Would apply nothing to "shop" on this machine');
  const applied = [
    { version: "1", file: "1_one.sql", seconds: 0.0123 },
    { version: "2", file: "2_index.sql" },
  ];
  expect(formatApplied(applied, place, 61.3)).toBe(
    '2 migrations applied to "shop" on this machine, in 61 s\n     0.01 s  1_one.sql\n          ?  2_index.sql',
  );
  expect(formatApplied([], place, 3)).toBe(
    'Another runner has just applied what was pending to "shop" on this machine',
  );
});

test("what `status` says", () => {
  const state = seen({
    applied: ["0", "1", "3"],
    recorded: { "1": { file: "1_one.sql", sha256: "another" }, "0": { file: "0_zero.sql", sha256: "" } },
    invalid: [invalid("one_id")],
  });
  const four = file("4_four.sql", "select 1;");
  expect(formatStatus(stateOf([one, two, three, four], state), state, place)).toBe(
    `state         migration
missing file  0_zero.sql
edited        1_one.sql
out of order  2_two.sql
applied       3_three.sql
pending       4_four.sql
1 missing file, 1 edited, 1 out of order, 1 applied, 1 pending: "shop" on this machine
  pending: bun scripts/migrate.ts up
  out of order: give the file a newer version; dbmate refuses it as it is
  edited: bun scripts/drift.ts check      # what the database has, and the file has not
  missing file: bring the file back from git; bun scripts/drift.ts repair otherwise
  1 applied by something else than \`migrate up\` or a deploy, and not noted: an edit of it would not be seen
  the index public.one_id is not valid: bun scripts/drift.ts check`,
  );
  expect(formatStatus([], seen({}), place)).toBe('no migrations: "shop" on this machine');

  const elsewhere = (environment: string, index: InvalidIndex) => {
    const given = seen({ applied: ["0"], invalid: [index] });
    return formatStatus(stateOf([one], given), given, { database: "shop", name: "there", environment });
  };
  expect(elsewhere("production", invalid("one_id"))).toEndWith(`
  pending: bun scripts/migrate.ts up --on production
  missing file: bring the file back from git; bun scripts/drift.ts repair --on production otherwise
  the index public.one_id is not valid: bun scripts/drift.ts check --on production`);
  expect(elsewhere("db.example.com", { ...invalid("one_id"), isBeingBuilt: true, builtBy: 4711 })).toEndWith(`
  pending: bun scripts/migrate.ts up --database-url …
  missing file: bring the file back from git; bun scripts/drift.ts repair --database-url … otherwise
  public.one_id is not valid yet: Postgres process 4711 is building it`);
});

describe("down", () => {
  test("takes back the newest that is applied, and says what is lost", () => {
    const plan = planDown([one, two, three], seen({ applied: ["1", "2"] }), "local");
    expect(plan).toEqual({ newest: two, isEdited: false });
    const edited: DownPlan = {
      newest: file("2_two.sql", "", { down: "drop table two;\n\ndrop table x;" }),
      isEdited: true,
    };
    expect(formatDown(edited, place)).toBe(
      `This takes back migrations/2_two.sql on "shop" on this machine:
  | drop table two;
  |${" "}
  | drop table x;
What it drops is lost, with all that was written since; and the app that runs may need it.
The file was edited after it had been applied: it may not take back what the database has.
Forward is safer: bun scripts/migrate.ts new NAME`,
    );
  });

  test("knows an edited one", () => {
    const recorded = { "2": { file: "2_two.sql", sha256: "another" } };
    expect(planDown([one, two], seen({ applied: ["1", "2"], recorded }), "local").isEdited).toBe(true);
  });

  test.each([
    {
      name: "nothing is applied",
      files: [one],
      state: {},
      says: "3 Nothing was taken back: no migration is applied\n  next: bun scripts/migrate.ts status --on production",
    },
    {
      name: "its file is missing, and dbmate would take back the one before",
      files: [one],
      state: { applied: ["1", "2"], recorded: { "2": { file: "2_two.sql", sha256: "" } } },
      says: `5 Nothing was taken back: the newest that is applied is 2_two.sql, and there is no such file in migrations/
  next: bring the file back from git
  read: docs/migrations.md`,
    },
  ])("refuses where $name", async ({ files, state, says }) => {
    expect(await refusal(() => planDown(files, seen(state), "production"))).toBe(says);
  });

  test.each([["\n-- nothing\n"], ["/* there is no way back */"], ["/* nor /* here */\n */ ;;\n-- at all"]])(
    "refuses where nothing would be taken back: %j",
    async (down) => {
      expect(await refusal(() => requireWayBack(file("1_one.sql", "create table one ();", { down })))).toBe(
        `5 Nothing was taken back: migrations/1_one.sql has nothing under "-- migrate:down"
  next: bun scripts/migrate.ts new NAME      # forward
  read: docs/migrations.md`,
      );
    },
  );

  test("refuses what would be taken back by half, and does not mind how it was applied", async () => {
    const half = file("1_one.sql", "create table one ();", { down: "drop table one;\ncommit;\ndrop table two;" });
    expect(await refusal(() => requireWayBack(half))).toBe(
      `2 Nothing was taken back: 1_one.sql does what dbmate would not apply as it looks
  | 1_one.sql:8: COMMIT ends or nests the transaction of dbmate (transaction-control)
  next: bun scripts/migrate.ts lint migrations/1_one.sql
  read: docs/migrations.md`,
    );
    expect(await refusal(() => requireWayBack(file("1_one.sql", "create table one (); commit;")))).toBe("not refused");
    // The server may know what this parser does not.
    expect(await refusal(() => requireWayBack(file("1_one.sql", "", { down: "drop tabel one;" })))).toBe("not refused");
  });
});

describe("new", () => {
  test.each([
    ["create_invoices", "create_invoices"],
    ["Create Invoices", "create_invoices"],
    ["  add-e-mail!  ", "add_e_mail"],
    ["Größe ändern", "gro_e_andern"],
    ["../../etc/passwd", "etc_passwd"],
    ["x".repeat(200), "x".repeat(60)],
    ["???", ""],
  ])("nameOf(%j)", (given, name) => {
    expect(nameOf(given)).toBe(name);
  });

  const now = new Date("2026-11-21T13:52:07.900Z");
  test.each([
    ["no file yet", ["TEMPLATE.sql", "schema.sql"], "20261121135207"],
    ["an older one", ["20260101090000_a.sql"], "20261121135207"],
    ["numbers, which come before every time", ["0001_a.sql", "0002_b.sql"], "20261121135207"],
    ["one of the same second", ["20261121135207_a.sql"], "20261121135208"],
    ["one of a clock that is ahead", ["20261231235959_a.sql"], "20270101000000"],
    ["one with milliseconds", ["20261121135207123_a.sql"], "20261121135208"],
  ])("nextVersion() with %s", (_, files, version) => {
    expect(nextVersion(files, now)).toBe(version);
  });

  test.each([
    ["9", ["1_a.sql", "9_c_d.sql"], "9_c_d.sql migrations/20000101000900_c_d.sql"],
    ["9", ["20260101090000_a.sql", "9_b.sql"], "9_b.sql migrations/20261121135207_b.sql"],
    ["20271301", ["20271301_a.sql"], "20271301_a.sql migrations/20261121135207_a.sql"],
  ])("refuses where every time would come too early: %s in %j", async (newest, files, names) => {
    expect(await refusal(() => nextVersion(files, now))).toBe(
      `2 Cannot make a migration: the newest version, ${newest}, is no time, and comes after every time
  next: git mv migrations/${names}      # and so on: each file that has no time
  next: bun scripts/drift.ts repair --plan      # in each database: its numbers become the versions of these files`,
    );
  });
});

test("a file that is not UTF-8 is refused: it would be sent as something else", async () => {
  const directory = await mkdtemp(join(tmpdir(), "dbops-migrations-"));
  await mkdir(join(directory, "migrations"));
  const latin = Buffer.from("-- migrate:up\nselect 'gr\u00fcn';\n-- migrate:down\n", "latin1");
  await writeFile(join(directory, "migrations/1_a.sql"), latin);
  const says = await refusal(() => readMigrations(directory));
  await rm(directory, { recursive: true });
  expect(says).toStartWith(
    "2 Cannot read migrations/: 1 file is not one that dbmate can apply\n  | 1_a.sql:2: it is not UTF-8\n",
  );
});

test("a file's name and sum go into SQL as they are, however nasty", () => {
  const statements = recordStatements([{ version: "1", file: "1_o'clock.sql", sha256: "ab" }]);
  // Quoted once more, as the text of a DO.
  expect(statements).toContain("values (''1'', ''1_o''''clock.sql'', ''ab'')");
  expect(recordStatements([], [])).toBe("begin; commit;");
});
