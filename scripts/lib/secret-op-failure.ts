// What 1Password's program says when it refuses, and what that means: one sentence and the next command for each.
// The fragments are those of op 2.34 to 2.39. Whatever else it says is shown as it is.
import { exitCodes, Failure } from "./failure.ts";
import { lastLines, type Refusal, timeoutSeconds } from "./secret-program.ts";

export type OpProblem = {
  why: string;
  next: readonly string[];
  exitCode: 1 | 2;
  /** It concerns one reference; others may be fine. */
  aboutReference: boolean;
  details?: string;
};

type Kind = {
  says: RegExp;
  /** What the parentheses in `says` have caught comes in. */
  why: (found: string[]) => string;
  next: (found: string[], vaultOf: (item: string) => string) => string[];
  exitCode?: 1;
  aboutReference?: true;
};

const withToken = "where nobody can sign in, as in CI: set OP_SERVICE_ACCOUNT_TOKEN";
const newToken = "make a token for a service account that may read the vault, and set OP_SERVICE_ACCOUNT_TOKEN to it";

/** The first that matches counts: a rate limit may be reported for one reference, and is no fault of it. */
const kinds: readonly Kind[] = [
  {
    says: /\(429\)(?:[\s\S]*?retry in (\d+ \w+))?/,
    why: ([time]) => `its limit of reads is used up${time ? `, and there are new ones in ${time}` : ""}`,
    next: ([time]) => ["op service-account ratelimit", `the same command again${time ? ` in ${time}` : " in an hour"}`],
    exitCode: 1,
  },
  {
    says: /DecodeSACredentials/,
    why: () => "OP_SERVICE_ACCOUNT_TOKEN is not a token, or not the whole of one",
    next: () => ["set it again: one line that begins with ops_"],
  },
  { says: /\(401\)/, why: () => "the token is not accepted: it has expired, or was revoked", next: () => [newToken] },
  {
    says: /\(403\)/,
    why: () => "the account may not read this: its rights do not reach so far, or it was deleted",
    next: () => ["op vault list", newToken],
  },
  {
    says: /not (?:currently )?signed in|session expired/i,
    why: () => "op is not signed in",
    next: () => ["op signin", withToken],
  },
  {
    says: /No accounts configured/i,
    why: () => "op knows no account on this machine",
    next: () => ["op account add", withToken],
  },
  {
    says: /multiple accounts found/i,
    why: () => "op knows several accounts on this machine, and not which one to ask",
    next: () => ["op account list", 'name it in dbops.config.ts: secrets: { provider: "op", account: "…" }'],
  },
  {
    says: /authorization (?:timeout|prompt dismissed)|couldn't connect to the 1Password desktop app/i,
    why: () => "nobody unlocked the 1Password app",
    next: () => ["the same command again, then confirm in the app", withToken],
  },
  {
    says: /context deadline exceeded|no such host|connection (?:refused|reset)|i\/o timeout/i,
    why: () => "1Password cannot be reached from here",
    next: () => ["the same command again"],
    exitCode: 1,
  },
  {
    says: /"([^"]+)" isn't a vault in this account/,
    why: ([vault]) => `"${vault}" is no vault that this account can see`,
    next: () => ["op vault list"],
    aboutReference: true,
  },
  {
    says: /More than one item matches "([^"]+)"/,
    why: ([item]) => `more than one item is named "${item}"`,
    next: ([item]) => [`write the item's ID into .env.tpl instead of "${item}"`],
    aboutReference: true,
  },
  {
    says: /could not find item (.+?) in vault|"([^"]+)" isn't an item/,
    why: ([one, other]) => `item "${one ?? other}" is not in that vault`,
    next: ([one, other], vaultOf) => [`op item list --vault "${vaultOf(one ?? other!)}"`],
    aboutReference: true,
  },
  {
    says: /item '([^']+)' does not have a field '([^']+)'|could not find field or file (\S+) on item (.+?) in vault/,
    why: ([item, field, otherField, otherItem]) =>
      `item "${item ?? otherItem}" has no field or section "${field ?? otherField}"`,
    next: ([item, , , otherItem], vaultOf) => {
      const name = (item ?? otherItem!).split("/").at(-1)!;
      return [`op item get "${name}" --vault "${vaultOf(name)}"`];
    },
    aboutReference: true,
  },
  {
    says: /invalid character in secret reference: '(.)'/,
    why: ([character]) => `a reference holds "${character}", which none may`,
    next: () => ["write the ID into .env.tpl instead of a name with such a character"],
    aboutReference: true,
  },
  {
    says: /invalid secret reference '([^']+)'/,
    why: ([reference]) => `"${reference}" is no reference`,
    next: () => ["correct .env.tpl: op://vault/item/field or op://vault/item/section/field"],
    aboutReference: true,
  },
];

/** @param references all that were asked for, of which op names at most one. */
export function opProblem({ kind, stderr }: Refusal, references: readonly string[]): OpProblem {
  if (kind === "missing") {
    const next = ["op --version    # after installing the 1Password CLI: https://www.1password.dev/cli"];
    return { why: '"op" is not installed, or not on PATH', next, exitCode: exitCodes.usage, aboutReference: false };
  }
  const said = messageOf(stderr);
  const details = said ? { details: lastLines(said) } : {};
  if (kind === "slow") {
    const next = ["op vault list    # does it wait for somebody to unlock 1Password?", withToken];
    const why = `no answer within ${timeoutSeconds} s`;
    return { why, next, exitCode: exitCodes.failed, aboutReference: false, ...details };
  }
  const known = kinds.find(({ says }) => says.test(said));
  if (!known) {
    return { why: "op refused", next: [], exitCode: exitCodes.failed, aboutReference: true, ...details };
  }
  const found = known.says.exec(said)!.slice(1);
  const { aboutReference = false, exitCode = exitCodes.usage } = known;
  const next = known.next(found, (item) => vaultOf(item, references));
  return { why: known.why(found), next, exitCode, aboutReference, ...details };
}

export function opFailure(problem: OpProblem): Failure {
  const { why, next, exitCode, details, aboutReference } = problem;
  return new Failure(
    "Cannot read secrets from 1Password",
    why,
    [...next, ...(aboutReference ? ["bun scripts/secrets.ts check    # which references are good"] : [])],
    { exitCode, read: "docs/secrets.md", ...(details && { details }) },
  );
}

/** From its error on, without "[ERROR]" and the time: before it may stand what OP_DEBUG adds. */
function messageOf(stderr: string): string {
  const [, message] = /\[ERROR\] \d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d ([\s\S]*)/.exec(stderr) ?? [];
  return (message ?? stderr).trim();
}

/** op names the vault by its ID, or not at all. */
function vaultOf(item: string, references: readonly string[]): string {
  const parts = references.map((reference) => reference.slice("op://".length).split("/"));
  return (parts.find(([, name]) => name === item) ?? parts[0])![0]!;
}
