// What docs/architecture.md says never happens, in every file that is shipped.
import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { repository } from "./lab/repository.ts";

const sources = ["scripts", "create"].flatMap((folder) => {
  const paths = readdirSync(join(repository, folder), { recursive: true, encoding: "utf8" });
  const files = paths.filter((path) => path.endsWith(".ts")).map((path) => `${folder}/${path}`);
  return files.map((path) => ({ path, text: readFileSync(join(repository, path), "utf8") }));
});

/** "path: what was found" for each place in the files whose paths match. */
function find(words: RegExp, paths = /./): string[] {
  const chosen = sources.filter(({ path }) => paths.test(path));
  return chosen.flatMap(({ path, text }) => [...text.matchAll(words)].map(([found]) => `${path}: ${found}`));
}

const importOf = (specifier: string) => new RegExp(`(?<=(?:from|import|import\\()\\s*")(?:${specifier})(?=")`, "g");
const verbs = /^scripts\/[^/]+\.ts$/;
const own = importOf('\\.[^"]*');

test("only scripts/lib/run.ts and flow.ts start processes", () => {
  expect(new Set(find(importOf("(?:node:)?child_process|zx")))).toEqual(
    new Set([
      // A type alone.
      "scripts/lib/child.ts: node:child_process",
      "scripts/lib/flow.ts: node:child_process",
      "scripts/lib/run.ts: node:child_process",
      "scripts/lib/run.ts: zx",
    ]),
  );
  expect(find(/\b(?:Bun\.spawn\w*|Bun\.\$|Deno\.Command)/g)).toEqual([]);
});

test("only scripts/lib/ssh.ts composes a command line of ssh", () => {
  expect(find(/\[\s*["'`](?:ssh|scp|sftp|rsync|ssh-keyscan)["'`]/g)).toEqual(['scripts/lib/ssh.ts: ["ssh"']);
  // Whom to trust is said there, and where the host key is asked for.
  expect(find(/\bStrictHostKeyChecking\b/g).sort()).toEqual([
    "scripts/lib/provision-pin.ts: StrictHostKeyChecking",
    "scripts/lib/ssh.ts: StrictHostKeyChecking",
  ]);
});

test("only scripts/lib/postgres.ts opens database connections", () => {
  const values = find(/(?<!\btype .*)\bfrom "postgres"|\bimport\("postgres"\)/g);
  expect([...new Set(values.map((place) => place.split(":")[0]))]).toEqual(["scripts/lib/postgres.ts"]);
});

test("only scripts/lib/s3.ts and its parts talk to object storage", () => {
  const places = find(importOf('@aws-sdk/[^"]*')).map((place) => place.split(":")[0]!);
  expect(places.length).toBeGreaterThan(0);
  expect(places.filter((path) => !/^scripts\/lib\/s3(-\w+)?\.ts$/.test(path))).toEqual([]);
});

test("a verb imports nouns only, and a noun no verb", () => {
  expect(find(own, verbs).length).toBeGreaterThan(0);
  expect(find(own, verbs).filter((place) => !/: \.\/lib\/[a-z0-9-]+\.ts$/.test(place))).toEqual([]);
  expect(find(importOf('\\.\\./[^"]*'), /^scripts\/lib\//)).toEqual([
    "scripts/lib/restore-prove.ts: ../validator.ts",
    "scripts/lib/validator-command.ts: ../validator.ts",
  ]);
});

test("nothing is left for later, and no machine or registry is named", () => {
  expect(find(/\b(?:TODO|FIXME|XXX)\b/g)).toEqual([]);
  expect(
    find(/\/(?:home|root|work|Users)\/\w+|\b[\w.-]*(?:registry|artifactory|nexus|mirror)[\w-]*\.[a-z]+\.[a-z]+\b/g),
  ).toEqual([]);
});
