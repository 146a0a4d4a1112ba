// What of the pending files goes into one run of dbmate, without a database.
import { expect, test } from "bun:test";
import { type MigrationFile, parseMigration } from "../scripts/lib/migration-file.ts";
import { partsOf } from "../scripts/lib/migration-parts.ts";

/** In the order of their names, each without a transaction. */
function filesOf(...statements: string[]): MigrationFile[] {
  return statements.map((sql, at) =>
    parseMigration(`${at}.sql`, `-- migrate:up transaction:false\n${sql}\n-- migrate:down\nselect 1;\n`),
  );
}

const plain = "update one set id = id + 1;";
const index = "create index concurrently i on one (id);";

type Row = { name: string; files: string[]; parts: [string, number | undefined, string | undefined][] };

test.each<Row>([
  { name: "nothing", files: [], parts: [] },
  { name: "files of one statement each", files: [plain, plain], parts: [["0.sql, 1.sql", undefined, undefined]] },
  {
    name: "an index between others has a run of its own",
    files: [plain, index, plain, plain],
    parts: [
      ["0.sql", undefined, undefined],
      ["1.sql", 900, "i"],
      ["2.sql, 3.sql", undefined, undefined],
    ],
  },
  {
    name: "two indexes, the second without a name",
    files: [index, "create index concurrently on one (id);"],
    parts: [
      ["0.sql", 900, "i"],
      ["1.sql", 900, undefined],
    ],
  },
  {
    name: "one of another schema, in capitals, behind a comment",
    files: ['/* why */ CREATE UNIQUE INDEX CONCURRENTLY "One I" ON shop.one (id);'],
    parts: [["0.sql", 900, "One I"]],
  },
  {
    name: "what else waits and keeps nobody waiting",
    files: ["drop index concurrently i;", "reindex index concurrently i;", "reindex (concurrently) table one;"],
    parts: [
      ["0.sql", 900, undefined],
      ["1.sql", 900, undefined],
      ["2.sql", 900, undefined],
    ],
  },
  {
    name: "what only sounds like it: it takes a lock for which the app waits, or is more than that",
    files: [
      "alter table one detach partition two concurrently;",
      "refresh materialized view concurrently v;",
      "do $$ begin /* concurrently */ end $$;",
      "select 'concurrently';",
      "create index i on one (id); -- not concurrently",
      "reindex table one /* not concurrently */;",
      `${index} ${plain}`,
      "create indexx concurrently i on one (id);",
    ],
    parts: [["0.sql, 1.sql, 2.sql, 3.sql, 4.sql, 5.sql, 6.sql, 7.sql", undefined, undefined]],
  },
])("$name", async ({ files, parts }) => {
  const found = await partsOf(filesOf(...files));
  expect(
    found.map(({ files: of, lockTimeoutSeconds, makes }) => [
      of.map(({ file }) => file).join(", "),
      lockTimeoutSeconds,
      makes,
    ]),
  ).toEqual(parts);
});

test("within a transaction Postgres refuses it, and nothing is waited for", async () => {
  const file = parseMigration("1.sql", `-- migrate:up\n${index}\n-- migrate:down\nselect 1;\n`);
  expect(await partsOf([file])).toEqual([{ files: [file], lockTimeoutSeconds: undefined, makes: undefined }]);
});
