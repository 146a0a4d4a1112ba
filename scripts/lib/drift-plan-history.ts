// The steps of a repair that mend the history of migrations: the table schema_migrations. Pure.
import type { Assessment } from "./drift-assess.ts";
import { list, numbersOf } from "./drift-findings.ts";
import type { Step } from "./drift-plan.ts";
import type { MigrationFile } from "./migration-file.ts";
import { recordWithin } from "./migration-record.ts";
import { quoteIdentifier, quoteLiteral } from "./psql.ts";

export const insertVersions = (files: readonly MigrationFile[]) =>
  `insert into schema_migrations (version) values ${files.map(({ version }) => `(${quoteLiteral(version)})`).join(", ")}`;

export function historySteps({ history, live, present, unseen, applied }: Assessment, stamp: string): Step[] {
  const { converted, unknown, repeated, unfit } = history;
  const steps: Step[] = [];
  if (repeated.length > 0 || (unfit.includes(notKeyed) && live.history.rows.length > 0)) {
    steps.push({
      what: `keep each version once in schema_migrations${repeated.length > 0 ? `: ${list(repeated)}` : ""}`,
      details: [],
      statements: [
        "delete from schema_migrations a using schema_migrations b where a.ctid > b.ctid and a.version = b.version",
      ],
    });
  }
  if (unfit.length > 0) {
    steps.push({
      what: "make schema_migrations a table that dbmate can work with",
      details: unfit,
      statements: statementsToFit(live.history),
    });
  }
  if (converted.length > 0) {
    const values = converted.map(({ version, file }) => `(${quoteLiteral(version)}, ${quoteLiteral(file.version)})`);
    const files = converted.map(({ file }) => file);
    steps.push({
      what: `write ${numbersOf(converted.map(({ version }) => version))} of schema_migrations as the versions of their files`,
      details: converted.map(({ version, file, by }) => `${version} → ${file.version}  ${file.file}, by ${by}`),
      statements: [
        `update schema_migrations set version = v.new from (values ${values.join(", ")}) v (old, new) where version = v.old`,
        recordWithin(files),
      ],
    });
  }
  if (unknown.length > 0) {
    steps.push({
      what: `remove ${unknown.length === 1 ? "the version" : `${unknown.length} versions`} without a file from schema_migrations: ${list(unknown)}`,
      details: ["is this checkout older than the database? Then stop here: git pull"],
      statements: [`delete from schema_migrations where version in (${unknown.map(quoteLiteral).join(", ")})`],
    });
  }
  if (present.length > 0) {
    const isNew = live.history.columns.length === 0;
    steps.push({
      what: `note ${present.length === 1 ? "1 file" : `${present.length} files`} as applied, whose every change is there`,
      details: present.map(({ file }) => {
        const rows = unseen.find((one) => one.file === file);
        return rows ? `${file}; by --applied also ${rows.statements.join(", ")}` : file;
      }),
      statements: [
        ...(isNew ? ["create table schema_migrations (version varchar primary key)"] : []),
        insertVersions(present),
        recordWithin(present),
      ],
    });
  }
  const isThere = live.history.columns.length > 0 && live.history.rows.length > 0;
  if (steps.length === 0 || !isThere) return steps;
  const copy = `dbops.${newName(`schema_migrations_${stamp}`, live.copies)}`;
  const keep = [`create schema if not exists dbops`, `create table ${copy} as table schema_migrations`];
  const rows = `${live.history.rows.length} rows, ${applied.length} of them applied files`;
  return [{ what: `keep a copy of schema_migrations as ${copy}`, details: [rows], statements: keep }, ...steps];
}

/** Two repairs in one second are two. */
function newName(wanted: string, taken: readonly string[]): string {
  let name = wanted;
  for (let count = 2; taken.includes(name); count += 1) name = `${wanted}_${count}`;
  return name;
}

const notKeyed = "version is not its key";

function statementsToFit({ columns, isKeyed, hasPrimaryKey }: Assessment["live"]["history"]): string[] {
  const version = columns.find(({ name }) => name === "version");
  const isText = version === undefined || /^(character varying|text|character)/.test(version.type);
  const required = columns.filter(({ name, isRequired }) => name !== "version" && isRequired);
  const column = "alter table schema_migrations alter column version";
  return [
    ...required.map(({ name }) => `alter table schema_migrations alter column ${quoteIdentifier(name)} drop not null`),
    ...(isText
      ? []
      : [`${column} drop identity if exists`, `${column} drop default`, `${column} type varchar using version::text`]),
    ...(isKeyed
      ? []
      : hasPrimaryKey
        ? [`${column} set not null`, "create unique index on schema_migrations (version)"]
        : ["alter table schema_migrations add primary key (version)"]),
  ];
}
