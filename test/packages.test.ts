// Which command installs a package in a project: that of the package manager whose lock file lies there.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { addCommand, installCommand } from "../scripts/lib/packages.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "dbops-packages-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

test.each([
  ["bun.lock", "bun install", "bun add --dev --exact it@1.2.3"],
  ["pnpm-lock.yaml", "pnpm install", "pnpm add --save-dev --save-exact it@1.2.3"],
  ["yarn.lock", "yarn install", "yarn add --dev --exact it@1.2.3"],
  ["deno.lock", "deno install", "deno add --dev npm:it@1.2.3"],
  ["package-lock.json", "npm install", "npm install --save-dev --save-exact it@1.2.3"],
  ["none", "bun install", "bun add --dev --exact it@1.2.3"],
])("%s", (lock, install, add) => {
  const path = join(folder, lock);
  writeFileSync(path, "");
  try {
    expect([installCommand(folder), addCommand(folder, "it@1.2.3")]).toEqual([install, add]);
  } finally {
    rmSync(path);
  }
});
