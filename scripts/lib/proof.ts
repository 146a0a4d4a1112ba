// proof-TIME.json beside a backup's manifest: what a restore or a drill has found out about it. `backup list` shows it, and `prune`
// never removes the last backup that is proven.
import { asFailure } from "./failure.ts";
import { newBackupId, type Proof } from "./manifest.ts";
import type { Progress } from "./progress.ts";
import type { Store } from "./s3.ts";

/** Never fails what it is about: who may only read the bucket is told that nobody else will know. */
export async function writeProof(
  store: Store | undefined,
  folder: string | undefined,
  found: Omit<Proof, "version" | "at" | "equal">,
  progress: Pick<Progress, "note">,
): Promise<void> {
  if (!store || !folder) return;
  const at = new Date();
  const proof: Proof = { version: 1, at: at.toISOString(), equal: found.problems.length === 0, ...found };
  try {
    // Two in one second do not overwrite each other.
    await store.put(`${folder}/proof-${newBackupId(at)}.json`, `${JSON.stringify(proof, undefined, 2)}\n`);
  } catch (error) {
    progress.note(`warning: the proof could not be written beside the backup: ${asFailure(error).message}`);
  }
}
