// The kit's own notes, in a real database.
import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { forgetStatement, recordStatements } from "../../scripts/lib/migration-record.ts";
import { startPostgres, type TestPostgres } from "../lab/postgres.ts";

let server: TestPostgres;
let sql: ReturnType<TestPostgres["connect"]>;

beforeAll(async () => {
  server = await startPostgres();
  sql = server.connect({ max: 1 });
}, 60_000);
afterAll(() => server?.stop());
beforeEach(async () => {
  await sql.unsafe("drop table if exists schema_migrations; drop schema if exists dbops cascade");
});

const one = { version: "1", file: "1_o'$$clock.sql", sha256: "as it was" };
const two = { version: "2", file: "2_b.sql", sha256: "b" };
const edited = { ...one, sha256: "edited" };
const noted = async () =>
  (await sql.unsafe("select * from dbops.migration_files order by 1")).map((row) => `${row.file} ${row.sha256}`);
const apply = (...versions: string[]) =>
  sql.unsafe(`create table if not exists schema_migrations (version varchar primary key);
    insert into schema_migrations values ${versions.map((version) => `('${version}')`).join(", ")}`);

test("what is not applied yet is noted anew; what is applied, never", async () => {
  await sql.unsafe(recordStatements([edited]));
  await sql.unsafe(recordStatements([one, two]));
  expect(await noted()).toEqual(["1_o'$$clock.sql as it was", "2_b.sql b"]);
  await apply("1");
  // As a deploy that could not ask the database, and takes all files for pending.
  await sql.unsafe(recordStatements([edited, { ...two, sha256: "c" }]));
  expect(await noted()).toEqual(["1_o'$$clock.sql as it was", "2_b.sql c"]);
});

test("nor is a file noted as pending that somebody else has just applied", async () => {
  await apply("1");
  await sql.unsafe(recordStatements([edited, two]));
  expect(await noted()).toEqual(["2_b.sql b"]);
});

test("only what is not applied is forgotten", async () => {
  await sql.unsafe(forgetStatement(["1", "2"]));
  await sql.unsafe(recordStatements([one, two]));
  await apply("1");
  await sql.unsafe(forgetStatement(["1", "2"]));
  expect(await noted()).toEqual(["1_o'$$clock.sql as it was"]);
  await sql.unsafe("drop table schema_migrations");
  await sql.unsafe(forgetStatement(["1"]));
  expect(await noted()).toEqual([]);
});
