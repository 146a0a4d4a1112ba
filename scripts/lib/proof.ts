// proof-TIME.json beside a backup's manifest: what a restore has found out about it. `backup list` shows it, and `prune` never removes
// the last backup that is proven.
import { asFailure } from "./failure.ts";
import type { Proof } from "./manifest.ts";
import type { Progress } from "./progress.ts";
import type { Store } from "./s3.ts";

/** Never fails a restore: who may only read the bucket is told that nobody else will know. */
export async function writeProof(
  store: Store | undefined,
  folder: string | undefined,
  problems: string[],
  restoreSeconds: number,
  progress: Pick<Progress, "note">,
): Promise<void> {
  if (!store || !folder) return;
  const at = new Date().toISOString();
  const proof: Proof = { version: 1, at, by: "restore", equal: problems.length === 0, restoreSeconds, problems };
  const name = `proof-${at.slice(0, 19).replaceAll(":", "-")}Z.json`;
  try {
    await store.put(`${folder}/${name}`, `${JSON.stringify(proof, undefined, 2)}\n`);
  } catch (error) {
    progress.note(`warning: the proof could not be written beside the backup: ${asFailure(error).message}`);
  }
}
