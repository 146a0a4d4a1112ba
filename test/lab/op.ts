// A stand-in for 1Password's program on PATH, with items, rights and a limit of reads; op/CONTRACT.md says what it follows.
//   const op = await startOp({ items: [{ vault: "prod", title: "app", fields: { password: "…" } }] });
//   run({ argv: [...], environment: op.environment });   …   expect(op.calls()).toHaveLength(1);   await op.stop();
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import type { OpState } from "./op/main.ts";
import type { OpItem } from "./op/vaults.ts";
import { programs, repository } from "./repository.ts";

export type OpCall = {
  argv: string[];
  /** Names, never values. */
  environment: string[];
};

export type Op = {
  /** PATH with `op` in front, and the token of a service account. */
  environment: Readonly<Record<string, string>>;
  /** Oldest first. */
  calls(): OpCall[];
  /** From now on. */
  behave(changes: Partial<OpState>): void;
  /** Harmless on repetition. */
  stop(): Promise<void>;
};

/** What op says for one reason and another, word for word, as `error` in behave(). */
export const opErrors = {
  signedOut: "You are not currently signed in. Please run `op signin --help` for instructions",
  severalAccounts: "multiple accounts found. Use the --account flag or set the OP_ACCOUNT environment variable",
  forbidden:
    "(403) Forbidden (Service Account Deleted): The Service Account used in this integration has been deleted.",
  timeout: "error initializing client: authorization timeout",
  dismissed: "error initializing client: authorization prompt dismissed, please try again",
  deadline: "could not get item: context deadline exceeded",
  unheardOf: "something that no version has said so far",
} as const;

export async function startOp({ items, ...behaviour }: { items: readonly OpItem[] } & Partial<OpState>): Promise<Op> {
  const folder = await mkdtemp(join(tmpdir(), "dbops-op-"));
  const token = "ops_a-token-of-the-lab";
  const stateFile = join(folder, "state.json");
  let state: OpState = { items, token, signedIn: false, readsLeft: 1000, hangs: false, ...behaviour };
  const save = () => writeFileSync(stateFile, JSON.stringify(state), { mode: 0o600 });
  save();
  const main = join(repository, "test/lab/op/main.ts");
  // From the folder of the repository Bun would read its bunfig.toml; from the caller's it might read an .env.
  const script = `#!/bin/sh\nOP_FAKE_FOLDER='${folder}' exec '${join(programs, "bun")}' --no-env-file '${main}' "$@"\n`;
  writeFileSync(join(folder, "op"), script, { mode: 0o755 });
  return {
    environment: { PATH: `${folder}${delimiter}${process.env.PATH}`, OP_SERVICE_ACCOUNT_TOKEN: token },
    calls() {
      const log = join(folder, "calls.jsonl");
      if (!existsSync(log)) return [];
      return readFileSync(log, "utf8")
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line) as OpCall);
    },
    behave(changes) {
      state = { ...JSON.parse(readFileSync(stateFile, "utf8")), ...changes };
      save();
    },
    stop: () => rm(folder, { recursive: true, force: true }),
  };
}
