// What people are sent to read is there: the pages that messages name, the links between pages, and the sections of the runbook.
import { expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { landingOf } from "../create/kit.ts";
import { repository } from "./lab/repository.ts";

const textOf = (path: string) => readFileSync(join(repository, path), "utf8");

function filesIn(folder: string): string[] {
  const paths = readdirSync(join(repository, folder), { recursive: true, encoding: "utf8" });
  return paths.map((path) => `${folder}/${path}`).filter((path) => /\.(?:ts|sh|md|ya?ml|tpl|conf|sql)$/.test(path));
}

const shipped = ["scripts", "templates", "compose", "nginx", "migrations"].flatMap(filesIn);
const pages = [...filesIn("docs"), "README.md"].filter((path) => path.endsWith(".md"));

test("every page of docs/ that a shipped file names is there, and is shipped too", () => {
  const named = shipped.flatMap((path) =>
    [...textOf(path).matchAll(/\bdocs\/[\w./-]+\.md\b/g)].map(([page]) => ({ path, page })),
  );
  expect(named.length).toBeGreaterThan(20);
  expect(named.filter(({ page }) => !existsSync(join(repository, page)) || !landingOf(page))).toEqual([]);
});

test("every page that a message composes is there", () => {
  const names = shipped.flatMap((path) =>
    [...textOf(path).matchAll(/`docs\/runbook\/\$\{.*\}\.md`/g)].map(([found]) => found),
  );
  expect(names).toEqual(['`docs/runbook/${wrongPassword ? "wrong-password" : "migration-failed"}.md`']);
});

test("every link from page to page leads somewhere", () => {
  const links = pages.flatMap((path) =>
    [...textOf(path).matchAll(/\]\((?!https?:|#)([^)#\s]+)/g)].map(([, link]) => ({ path, link: link! })),
  );
  expect(links.filter(({ path, link }) => !existsSync(join(repository, dirname(path), link)))).toEqual([]);
});

test("a page of the runbook says what it means, what it costs, how to look, what to do, and how to tell that it helped", () => {
  const sections = ["Meaning", "Impact", "Diagnosis", "Mitigation", "Verify"];
  const runbook = pages.filter((path) => path.startsWith("docs/runbook/") && !path.endsWith("README.md"));
  for (const path of runbook) {
    const found = [...textOf(path).matchAll(/^## (.+)$/gm)].map(([, title]) => title!);
    expect(found.slice(0, sections.length), path).toEqual(sections);
  }
});

test("the runbook's index has the sentences of backup and restore as the code has them", () => {
  const code = filesIn("scripts").map(textOf).join("\n");
  const own = /restore-|wrong-backup|backup-missing|bucket-gone|lost-passphrase|drill/;
  const rows = textOf("docs/runbook/README.md")
    .split("\n")
    .filter((line) => own.test(/\]\(([^)]+)\)[^(]*$/.exec(line)?.[1] ?? ""));
  expect(rows.length).toBeGreaterThan(6);
  // A value stands for "…"; what Postgres says itself is in no file of ours.
  const foreign = ["No space left on device", "could not extend file"];
  const sentences = rows.flatMap((row) =>
    [...row.split(" | ")[0]!.matchAll(/`([^`]+)`/g)].map(([, sentence]) => sentence!),
  );
  const missing = sentences
    .filter((sentence) => !foreign.includes(sentence))
    .filter((sentence) => !sentence.split("…").every((part) => code.includes(part.trim())));
  expect(missing).toEqual([]);
});
