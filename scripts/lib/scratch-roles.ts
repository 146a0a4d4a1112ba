// What migrations leave on a server that stays, when they are tried there: roles belong to no database, and so do not go with it.
import { rolesSetting } from "./migration-replay.ts";
import { type Psql, quoteIdentifier, quoteLiteral, SqlError } from "./psql.ts";

export type Roles = {
  /** A session that sees what is made in it, and in which replay() may give a role of an earlier database another name. */
  watch(psql: Psql): Promise<Psql>;
  /** Drops those that were made in such sessions; after the databases, in which they may own something. @returns why one cannot be. */
  remove(): Promise<string[]>;
};

/** In a function or a DO block as well. */
const makesRoles = /\bcreate\s+(?:role|user|group)\b/i;

type Role = { oid: string; name: string };

const read = (psql: Psql) => psql.rows<Role>("select oid::text as oid, rolname as name from pg_catalog.pg_roles");

/** Others use the server, too, also at this moment: a role counts as ours only where our statement names it, and it was not there before that. */
export function watchRoles(admin: Psql): Roles {
  const made = new Set<string>();
  return {
    async watch(psql) {
      const tell = () => psql.execute(`set ${rolesSetting} = ${quoteLiteral(JSON.stringify([...made]))}`);
      await tell();
      return {
        ...psql,
        async execute(statements, timeoutSeconds) {
          if (!makesRoles.test(statements)) return await psql.execute(statements, timeoutSeconds);
          await tell();
          const before = new Set((await read(psql)).map(({ oid }) => oid));
          let isUndone = false;
          try {
            return await psql.execute(statements, timeoutSeconds);
          } catch (error) {
            isUndone = error instanceof SqlError;
            throw error;
          } finally {
            // Interrupted, the session is gone, and what it has made is not.
            const now = isUndone ? [] : await read(psql).catch(() => read(admin).catch(() => []));
            const named = namedIn(statements);
            for (const { oid, name } of now) if (!before.has(oid) && named(name)) made.add(oid);
          }
        },
      };
    },
    async remove() {
      const left: string[] = [];
      for (const { oid, name } of await read(admin)) {
        if (!made.has(oid)) continue;
        // Somebody else may have begun to use it.
        await admin.execute(`drop role if exists ${quoteIdentifier(name)}`).catch((error: unknown) => {
          if (!(error instanceof SqlError)) throw error;
          left.push(error.why);
        });
      }
      return left;
    },
  };
}

/** However it is quoted, also in a text that a DO block executes. */
function namedIn(statements: string): (role: string) => boolean {
  const plain = (text: string) => text.replaceAll(/(['"])\1+/g, "$1").toLowerCase();
  const text = plain(statements);
  return (role) => text.includes(plain(role));
}
