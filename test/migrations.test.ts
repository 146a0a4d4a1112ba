// The kit's own migration files, without a server: `migrate lint` finds nothing in them.
import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { findMigrations } from "../scripts/lib/migration-file.ts";
import { lint, only } from "./lab/lint.ts";
import { repository } from "./lab/repository.ts";

test.each(["migrations", "templates/migrations"])("nothing is found in %s", async (folder) => {
  const { files } = await findMigrations(repository, folder);
  const linted = await lint(Object.fromEntries(files.map(({ file, text }) => [file, text])));
  expect(files.length).toBeGreaterThan(0);
  expect(linted).toEqual({ files: files.length, judged: files.length, squawk: true, findings: [], allowed: [] });
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
});

test("a file made from TEMPLATE.sql lacks nothing but its statements", async () => {
  const text = readFileSync(join(repository, "migrations", "TEMPLATE.sql"), "utf8");
  expect((await lint(only(text))).findings.map(({ rule }) => rule)).toEqual(["up-empty", "down-empty"]);
});
