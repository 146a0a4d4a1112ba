// What of the pending files goes into one run of dbmate. An index that is built CONCURRENTLY keeps nobody from reading or writing while
// it waits, and waits for every transaction of the database: 5 s, which protect the app from the queue behind a stronger lock, are
// nothing for a nightly dump. So a file that is one such statement has a run of its own, which waits longer.
import type { MigrationFile } from "./migration-file.ts";

export type Part = {
  /** Oldest first. */
  files: readonly MigrationFile[];
  /** Undefined where it is that of everything: 5 s. */
  lockTimeoutSeconds: number | undefined;
  /** The name of the index that it makes CONCURRENTLY, without its schema: what is left of it, when it fails, is nobody else's. */
  makes: string | undefined;
};

const concurrentlySeconds = 15 * 60;

export const inOne = (files: readonly MigrationFile[]): Part => ({
  files,
  lockTimeoutSeconds: undefined,
  makes: undefined,
});

/** Pure. */
export async function partsOf(pending: readonly MigrationFile[]): Promise<Part[]> {
  const parts: Part[] = [];
  for (const file of pending) {
    const concurrent = await concurrentlyIn(file);
    const last = parts.at(-1);
    if (concurrent) parts.push({ files: [file], lockTimeoutSeconds: concurrentlySeconds, makes: concurrent.makes });
    else if (last && last.lockTimeoutSeconds === undefined) last.files = [...last.files, file];
    else parts.push(inOne([file]));
  }
  return parts;
}

/** Where that is all that the file does. Not DETACH PARTITION and REFRESH, which take locks that the app would wait for. */
async function concurrentlyIn({ sections }: MigrationFile): Promise<{ makes: string | undefined } | undefined> {
  const { up } = sections[0]!;
  if (up.transaction || !/\bconcurrently\b/i.test(up.sql)) return undefined;
  const { statementsOf } = await import("./migration-statements.ts");
  const [only, second] = await statementsOf(up);
  if (!only || second) return undefined;
  const { node, tree } = only;
  if (node === "IndexStmt" && tree.concurrent) return { makes: tree.idxname as string | undefined };
  const isOther = (node === "DropStmt" && tree.concurrent) || (node === "ReindexStmt" && isConcurrently(tree));
  return isOther ? { makes: undefined } : undefined;
}

function isConcurrently({ params = [] }: { params?: { DefElem?: { defname: string } }[] }): boolean {
  return params.some(({ DefElem }) => DefElem?.defname === "concurrently");
}
