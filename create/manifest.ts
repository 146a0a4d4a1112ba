// .dbops/manifest.json: which kit wrote this project, with which answers, and the hash of each file as the kit rendered
// it. Committed with the project: an update compares old kit, new kit and yours. No timestamp: twice gives the same bytes.
import type { Answers } from "./answers.ts";
import { type ProjectFile, sha256 } from "./render.ts";

export const manifestPath = ".dbops/manifest.json";

export type Manifest = {
  kit: string;
  answers: Answers;
  /** sha256 by path, of what the kit offered; yours may differ, and that is how an update can tell. */
  files: Record<string, string>;
};

export function manifestOf(kit: string, answers: Answers, offered: readonly ProjectFile[]): Manifest {
  return { kit, answers, files: Object.fromEntries(offered.map(({ path, text }) => [path, sha256(text)])) };
}

export function formatManifest(manifest: Manifest): string {
  return `${JSON.stringify(manifest, null, 2)}\n`;
}

/** @returns nothing for a text that is no manifest of ours. */
export function parseManifest(text: string): Manifest | undefined {
  try {
    const manifest = JSON.parse(text) as Manifest;
    const { name, database, domain, image, server, runtime, app } = manifest.answers;
    const texts = [manifest.kit, name, database, domain, image, server, ...Object.values(manifest.files)];
    const isWhole =
      texts.every((value) => typeof value === "string") &&
      (runtime === "bun" || runtime === "deno") &&
      typeof app === "boolean" &&
      Array.isArray(manifest.answers.with);
    return isWhole ? manifest : undefined;
  } catch {
    return undefined;
  }
}
