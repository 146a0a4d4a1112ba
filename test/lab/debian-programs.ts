// Programs of another Debian release, or ones that this machine does not have: from packages, and without installing anything. They see
// a /usr of their own, so that their libraries and helpers are where they were built to find them.
//   const environment = await gpgEnvironment("forky");   …   run({ argv: ["gpg", "--version"], environment });
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cacheFolder, hashOf, step, whole } from "./cache.ts";
import { fetchPackages, unpack } from "./debian.ts";
import type { Suite } from "./debian-sources.ts";

/** PATH with gpg of that release in front. */
export const gpgEnvironment = (suite: Suite) =>
  environmentOf(suite, ["gpg", "gpg-agent", "gpgconf"], ["/usr/bin/gpg", "/usr/bin/gpgconf"]);

/** PATH with psql and pg_dump of the version that the stack's Postgres has. */
export const postgresEnvironment = () =>
  environmentOf(
    "forky",
    // pg_dumpall asks its pg_dump through a shell.
    ["postgresql-client-18", "dash"],
    ["psql", "pg_dump", "pg_dumpall", "pg_restore", "createdb"].map((name) => `/usr/lib/postgresql/18/bin/${name}`),
  );

/** PATH with two clients for S3 in front that people have at hand. */
export async function s3ClientsEnvironment(): Promise<{ PATH: string }> {
  const [rclone, aws] = await Promise.all([
    environmentOf("sid", ["rclone", "dash"], ["/usr/bin/rclone"]),
    environmentOf("sid", ["awscli", "dash"], ["/usr/bin/aws"]),
  ]);
  return { PATH: `${rclone.PATH.split(":")[0]}:${aws.PATH}` };
}

/** PATH with Python and Ruby in front, and with Alembic, Django and Active Record to be imported there. */
export async function migrationToolsEnvironment(): Promise<{ PATH: string }> {
  const [python, ruby] = await Promise.all([
    environmentOf("forky", ["alembic", "python3-django", "python3-psycopg2", "dash"], ["/usr/bin/python3"]),
    environmentOf("forky", ["ruby-activerecord", "ruby-pg", "dash"], ["/usr/bin/ruby"]),
  ]);
  return { PATH: `${python.PATH.split(":")[0]}:${ruby.PATH}` };
}

async function environmentOf(suite: Suite, packages: string[], programs: string[]): Promise<{ PATH: string }> {
  const folder = cacheFolder("programs", hashOf(suite, ...packages, ...programs).slice(0, 12));
  const assemble = async (temporary: string) => {
    await unpack(await fetchPackages({ suite, packages, installed: [] }), join(temporary, "root"));
    mkdirSync(join(temporary, "bin"));
    for (const program of programs) {
      writeFileSync(join(temporary, "bin", program.split("/").at(-1)!), wrapper(program), { mode: 0o755 });
    }
  };
  if (!existsSync(folder))
    await step(`${packages[0]} of ${suite} unpacked from packages`, () => whole(folder, assemble));
  return { PATH: `${join(folder, "bin")}:${process.env.PATH}` };
}

const wrapper = (program: string) => `#!/bin/sh
usr=$(dirname "$(readlink -f "$0")")/../root/usr
exec unshare --mount --propagation private sh -c 'mount --bind "$0" /usr && exec ${program} "$@"' "$usr" "$@"
`;
