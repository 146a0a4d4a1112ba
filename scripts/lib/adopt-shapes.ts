// What each tool's table of applied migrations looks like. Data alone; adopt-detect.ts reads it. scripts/validator.ts, which must stay
// self-contained, has the same once more, and test/adopt.test.ts holds one against the other.
// Checked against the tables that the real tools make (test/live/adopt-tools.test.ts), or against their source.

/** "text", "number" and "time" stand for all types of that kind: lengths and precisions have changed between versions of the tools. */
export type Columns = Readonly<Record<string, string>>;

export type Shape = {
  tool: string;
  columns: Columns;
  /** Columns that some versions of the tool have. No other column may be there. */
  optional?: Columns;
  /** Where the columns could be anybody's: what "schema.table" must look like. */
  named?: string;
  /** The columns of another table of the same schema, without which it is not this tool's. */
  beside?: Columns;
  /** What its users call it, nearly all of them. An app may have a table with the same columns, and hardly with the same name too. */
  usual: string;
};

/** The first that fits is the one. */
export const shapes = [
  { tool: "alembic", columns: { version_num: "text" }, usual: "alembic_version" },
  {
    tool: "django",
    columns: { id: "number", app: "text", name: "text", applied: "time" },
    usual: "django_migrations",
  },
  {
    tool: "drizzle",
    columns: { id: "number", hash: "text", created_at: "number" },
    optional: { name: "text", applied_at: "time" },
    named: "migration",
    usual: "__drizzle_migrations",
  },
  {
    tool: "ecto",
    columns: { version: "number", inserted_at: "time" },
    named: "migration",
    usual: "schema_migrations",
  },
  {
    tool: "flyway",
    columns: {
      installed_rank: "number",
      version: "text",
      description: "text",
      type: "text",
      script: "text",
      checksum: "number",
      installed_by: "text",
      installed_on: "time",
      execution_time: "number",
      success: "boolean",
    },
    usual: "flyway_schema_history",
  },
  { tool: "golang-migrate", columns: { version: "number", dirty: "boolean" }, usual: "schema_migrations" },
  {
    tool: "knex",
    columns: { id: "number", name: "text", batch: "number", migration_time: "time" },
    usual: "knex_migrations",
  },
  { tool: "node-pg-migrate", columns: { id: "number", name: "text", run_on: "time" }, usual: "pgmigrations" },
  {
    tool: "prisma",
    columns: {
      id: "text",
      checksum: "text",
      finished_at: "time",
      migration_name: "text",
      logs: "text",
      rolled_back_at: "time",
      started_at: "time",
      applied_steps_count: "number",
    },
    usual: "_prisma_migrations",
  },
  {
    tool: "rails",
    columns: { version: "text" },
    beside: { key: "text", value: "text", created_at: "time", updated_at: "time" },
    usual: "schema_migrations",
  },
  {
    tool: "sequelize",
    columns: { name: "text" },
    optional: { createdAt: "time", updatedAt: "time" },
    named: "meta$|migration",
    usual: "SequelizeMeta",
  },
  {
    tool: "supabase",
    columns: { version: "text" },
    optional: { statements: "text[]", name: "text", created_by: "text", idempotency_key: "text", rollback: "text[]" },
    named: "^supabase_migrations\\.",
    usual: "schema_migrations",
  },
  {
    tool: "typeorm",
    columns: { id: "number", timestamp: "number", name: "text" },
    named: "migration",
    usual: "migrations",
  },
  { tool: "dbmate", columns: { version: "text" }, named: "\\.schema_migrations$", usual: "schema_migrations" },
] as const satisfies readonly Shape[];

/** What the tools keep beside it, in the same schema, which goes with it: knex' lock, the note that Rails makes, the seeds of Supabase. */
export const companions: Readonly<Record<string, (history: string) => string>> = {
  knex: (history) => `${history}_lock`,
  rails: () => "ar_internal_metadata",
  supabase: () => "seed_files",
};

/** The kind of a type, from the name that format_type() gives it without its length. */
export function kindOf(type: string): string {
  if (/^(text|character varying|character)$/.test(type)) return "text";
  if (/^(smallint|integer|bigint)$/.test(type)) return "number";
  return /^timestamp/.test(type) ? "time" : type;
}
