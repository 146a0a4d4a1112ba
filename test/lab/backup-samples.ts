// Backups that exist nowhere, and a bucket in memory, for the pure tests of what decides about them.
import type { Backup } from "../../scripts/lib/backup-list.ts";
import type { Manifest, Proof } from "../../scripts/lib/manifest.ts";
import type { Store } from "../../scripts/lib/s3.ts";

const sha256 = "a".repeat(64);

/** @param at "2026-11-21T03:00:00Z" */
export const idAt = (at: string, random = "4f2c1a2b") => `${at.slice(0, 19).replaceAll(":", "-")}Z-${random}`;

export function manifestAt(at: string, changes: Partial<Manifest> = {}): Manifest {
  return {
    version: 1,
    ...{ id: idAt(at), project: "shop", environment: "production", database: "shop", host: "deploy@app.example.com" },
    ...{ at, seconds: 12.345, format: "custom" },
    encryption: { kind: "passphrase", program: "gpg (GnuPG) 2.4.7" },
    dump: { name: "database.dump.gpg", bytes: 2_000_000, sha256 },
    globals: { name: "globals.sql.gpg", bytes: 500, sha256 },
    server: {
      ...{ version: "18.6", versionNumber: 180_006, encoding: "UTF8", collate: "C.UTF-8", ctype: "C.UTF-8" },
      ...{ provider: "c", locale: null },
    },
    client: { pgDump: "pg_dump (PostgreSQL) 18.6", kit: "0.1.0" },
    databaseBytes: 12_000_000,
    rows: { "public.accounts": 12, "public.sessions": 30 },
    ...{ partitioned: [], largeObjects: 0 },
    migrations: ["20261101000000"],
    extensions: { plpgsql: "1.0" },
    roles: ["shop"],
    settings: { owner: "shop", connectionLimit: -1, grants: [], parameters: [], comment: null },
    ...changes,
  };
}

export const proofAt = (at: string, changes: Partial<Proof> = {}): Proof => ({
  ...{ version: 1, at, by: "drill", equal: true, problems: [] },
  ...changes,
});

export function backupAt(at: string, changes: Partial<Backup> = {}, manifest: Partial<Manifest> = {}): Backup {
  const described = manifestAt(at, manifest);
  const { id, dump, globals } = described;
  const folder = `shop/${id}`;
  const keys = [dump.name, globals.name, "RESTORE.txt", "manifest.json"].map((name) => `${folder}/${name}`);
  return { id, folder, manifest: described, bytes: 2_001_500, keys, proofs: [], ...changes };
}

/** Objects by key; a number stands for so many bytes of anything. */
export function memoryStore(objects: Readonly<Record<string, string | number>>, modified = new Date(0)): Store {
  const notHere = () => Promise.reject(new Error("not in this bucket"));
  return {
    ...{ name: "s3://backups", put: notHere, abortUnfinished: notHere, remove: notHere, close() {} },
    get: () => {
      throw new Error("not in this bucket");
    },
    async getText(key) {
      const text = objects[key];
      if (typeof text === "string") return text;
      throw new Error(`there is no ${key}`);
    },
    async list(prefix) {
      const keys = Object.keys(objects).filter((key) => key.startsWith(prefix));
      return keys.map((key) => {
        const content = objects[key]!;
        return { key, bytes: typeof content === "number" ? content : Buffer.byteLength(content), modified };
      });
    },
    listUnfinished: async () => [],
  };
}
