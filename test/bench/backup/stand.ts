// What both benches work on: a project with its own Postgres and bucket, and a database of more than 1 GB that looks like a shop's.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "../../../scripts/lib/run.ts";
import { type BackupProject, createBackupProject } from "../../lab/backup-project.ts";

/** Customers and orders as they come, two indexes besides the primary keys, and events as JSON: 1.2 GB for Postgres. */
const shop = `
begin;
create table customers as select n id, 'user' || n || '@example.com' email, md5(n::text) token,
  (array['Anna','Bo','Chen','Dara','Ede'])[1 + n % 5] || ' ' || (array['Berg','Dahl','Eriksen','Fox'])[1 + n % 4] as name,
  timestamptz '2024-01-01' + n * interval '17 seconds' created_at from generate_series(1::bigint, 1500000) n;
alter table customers add primary key (id);
create unique index on customers (email);
create table orders as select n id, 1 + (n * 7919) % 1500000 as customer_id, ((n * 37) % 100000) / 100.0 total,
  (array['new','paid','sent','returned'])[1 + n % 4] state, timestamptz '2024-01-01' + n * interval '5 seconds' placed_at
  from generate_series(1::bigint, 5000000) n;
alter table orders add primary key (id);
create index on orders (customer_id);
create table events as select n id, jsonb_build_object('kind', (array['view','click','buy'])[1 + n % 3], 'page', '/p/' || n % 5000,
  'session', md5((n / 9)::text), 'at', timestamptz '2024-01-01' + n * interval '3 seconds', 'ms', n % 997) document from generate_series(1::bigint, 1200000) n;
alter table events add primary key (id);
commit;
`;

export type BackupStand = { lab: BackupProject; databaseBytes: number; container: string };

export async function withLoadedDatabase<T>(work: (stand: BackupStand) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), "dbops-bench-"));
  try {
    const lab = await createBackupProject(folder);
    try {
      await lab.configure();
      await run({ argv: ["docker", "compose", "run", "--rm", "migrations"], ...inProject(lab) });
      const container = lab.project.container("postgres");
      const psql = ["docker", "exec", "--interactive", container, "psql", "--quiet", "--set=ON_ERROR_STOP=1"];
      const argv = [...psql, "--username=dbops_app", "--dbname=dbops_app"];
      await run({ argv, stdin: shop, ...inProject(lab), timeoutSeconds: 300 });
      // What autovacuum would do in the middle of a measurement.
      await run({ argv, stdin: "vacuum (analyze, freeze); checkpoint;", ...inProject(lab), timeoutSeconds: 300 });
      const databaseBytes = Number(await lab.sql("select pg_database_size(current_database())"));
      return await work({ lab, databaseBytes, container });
    } finally {
      await lab.remove();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

export const inProject = ({ project, environment }: BackupProject) => ({ directory: project.directory, environment });

/** `pg_dump | gzip | gpg`, as it stands in a thousand cron lines: the formats' own defaults. */
export const olderDump = (container: string) => [
  { name: "pg_dump", argv: ["docker", "exec", container, "pg_dump", "--username=dbops_app", "dbops_app"] },
  { name: "gzip", argv: ["gzip"] },
];

export const gpgWords = [
  "gpg",
  "--batch",
  "--quiet",
  "--no-tty",
  "--pinentry-mode",
  "loopback",
  "--passphrase-fd",
  "3",
];

export const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
