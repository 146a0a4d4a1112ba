// Which files of migrations/ write other rows than they did when they were merged: nobody can see that in the structure, and no database in use
// gets them.
import { isUnseen } from "./drift-rows.ts";
import type { MigrationFile } from "./migration-file.ts";
import { type Statement, statementsOf } from "./migration-statements.ts";

/** @returns their paths as they were, "migrations/20260101090000_countries.sql". A file may be called otherwise by now, not its version. */
export async function withOtherRows(
  before: readonly MigrationFile[],
  now: readonly MigrationFile[],
): Promise<string[]> {
  const found = now.map(async (file): Promise<string[]> => {
    const was = before.find(({ version }) => version === file.version);
    if (!was || was.sha256 === file.sha256) return [];
    const [old, own] = await Promise.all([rowsOf(was), rowsOf(file)]);
    return old === own ? [] : [`migrations/${was.file}`];
  });
  return (await Promise.all(found)).flat();
}

/** Equal where the statements are, however they are written. */
async function rowsOf({ sections }: MigrationFile): Promise<string> {
  const all = sections[0] ? await statementsOf(sections[0].up) : [];
  return JSON.stringify(all.filter(isUnseen).map(({ node, tree, sql }) => [node ?? sql, withoutPlaces(tree)]));
}

/** The parse tree says of each of its parts where in the text it stands. */
const withoutPlaces = (tree: Statement["tree"]): unknown =>
  JSON.parse(
    JSON.stringify(tree, (key, value) => (typeof value === "number" && isPlace.test(key) ? undefined : value)),
  );

const isPlace = /(?:^|_)location$|^stmt_len$|_list_(?:start|end)$/;
