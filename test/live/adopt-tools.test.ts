// A database of each real tool that npm or Debian has: found by its table, understood by the validator, taken over by `drift adopt`, and
// then migrated on by `migrate up`. test/live/adopt.test.ts has those that can only be imitated, and everything that can go wrong.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type AdoptLab, startAdoptLab } from "../lab/adopt-project.ts";
import { migrationToolsEnvironment } from "../lab/debian-programs.ts";
import { migrateWith, type Tools } from "../lab/migrate-with.ts";
import { npmTools } from "../lab/migration-tools.ts";

setDefaultTimeout(120_000);

let lab: AdoptLab;
let tools: Tools;

beforeAll(async () => {
  const [started, npm, { PATH }] = await Promise.all([startAdoptLab(), npmTools(), migrationToolsEnvironment()]);
  lab = started;
  tools = { npm, path: PATH };
}, 600_000);

afterAll(async () => {
  await lab?.stop();
});

type Row = {
  name: Parameters<typeof migrateWith>[0];
  tool?: string;
  /** Of the tool's files. */
  files: string;
  /** What the validator says is applied. */
  applied: string[] | number;
  /** What there is in migrations/ afterwards. */
  written: string[];
  /** The old history, where it is afterwards, and how many rows it has. */
  history: string;
  rows?: number;
  way: "import" | "baseline";
  /** A line of the written files. */
  says: string;
};

const rows: Row[] = [
  {
    name: "knex",
    files: "tool/migrations",
    applied: ["20260101120000_create_people", "20260102120000_index_people"],
    written: ["20260102120000_baseline.sql"],
    history: "knex_migrations",
    way: "baseline",
    says: "ADD CONSTRAINT people_email_unique UNIQUE (email);",
  },
  {
    name: "drizzle",
    files: "tool/drizzle",
    applied: 2,
    written: [
      expect.stringMatching(/^20\d{12}_create_people\.sql$/),
      expect.stringMatching(/^20\d{12}_index_people\.sql$/),
    ],
    history: "drizzle.__drizzle_migrations",
    way: "import",
    says: 'CREATE TABLE "people" (',
  },
  {
    name: "prisma",
    files: "tool/prisma/migrations",
    applied: ["20260101120000_create_people", "20260102120000_index_people"],
    written: ["20260101120000_create_people.sql", "20260102120000_index_people.sql"],
    history: "_prisma_migrations",
    way: "import",
    says: 'CREATE UNIQUE INDEX "people_email_key" ON "people"("email");',
  },
  {
    name: "node-pg-migrate",
    files: "tool/migrations",
    applied: ["1767268800000_create-people", "1767355200000_index-people"],
    written: ["20260102120000_baseline.sql"],
    history: "pgmigrations",
    way: "baseline",
    says: "CREATE INDEX people_email_index ON public.people USING btree (email);",
  },
  {
    name: "node-pg-migrate with SQL",
    tool: "node-pg-migrate",
    files: "tool/migrations",
    applied: ["1767268800000_create-people", "1767355200000_index-people"],
    written: ["20260101120000_create_people.sql", "20260102120000_index_people.sql"],
    history: "pgmigrations",
    way: "import",
    says: "-- migrate:down\n-- Down Migration\ndrop table people;\n",
  },
  {
    name: "sequelize",
    files: "tool/migrations",
    applied: ["20260101120000-create-people", "20260102120000-index-people"],
    written: ["20260102120000_baseline.sql"],
    history: '"SequelizeMeta"',
    way: "baseline",
    says: "CREATE TABLE public.people (",
  },
  {
    name: "typeorm",
    files: "tool/migrations",
    applied: ["CreatePeople1767268800000", "IndexPeople1767355200000"],
    written: ["20260102120000_baseline.sql"],
    history: "migrations",
    way: "baseline",
    says: "CREATE TABLE public.people (",
  },
  {
    name: "alembic",
    files: "tool/alembic/versions",
    applied: ["1975ea83b712", "ae1027a6acf1"],
    written: [expect.stringMatching(/^20\d{6}000000_baseline\.sql$/)],
    history: "alembic_version",
    rows: 1,
    way: "baseline",
    says: "CREATE INDEX people_email ON public.people USING btree (email);",
  },
  {
    name: "django",
    files: "tool",
    applied: 16,
    written: [expect.stringMatching(/^20\d{6}000000_baseline\.sql$/)],
    history: "django_migrations",
    rows: 16,
    way: "baseline",
    says: "CREATE TABLE public.people_person (",
  },
  {
    name: "rails",
    files: "tool/db/migrate",
    applied: ["20260101120000", "20260102120000"],
    written: ["20260102120000_baseline.sql"],
    history: "schema_migrations_before_dbmate",
    way: "baseline",
    says: "CREATE UNIQUE INDEX index_people_on_email ON public.people USING btree (email);",
  },
];

test.each(rows)(
  "$name",
  async ({ name, tool = name, files, applied, written, history, rows: count = 2, way, says }) => {
    const project = await lab.project(name);
    await migrateWith(name, project, tools);
    const before = await contentOf(history.endsWith("_before_dbmate") ? "schema_migrations" : history);
    expect(before).toHaveLength(count);

    // Without dbmate, which this database knows nothing of.
    const validated = await project.validator(["--json", "--tracker", "auto", "--files", files]);
    const { migrations, problems } = JSON.parse(validated.stdout);
    expect(problems).toEqual([]);
    expect(migrations).toMatchObject({ tracker: tool, pending: [], unknown: [] });
    if (typeof applied === "number") expect(migrations.applied).toHaveLength(applied);
    else expect(migrations.applied).toEqual(applied);

    const adopted = await project.adopt("--files", files);
    expect(adopted).toMatchObject({ adopted: true, tool, way });
    expect(project.migrations()).toEqual(written);
    expect(
      project
        .migrations()
        .map((file) => project.read(`migrations/${file}`))
        .join("\n"),
    ).toContain(says);
    expect(await contentOf(history)).toEqual(before);

    const check = await project.drift(["check"]);
    expect([check.exitCode, check.stdout, check.stderr], check.stdout).toEqual([
      0,
      expect.any(String),
      expect.any(String),
    ]);
    const again = await project.drift(["adopt", "--yes"]);
    expect([again.exitCode, again.stdout]).toEqual([0, expect.stringContaining("is adopted already")]);

    // From here on it is dbmate's.
    project.write(
      "migrations/20990101000000_later.sql",
      "-- migrate:up\ncreate table later (id int);\n\n-- migrate:down\ndrop table later;\n",
    );
    const up = await project.migrate(["up", "--yes", "--json"]);
    expect([up.exitCode, up.stderr], up.stderr).toEqual([0, expect.any(String)]);
    expect(await project.sql`select to_regclass('later') is not null as made`).toMatchObject([{ made: true }]);
    const versions = await project.sql`select version from schema_migrations order by 1`;
    expect(versions.map(({ version }) => version)).toEqual([...project.migrations().map((file) => file.slice(0, 14))]);

    async function contentOf(of: string): Promise<unknown[]> {
      return (await project.sql.unsafe(`select to_jsonb(t) as row from ${of} t order by to_jsonb(t)::text`)).map(
        ({ row }) => row,
      );
    }
  },
);
