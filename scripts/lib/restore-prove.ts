// What a restored database has to stand before anybody uses it: it holds what was backed up, and the app can work with it.
import { type Expectation, formatProblem, validate } from "../validator.ts";
import { compare, type Found, lookAt } from "./database-compare.ts";
import { exitCodes, Failure } from "./failure.ts";
import type { Psql } from "./psql.ts";
import type { Restoring } from "./restore-run.ts";

export type { Expectation };

/** The database is kept for whoever wants to find out why. */
export class NotAsItShouldBe extends Failure {
  constructor(what: string, why: string, lines: readonly string[]) {
    super(what, why, [], { exitCode: exitCodes.saidNo, details: shortened(lines).join("\n") });
  }
}

const linesMaximum = 30;

const shortened = (lines: readonly string[]) =>
  lines.length <= linesMaximum
    ? lines
    : [...lines.slice(0, linesMaximum), `and ${lines.length - linesMaximum} more of the kind`];

/** @throws {Failure} exit 3 with every difference. */
export async function requireEqual(
  { source, onProof }: Pick<Restoring, "source" | "onProof">,
  psql: Psql,
  seconds: () => number,
): Promise<Found> {
  const found = await lookAt(psql);
  const { manifest } = source;
  if (!manifest) return found;
  const problems = compare(manifest, found);
  // Nobody has counted single tables, so nothing was compared.
  if (!manifest.tables) await onProof(problems, seconds());
  if (problems.length === 0) return found;
  const count = problems.length === 1 ? "1 difference" : `${problems.length} differences`;
  throw new NotAsItShouldBe(`What was restored from ${source.name} is not what was backed up`, count, problems);
}

const looksMaximum = 3;

/** @throws {Failure} exit 3 with what the validator says. */
export async function requireUsable(psql: Psql, expectation: Expectation): Promise<void> {
  const database = { unsafe: (query: string) => lastOfBoth(psql, query) };
  // Nothing of it is in memory yet, so that the first look may take longer than the validator waits.
  for (let look = 1; look <= looksMaximum; look += 1) {
    const report = await validate(database, expectation);
    if (report.ok) return;
    if (report.transient && look < looksMaximum) continue;
    const failures = report.problems.filter(({ severity }) => severity === "fail");
    const why =
      failures.length === 1 ? "1 check of the validator fails" : `${failures.length} checks of the validator fail`;
    throw new NotAsItShouldBe("The app could not work with the restored database", why, failures.map(formatProblem));
  }
}

/** The validator sends two statements at once, of which the first one only limits the time. */
async function lastOfBoth(psql: Psql, query: string): Promise<unknown[]> {
  return [undefined, await psql.rows(query.slice(query.indexOf(";") + 1))];
}
