// The real tools whose histories `drift adopt` takes over: from npm, by the lock file in test/lab/tools, and from Debian's packages. Both
// into the lab's cache; nothing is installed on this machine.
import { cpSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "../../scripts/lib/run.ts";
import { cacheFolder, hashOf, step, whole } from "./cache.ts";
import { repository } from "./repository.ts";

/** A node_modules with knex, drizzle-kit, node-pg-migrate, Prisma, Sequelize with umzug, TypeORM, and the driver pg. */
export async function npmTools(): Promise<string> {
  const own = join(repository, "test", "lab", "tools");
  const files = ["package.json", "package-lock.json"];
  const hash = hashOf(...files.map((name) => readFileSync(join(own, name))));
  const folder = cacheFolder("npm", hash.slice(0, 12));
  const install = async (temporary: string) => {
    mkdirSync(temporary, { recursive: true });
    for (const name of files) cpSync(join(own, name), join(temporary, name));
    // None of them needs a script of its own to work.
    await run({
      argv: ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
      directory: temporary,
      timeoutSeconds: 300,
    });
  };
  if (!existsSync(folder)) await step("migration tools installed from npm", () => whole(folder, install));
  return join(folder, "node_modules");
}
