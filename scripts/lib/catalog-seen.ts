// The fingerprint of a live database without writing out every object once more, where nothing has changed since the last time. Postgres
// never changes a row of its catalogs in place: each new version has a place and a transaction of its own, so that one look at those two
// numbers of every row says whether anything is as it was. What is not a matter of the structure (VACUUM, ANALYZE, rows) changes neither.
// The numbers are good for one run of one server: one that is made anew gives them out again, and so does one that was put back to where it
// was, from a snapshot or a backup. Both have been started since.
import { createHash } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { catalogVersion } from "./catalog-objects.ts";
import type { Psql } from "./psql.ts";

type Seeing = {
  psql: Psql;
  directory: string;
  /** Of the database, for a file of its own. */
  name: string;
  /** What the fingerprint depends on besides the catalogs. */
  besides: readonly unknown[];
};

/** @param count is asked where nothing is kept, or anything has changed. In the transaction that the session is in. */
export async function seenFingerprint({ psql, directory, name, besides }: Seeing, count: () => Promise<string>) {
  const state = sha256(JSON.stringify([catalogVersion, besides, await readState(psql)]));
  const folder = join(directory, ".dbops/cache");
  const path = join(folder, `seen-${sha256(name).slice(0, 16)}`);
  const [kept, known] = (await readFile(path, "utf8").catch(() => "")).split(" ");
  if (kept === state && known && /^[0-9a-f]{64}$/.test(known)) return known;
  const fingerprint = await count();
  await mkdir(folder, { recursive: true });
  await writeFile(`${path}.${process.pid}`, `${state} ${fingerprint}`);
  await rename(`${path}.${process.pid}`, path);
  return fingerprint;
}

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

/** All that the texts of catalog-query.ts are made of, or may be; not those of statistics, of large objects and of other databases. */
const catalogs = [
  ...[
    "aggregate",
    "am",
    "amop",
    "amproc",
    "attrdef",
    "attribute",
    "cast",
    "class",
    "collation",
    "constraint",
    "conversion",
  ],
  ...[
    "default_acl",
    "depend",
    "description",
    "enum",
    "event_trigger",
    "extension",
    "foreign_data_wrapper",
    "foreign_server",
  ],
  ...["foreign_table", "index", "inherits", "init_privs", "language", "namespace", "opclass", "operator", "opfamily"],
  ...[
    "partitioned_table",
    "policy",
    "proc",
    "publication",
    "publication_namespace",
    "publication_rel",
    "range",
    "rewrite",
  ],
  ...[
    "sequence",
    "statistic_ext",
    "transform",
    "trigger",
    "ts_config",
    "ts_config_map",
    "ts_dict",
    "ts_parser",
    "ts_template",
  ],
  "type",
];

async function readState(psql: Psql): Promise<unknown> {
  const parts = catalogs.map(
    (name) =>
      `select '${name}', count(*), bit_xor(hashtidextended(ctid, xmin::text::bigint))::text from pg_catalog.pg_${name}`,
  );
  // Roles are shared, and a name may go from one to another.
  const roles = `select 'roles', count(*), bit_xor(hashtextextended(rolname, oid::bigint))::text from pg_catalog.pg_roles`;
  const database = `select current_database(), oid::bigint, null from pg_catalog.pg_database where datname = current_database()`;
  const run = `select 'run', (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint, null`;
  return await psql.rows([...parts, roles, database, run].join("\nunion all "));
}
