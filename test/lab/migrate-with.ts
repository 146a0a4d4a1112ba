// Two migrations by each of the real tools: a table, and a column with an index. What they leave behind is for `drift adopt`.
import { symlinkSync } from "node:fs";
import { join } from "node:path";
import { run } from "../../scripts/lib/run.ts";
import type { AdoptProject } from "./adopt-project.ts";

/** Where the tools are: node_modules, and the PATH with Python and Ruby. */
export type Tools = { npm: string; path: string };

type Migrating = (project: AdoptProject, run: (...words: string[]) => Promise<void>) => Promise<void>;

/** Its files and what runs them. `migrate` may be asked for again, and does nothing then. */
export async function migrateWith(tool: keyof typeof migrating, project: AdoptProject, tools: Tools): Promise<void> {
  const node = join(project.directory, "tool");
  project.write("tool/package.json", "{}");
  symlinkSync(tools.npm, join(node, "node_modules"));
  const runIt = async (...[program, ...words]: string[]) => {
    const npm = join(tools.npm, ".bin", program!);
    const argv = [["node", "python3", "ruby"].includes(program!) ? program! : npm, ...words];
    const environment = {
      ...project.environment,
      ...{ PATH: tools.path, DATABASE_URL: withPassword(project), ...nothingIsFetched },
    };
    await run({ argv, directory: node, environment, timeoutSeconds: 120 });
  };
  await migrating[tool](project, runIt);
}

/** Prisma asks for its binaries before it knows that it needs none. */
const nothingIsFetched = {
  CHECKPOINT_DISABLE: "1",
  PRISMA_QUERY_ENGINE_LIBRARY: "/dev/null",
  PRISMA_SCHEMA_ENGINE_BINARY: "/bin/true",
};

const withPassword = ({ environment: { PGUSER, PGPASSWORD, PGHOST, PGPORT, PGDATABASE } }: AdoptProject) =>
  `postgres://${PGUSER}:${PGPASSWORD}@${PGHOST}:${PGPORT}/${PGDATABASE}`;

/** By pg from PGHOST and so on. */
const migrating = {
  async knex(project, runIt) {
    project.write("tool/knexfile.cjs", 'module.exports = { client: "pg", connection: process.env.DATABASE_URL };');
    project.write(
      "tool/migrations/20260101120000_create_people.js",
      'exports.up = (knex) => knex.schema.createTable("people", (t) => { t.increments(); t.text("email").notNullable(); });\nexports.down = (knex) => knex.schema.dropTable("people");',
    );
    project.write(
      "tool/migrations/20260102120000_index_people.js",
      'exports.up = (knex) => knex.schema.alterTable("people", (t) => { t.timestamp("seen_at"); t.unique("email"); });\nexports.down = () => {};',
    );
    await runIt("knex", "--knexfile", "knexfile.cjs", "migrate:latest");
  },

  async drizzle(project, runIt) {
    project.write(
      "tool/drizzle.config.ts",
      'export default { dialect: "postgresql", schema: "./schema.ts", out: "./drizzle", dbCredentials: { url: process.env.DATABASE_URL } };',
    );
    const schema = (more: string) =>
      `import { pgTable, serial, text, timestamp } from "drizzle-orm/pg-core";\nexport const people = pgTable("people", { id: serial().primaryKey(), email: text().notNull()${more} });`;
    project.write("tool/schema.ts", schema(""));
    await runIt("drizzle-kit", "generate", "--name=create_people");
    project.write("tool/schema.ts", schema('.unique(), seenAt: timestamp("seen_at")'));
    await runIt("drizzle-kit", "generate", "--name=index_people");
    await runIt("drizzle-kit", "migrate");
  },

  async prisma(project, runIt) {
    project.write(
      "tool/prisma/schema.prisma",
      'datasource db {\n  provider = "postgresql"\n  url = env("DATABASE_URL")\n}\n',
    );
    project.write("tool/prisma/migrations/migration_lock.toml", 'provider = "postgresql"\n');
    project.write(
      "tool/prisma/migrations/20260101120000_create_people/migration.sql",
      '-- CreateTable\nCREATE TABLE "people" ("id" SERIAL NOT NULL, "email" TEXT NOT NULL, CONSTRAINT "people_pkey" PRIMARY KEY ("id"));\n',
    );
    project.write(
      "tool/prisma/migrations/20260102120000_index_people/migration.sql",
      '-- CreateIndex\nCREATE UNIQUE INDEX "people_email_key" ON "people"("email");\n',
    );
    // Its engine as a binary would be downloaded; the one in the package works through a driver of Node's.
    project.write(
      "tool/prisma.config.ts",
      `import { PrismaPg } from "@prisma/adapter-pg";
import pg from "pg";

// The driver does not know Postgres' type "name", of which the catalog is full: it is text.
const { handleRowDescription } = pg.Query.prototype;
pg.Query.prototype.handleRowDescription = function (message) {
  for (const field of message.fields) if (field.dataTypeID === 19) field.dataTypeID = 25;
  handleRowDescription.call(this, message);
};

export default {
  schema: "prisma/schema.prisma",
  experimental: { adapter: true },
  engine: "js",
  adapter: async () => new PrismaPg({ connectionString: process.env.DATABASE_URL }),
};
`,
    );
    await runIt("prisma", "migrate", "deploy");
  },

  async "node-pg-migrate"(project, runIt) {
    project.write(
      "tool/migrations/1767268800000_create-people.js",
      'exports.up = (pgm) => { pgm.createTable("people", { id: "id", email: { type: "text", notNull: true } }); };\nexports.down = (pgm) => { pgm.dropTable("people"); };',
    );
    project.write(
      "tool/migrations/1767355200000_index-people.js",
      'exports.up = (pgm) => { pgm.addColumn("people", { seen_at: "timestamp" }); pgm.createIndex("people", "email"); };\nexports.down = false;',
    );
    await runIt("node-pg-migrate", "up");
  },

  async "node-pg-migrate with SQL"(project, runIt) {
    project.write(
      "tool/migrations/1767268800000_create-people.sql",
      "-- Up Migration\ncreate table people (id serial primary key, email text not null);\n\n-- Down Migration\ndrop table people;\n",
    );
    project.write(
      "tool/migrations/1767355200000_index-people.sql",
      "-- Up Migration\nalter table people add seen_at timestamp;\ncreate index on people (email);\n-- Down Migration\nalter table people drop seen_at;\n",
    );
    await runIt("node-pg-migrate", "up");
  },

  async sequelize(project, runIt) {
    project.write(
      "tool/migrations/20260101120000-create-people.js",
      'exports.up = async ({ context: query }) => { const { INTEGER, TEXT } = require("sequelize"); await query.createTable("people", { id: { type: INTEGER, primaryKey: true, autoIncrement: true }, email: { type: TEXT, allowNull: false } }); };',
    );
    project.write(
      "tool/migrations/20260102120000-index-people.js",
      'exports.up = async ({ context: query }) => { await query.addColumn("people", "seen_at", require("sequelize").DATE); await query.addIndex("people", ["email"]); };',
    );
    // As sequelize-cli does it.
    project.write(
      "tool/run.cjs",
      `const { Sequelize } = require("sequelize"); const { Umzug, SequelizeStorage } = require("umzug");
const sequelize = new Sequelize(process.env.DATABASE_URL, { logging: false });
const umzug = new Umzug({ migrations: { glob: "migrations/*.js" }, context: sequelize.getQueryInterface(), storage: new SequelizeStorage({ sequelize }), logger: undefined });
umzug.up().then(() => sequelize.close());`,
    );
    await runIt("node", "run.cjs");
  },

  async typeorm(project, runIt) {
    const file = (name: string, statements: string[]) =>
      `exports.${name} = class ${name} { async up(runner) { ${statements.map((one) => `await runner.query(${JSON.stringify(one)});`).join(" ")} } async down() {} };`;
    project.write(
      "tool/migrations/1767268800000-CreatePeople.js",
      file("CreatePeople1767268800000", ["create table people (id serial primary key, email text not null)"]),
    );
    project.write(
      "tool/migrations/1767355200000-IndexPeople.js",
      file("IndexPeople1767355200000", ["alter table people add seen_at timestamp", "create index on people (email)"]),
    );
    project.write(
      "tool/source.cjs",
      'const { DataSource } = require("typeorm");\nexports.source = new DataSource({ type: "postgres", url: process.env.DATABASE_URL, migrations: ["migrations/*.js"] });',
    );
    await runIt("typeorm", "migration:run", "-d", "source.cjs");
  },

  async alembic(project, runIt) {
    project.write("tool/alembic.ini", "[alembic]\nscript_location = alembic\n");
    project.write(
      "tool/alembic/env.py",
      `import os
from alembic import context
from sqlalchemy import create_engine
with create_engine(os.environ["DATABASE_URL"].replace("postgres://", "postgresql+psycopg2://")).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
`,
    );
    const file = (revision: string, before: string, up: string) =>
      `import sqlalchemy as sa\nfrom alembic import op\n\nrevision: str = "${revision}"\ndown_revision = ${before}\n\n\ndef upgrade():\n${up}\n\n\ndef downgrade():\n    pass\n`;
    project.write(
      "tool/alembic/versions/1975ea83b712_create_people.py",
      file(
        "1975ea83b712",
        "None",
        '    op.create_table("people", sa.Column("id", sa.Integer, primary_key=True), sa.Column("email", sa.Text, nullable=False))',
      ),
    );
    project.write(
      "tool/alembic/versions/ae1027a6acf1_index_people.py",
      file(
        "ae1027a6acf1",
        '"1975ea83b712"',
        '    op.add_column("people", sa.Column("seen_at", sa.DateTime))\n    op.create_index("people_email", "people", ["email"])',
      ),
    );
    await runIt("python3", "-m", "alembic", "upgrade", "head");
  },

  async django(project, runIt) {
    project.write(
      "tool/settings.py",
      `import os
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": os.environ["PGDATABASE"], "USER": os.environ["PGUSER"], "PASSWORD": os.environ["PGPASSWORD"], "HOST": os.environ["PGHOST"], "PORT": os.environ["PGPORT"]}}
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "people"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SECRET_KEY = "of a test"
`,
    );
    project.write("tool/people/__init__.py", "");
    project.write("tool/people/migrations/__init__.py", "");
    project.write(
      "tool/people/migrations/0001_initial.py",
      `from django.db import migrations, models
class Migration(migrations.Migration):
    operations = [migrations.CreateModel("Person", [("id", models.BigAutoField(primary_key=True)), ("email", models.TextField(unique=True))])]
`,
    );
    project.write(
      "tool/people/migrations/0002_person_seen_at.py",
      `from django.db import migrations, models
class Migration(migrations.Migration):
    dependencies = [("people", "0001_initial")]
    operations = [migrations.AddField("Person", "seen_at", models.DateTimeField(null=True, db_index=True))]
`,
    );
    await runIt("python3", "-m", "django", "migrate", "--settings=settings", "--pythonpath=.", "--verbosity=0");
  },

  async rails(project, runIt) {
    project.write(
      "tool/db/migrate/20260101120000_create_people.rb",
      "class CreatePeople < ActiveRecord::Migration[7.0]\n  def change\n    create_table(:people) { |t| t.text :email, null: false; t.timestamps }\n  end\nend\n",
    );
    project.write(
      "tool/db/migrate/20260102120000_index_people.rb",
      "class IndexPeople < ActiveRecord::Migration[7.0]\n  def change\n    add_column :people, :seen_at, :datetime\n    add_index :people, :email, unique: true\n  end\nend\n",
    );
    // What `bin/rails db:migrate` comes down to.
    project.write(
      "tool/run.rb",
      `require "active_record"
ActiveRecord::Base.establish_connection(ENV["DATABASE_URL"])
ActiveRecord::Migration.verbose = false
ActiveRecord::MigrationContext.new("db/migrate").migrate
`,
    );
    await runIt("ruby", "run.rb");
  },
} as const satisfies Readonly<Record<string, Migrating>>;
