// sops, vault, doppler and infisical cannot be had from npm or Debian: doubles that know one command line, to the letter,
// and answer it with a document of the form that their documentation shows. Everything else is exit 64.
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";

export type Double = {
  /** The words behind the program's name. */
  words: string;
  stdout?: string;
  stderr?: string;
  exitCode?: number;
};

/** @returns PATH with the program in front. */
export async function placeDouble(program: string, double: Double) {
  const folder = await mkdtemp(join(tmpdir(), "dbops-provider-"));
  for (const stream of ["stdout", "stderr"] as const) await writeFile(join(folder, stream), double[stream] ?? "");
  const lines = [
    "#!/bin/sh",
    `[ "$*" = '${double.words}' ] || { echo "unknown: $*" >&2; exit 64; }`,
    `echo "$*" >>'${folder}/calls'`,
    `cat '${folder}/stdout'; cat '${folder}/stderr' >&2; exit ${double.exitCode ?? 0}`,
  ];
  await writeFile(join(folder, program), `${lines.join("\n")}\n`, { mode: 0o755 });
  return { PATH: `${folder}${delimiter}${process.env.PATH}`, folder, remove: () => rm(folder, { recursive: true }) };
}

/** @returns a PATH on which no provider can be, whatever this machine has: bash is all that run() needs. */
export async function barePath() {
  const folder = await mkdtemp(join(tmpdir(), "dbops-path-"));
  await symlink(Bun.which("bash")!, join(folder, "bash"));
  return { PATH: folder, remove: () => rm(folder, { recursive: true }) };
}
