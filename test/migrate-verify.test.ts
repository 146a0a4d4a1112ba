// What `migrate verify` says, and the text of migrations/schema.sql, without a server.
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { formatFailure } from "../scripts/lib/failure.ts";
import { parseMigration } from "../scripts/lib/migration-file.ts";
import { schemaText } from "../scripts/lib/schema-file.ts";
import { type Comparison, formatGood, outOfOrder, type Verified, whyNotGood } from "../scripts/lib/verify-output.ts";
import { withOtherRows } from "../scripts/lib/verify-rows.ts";
import { repository } from "./lab/repository.ts";

const same: Comparison = { versions: { missing: [], unexpected: [] }, differences: [] };
const base = { name: "origin/main (3f2a1b0)", commit: "3f2a1b0c9d8e7f6a5b4c3d2e1f0a9b8c7d6e5f4a", files: [] };
const increment = { ...same, base, added: 2, outOfOrder: [], changed: [], otherRows: [] };
const column = { what: "missing", kind: "column", name: "public.t.c", expected: "integer" } as const;

test.each([
  { verified: { files: 1, schema: same }, says: "Good: 1 file and migrations/schema.sql make the same" },
  {
    verified: { files: 12, schema: same, increment },
    says: "Good: 12 files, a database of origin/main (3f2a1b0) with 2 more, and migrations/schema.sql make the same",
  },
  {
    verified: { files: 12, schema: same, increment: { ...increment, added: 0 } },
    says: "Good: 12 files, a database of origin/main (3f2a1b0), and migrations/schema.sql make the same",
  },
] satisfies { verified: Verified; says: string }[])("formatGood() $says", ({ verified, says }) => {
  expect(whyNotGood(verified)).toBeUndefined();
  expect(formatGood(verified)).toBe(says);
});

const rows: { name: string; verified: Verified; says: string[] }[] = [
  {
    name: "a schema.sql that nobody has dumped",
    verified: {
      files: 3,
      schema: { versions: { missing: ["20260301000000"], unexpected: [] }, differences: [column] },
      increment,
    },
    says: [
      "The migrations do not make one and the same schema: 2 differences",
      "  | migrations/schema.sql is not what migrations/ make:",
      "  | missing     version 20260301000000: only in migrations/",
      "  | missing     column public.t.c: only in migrations/",
      "  |               integer",
      "  next: bun scripts/migrate.ts dump      # then commit migrations/schema.sql",
      "  read: docs/migrations.md",
    ],
  },
  {
    name: "a file that is gone, and still in schema.sql",
    verified: { files: 3, schema: { ...same, versions: { missing: [], unexpected: ["20260301000000"] } } },
    says: [
      "The migrations do not make one and the same schema: 1 difference",
      "  | migrations/schema.sql is not what migrations/ make:",
      "  | unexpected  version 20260301000000: only in migrations/schema.sql",
      "  next: bun scripts/migrate.ts dump      # then commit migrations/schema.sql",
      "  read: docs/migrations.md",
    ],
  },
  {
    name: "an edited file",
    verified: {
      files: 3,
      schema: same,
      increment: { ...increment, changed: ["migrations/20260101000000_a.sql"], differences: [column] },
    },
    says: [
      "The migrations do not make one and the same schema: 1 difference",
      "  | a database of origin/main (3f2a1b0), migrated, is not what a new one is:",
      "  | edited      migrations/20260101000000_a.sql: not the one of origin/main (3f2a1b0)",
      "  | missing     column public.t.c: only in a new database",
      "  |               integer",
      "  next: git checkout 3f2a1b0 -- migrations/20260101000000_a.sql",
      "  next: bun scripts/migrate.ts new NAME      # what is to be different goes into a new file",
      "  read: docs/migrations.md",
    ],
  },
  {
    name: "two edited files, one of which writes other rows",
    verified: {
      files: 3,
      schema: same,
      increment: {
        ...increment,
        changed: ["migrations/20260101000000_a.sql", "migrations/20260102000000_b.sql"],
        otherRows: ["migrations/20260102000000_b.sql"],
      },
    },
    says: [
      "The migrations do not make one and the same schema: 1 difference",
      "  | a database of origin/main (3f2a1b0), migrated, is not what a new one is:",
      "  | edited      migrations/20260102000000_b.sql: not the one of origin/main (3f2a1b0), and writes other rows",
      "  next: git checkout 3f2a1b0 -- migrations/20260102000000_b.sql",
      "  next: bun scripts/migrate.ts new NAME      # what is to be different goes into a new file",
      "  read: docs/migrations.md",
    ],
  },
  {
    name: "a file that is older than one that is applied",
    verified: {
      files: 3,
      schema: same,
      increment: {
        ...increment,
        changed: ["migrations/20260101000000_a.sql"],
        outOfOrder: ["20260102000000_late.sql"],
      },
    },
    says: [
      "The migrations do not make one and the same schema: 1 difference",
      "  | a database of origin/main (3f2a1b0), migrated, is not what a new one is:",
      "  | late        migrations/20260102000000_late.sql: a newer one is applied already, so that dbmate refuses it",
      "  next: git mv migrations/20260102000000_late.sql migrations/YYYYMMDDHHMMSS_late.sql      # a time that is newer",
      "  read: docs/migrations.md",
    ],
  },
  {
    name: "a file that was taken away",
    verified: {
      files: 3,
      schema: same,
      increment: {
        ...increment,
        changed: ["migrations/20260101000000_a.sql"],
        versions: { missing: [], unexpected: ["20260101000000"] },
      },
    },
    says: [
      "The migrations do not make one and the same schema: 1 difference",
      "  | a database of origin/main (3f2a1b0), migrated, is not what a new one is:",
      "  | missing     a file for version 20260101000000, which is applied already",
      "  next: git checkout 3f2a1b0 -- migrations/20260101000000_a.sql",
      "  next: bun scripts/migrate.ts new NAME      # what is to be different goes into a new file",
      "  read: docs/migrations.md",
    ],
  },
];
test.each(rows)("whyNotGood() $name", ({ verified, says }) => {
  const failure = whyNotGood(verified)!;
  expect(failure.exitCode).toBe(3);
  expect(formatFailure(failure)).toBe(says.join("\n"));
});

test("outOfOrder() are those older than the newest that is applied", () => {
  const files = ["3_c", "5_e", "4_d"].map((name) => ({ file: `${name}.sql`, version: name[0]! }));
  expect(outOfOrder(["1", "4", "2"], files)).toEqual(["3_c.sql"]);
  expect(outOfOrder([], files)).toEqual([]);
});

const edits: [string, string, string, boolean][] = [
  ["a remark, spaces, upper case", "insert into t values (1)", "-- one\nINSERT  INTO T\nVALUES (1)", false],
  ["another row", "insert into t values (1)", "insert into t values (2)", true],
  ["a row more", "select 1; insert into t values (1)", "insert into t values (1); insert into t values (2)", true],
  ["structure alone", "create table t (id int)", "create table t (id bigint)", false],
  ["structure beside rows", "create table t (); delete from u", "delete from u; create table t (id int)", false],
  ["another DO block", "do $$ begin perform f(1); end $$", "do $$ begin perform f(2); end $$", true],
  ["what cannot be parsed", "this is no SQL", "this is no SQL either", true],
];
test.each(edits)("withOtherRows(): %s", async (_, before, now, isOther) => {
  const file = (name: string, sql: string) => parseMigration(name, `-- migrate:up\n${sql};\n-- migrate:down\n`);
  const [was, other] = [file("1_a.sql", before), file("2_b.sql", "insert into t values (3)")];
  expect(await withOtherRows([was, other], [file("1_renamed.sql", now), other])).toEqual(
    isOther ? ["migrations/1_a.sql"] : [],
  );
});

describe("schemaText()", () => {
  const dump = (release: string) => `--
-- PostgreSQL database dump
--

\\restrict dbmate

-- Dumped from database version ${release}
-- Dumped by pg_dump version ${release}

SET statement_timeout = 0;

--
-- Name: t; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.t (
);


--
-- PostgreSQL database dump complete
--

\\unrestrict dbmate

`;

  test("is the same for all patch releases, and has the versions where dbmate has them", () => {
    const text = schemaText(dump("18.6 (Debian 18.6-3)"), ["1", "2"]);
    expect(schemaText(dump("18.7"), ["1", "2"])).toBe(text);
    expect(text).toBe(`\\restrict dbmate

SET statement_timeout = 0;

--
-- Name: t; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.t (
);


--
-- PostgreSQL database dump complete
--

\\unrestrict dbmate


--
-- Dbmate schema migrations
--

INSERT INTO public.schema_migrations (version) VALUES
    ('1'),
    ('2');
`);
  });

  test("without a migration there is no version", () => {
    expect(schemaText(dump("18.6"), [])).toEndWith("\\unrestrict dbmate\n\n\n--\n-- Dbmate schema migrations\n--\n\n");
  });

  test("leaves alone what a comment in the schema says", () => {
    const saying = "COMMENT ON TABLE public.t IS 'a\n-- Dumped from x\nb';\n";
    expect(schemaText(dump("18.6").replace("CREATE TABLE", `${saying}CREATE TABLE`), [])).toContain(saying);
  });

  test("the kit's own has no release in it, and ends with its migrations", () => {
    const own = readFileSync(join(repository, "migrations/schema.sql"), "utf8");
    expect(own).toStartWith("\\restrict dbmate\n\nSET statement_timeout = 0;\n");
    expect(own).not.toContain("Dumped");
  });
});
