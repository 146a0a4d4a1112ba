// The pages of docs/runbook/, as somebody reads them who has to act: their blocks, to be run as they stand.
//   for (const block of await blocksOf("disk-full", "Mitigation")) …
import { expect } from "bun:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { repository } from "./repository.ts";

/** The ```sh blocks of a section, or of the whole page; at least one. */
export async function blocksOf(page: string, section?: string): Promise<string[]> {
  const text = await readFile(join(repository, "docs", "runbook", `${page}.md`), "utf8");
  const part = section ? text.split(/^## /m).find((piece) => piece.startsWith(`${section}\n`)) : text;
  const blocks = [...(part ?? "").matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, block]) => block!);
  expect(blocks.length, `blocks in ${page}.md, ${section ?? "whole page"}`).toBeGreaterThan(0);
  return blocks;
}
