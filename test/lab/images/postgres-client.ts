// Debian's PostgreSQL 18 without Debian's wrapping: its tools live in a versioned folder and are reached through perl scripts.
import { existsSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";

const folder = "usr/lib/postgresql/18/bin";

export const postgresClient = {
  packages: ["postgresql-client-18"],
  without: ["perl", "postgresql-client-common", "readline-common"],
  /** Makes each program reachable from a folder on PATH. PostgreSQL resolves the link to find its own files. */
  link(root: string, directory: string): void {
    for (const name of readdirSync(join(root, folder))) {
      const link = join(root, directory, name);
      if (existsSync(link)) rmSync(link);
      symlinkSync(`/${folder}/${name}`, link);
    }
  },
};
