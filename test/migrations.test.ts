// The migration files themselves, without a server: what dbmate accepts silently and then does wrong is refused here.
import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { repository } from "./lab/repository.ts";

type Section = { direction: string; options: string; sql: string };

function sectionsOf(text: string): Section[] {
  const parts = text.split(/^-- migrate:(up|down)(.*)$/m);
  const sections: Section[] = [];
  for (let i = 1; i < parts.length; i += 3) {
    sections.push({ direction: parts[i]!, options: parts[i + 1]!.trim(), sql: parts[i + 2]! });
  }
  return sections;
}

/** Good enough for files without function bodies; comments and strings do not count. */
function statementsIn(sql: string): string[] {
  const bare = sql.replace(/--.*$/gm, "").replace(/'(?:[^']|'')*'/g, "''");
  return bare.split(";").filter((statement) => statement.trim());
}

function problemsOf(name: string, text: string): string[] {
  const sections = sectionsOf(text);
  const problems: string[] = [];
  const [, time] = /^(\d{14})_[a-z0-9_]+\.sql$/.exec(name) ?? [];
  if (!time) problems.push("the name is not YYYYMMDDHHMMSS_name.sql");
  else if (!isTime(time)) problems.push("the name does not begin with a time");
  if (sections.map(({ direction }) => direction).join() !== "up,down") problems.push("not one up and one down section");
  for (const { direction, options, sql } of sections) {
    const statements = statementsIn(sql);
    if (statements.length === 0) problems.push(`${direction} is empty`);
    const isAlone = options === "transaction:false";
    if (isAlone && statements.length !== 1) problems.push(`${direction} without a transaction has several statements`);
    if (!isAlone && /\bconcurrently\b/i.test(statements.join())) problems.push(`${direction} needs transaction:false`);
    if (/\bconcurrently\s+if\b/i.test(statements.join())) problems.push(`${direction} hides an invalid index`);
  }
  return problems;
}

function isTime(digits: string): boolean {
  const iso = digits.replace(/(....)(..)(..)(..)(..)(..)/, "$1-$2-$3T$4:$5:$6.000Z");
  return !Number.isNaN(Date.parse(iso)) && new Date(iso).toISOString() === iso;
}

const good = "-- migrate:up\nselect 1;\n-- migrate:down\nselect 1;\n";
test.each([
  { name: "20260101000000_good.sql", text: good, problems: [] },
  { name: "1_short.sql", text: good, problems: ["the name is not YYYYMMDDHHMMSS_name.sql"] },
  { name: "20261301000000_month.sql", text: good, problems: ["the name does not begin with a time"] },
  { name: "20260101000000_twice.sql", text: good + good, problems: ["not one up and one down section"] },
  { name: "20260101000000_empty.sql", text: good.replace("select 1;", "-- ;"), problems: ["up is empty"] },
  {
    name: "20260101000000_two.sql",
    text: good.replace("up\nselect 1;", "up transaction:false\nselect ';'; select 2;"),
    problems: ["up without a transaction has several statements"],
  },
  {
    name: "20260101000000_index.sql",
    text: good.replace("select 1;", "create index concurrently if not exists i on t (c);"),
    problems: ["up needs transaction:false", "up hides an invalid index"],
  },
])("problemsOf() $name", ({ name, text, problems }) => {
  expect<readonly string[]>(problemsOf(name, text)).toEqual(problems);
});

describe.each(["migrations", "templates/migrations"])("%s", (folder) => {
  const names = readdirSync(join(repository, folder)).filter((name) => /^\d/.test(name));
  const read = (name: string) => readFileSync(join(repository, folder, name), "utf8");

  test("has files, and each of them is sound", () => {
    expect(names.length).toBeGreaterThan(0);
    expect(names.flatMap((name) => problemsOf(name, read(name)).map((problem) => `${name}: ${problem}`))).toEqual([]);
  });

  test("no version twice", () => {
    const versions = names.map((name) => name.slice(0, 14));
    expect(versions).toEqual([...new Set(versions)]);
  });
});

test("schema.sql was dumped after the newest migration", () => {
  const read = (name: string) => readFileSync(join(repository, "migrations", name), "utf8");
  const files = readdirSync(join(repository, "migrations")).filter((name) => /^\d/.test(name));
  const versions = files.map((name) => name.slice(0, 14)).sort();
  expect([...read("schema.sql").matchAll(/\('(\d+)'\)/g)].map(([, version]) => version!)).toEqual(versions);
});

test("dbmate takes neither TEMPLATE.sql nor schema.sql for a migration", () => {
  const others = readdirSync(join(repository, "migrations")).filter(
    (name) => name.endsWith(".sql") && !/^\d/.test(name),
  );
  expect(others.sort()).toEqual(["TEMPLATE.sql", "schema.sql"]);
  expect(sectionsOf(readFileSync(join(repository, "migrations", "TEMPLATE.sql"), "utf8")).length).toBe(2);
});
