// How much the validator's one question saves against asking one thing at a time: round trips and milliseconds, with 400
// applied versions and 20 critical tables. Loopback is the kindest case: each further round trip costs its network's latency.
import type { Sql } from "postgres";
import { validate } from "../../scripts/validator.ts";
import { startCountingProxy } from "../lab/counting-proxy.ts";
import { startPostgres } from "../lab/postgres.ts";

const repetitions = 50;

export async function bench(): Promise<void> {
  const server = await startPostgres();
  const proxy = await startCountingProxy(server.port);
  try {
    const sql = server.connect({ port: proxy.port, max: 1 });
    const versions = Array.from({ length: 400 }, (_, index) => `${20_260_000_000_000 + index}`);
    const tables = Array.from({ length: 20 }, (_, index) => `critical_${index}`);
    await sql`create table schema_migrations (version varchar primary key)`;
    await sql`insert into schema_migrations select unnest(${versions}::text[])`;
    for (const table of tables) await sql`create table ${sql(table)} ()`;

    const measure = async (work: () => Promise<unknown>) => {
      // Once unmeasured: the server's caches are cold, and the driver describes each statement.
      await work();
      proxy.reset();
      const milliseconds: number[] = [];
      for (let repetition = 0; repetition < repetitions; repetition++) {
        const started = performance.now();
        await work();
        milliseconds.push(performance.now() - started);
      }
      const median = milliseconds.sort((a, b) => a - b)[repetitions / 2]!;
      return { median, roundTrips: proxy.roundTrips() / repetitions };
    };
    const ours = await measure(() => validate(sql, { versions, criticalTables: tables }));
    const naive = await measure(() => askOneByOne(sql, tables));
    const line = ({ median, roundTrips }: typeof ours) => `round trips ${roundTrips}, median ${median.toFixed(1)} ms`;
    const ratio = (naive.median / ours.median).toFixed(1);
    console.log(`validator: ${line(ours)}; asking one by one: ${line(naive)}; ${ratio} times as long`);
  } finally {
    await proxy.stop();
    await server.stop();
  }
}

/** What one writes first, and what validate() replaces: the same facts, a statement for each. */
async function askOneByOne(sql: Sql, tables: readonly string[]): Promise<void> {
  await sql`select version()`;
  await sql`select current_user, current_database(), pg_is_in_recovery()`;
  await sql`show transaction_read_only`;
  await sql`select version from schema_migrations`;
  for (const table of tables) {
    await sql`select to_regclass(${table}) is not null as exists`;
    await sql`select has_table_privilege(${table}, 'select') as readable`;
  }
  await sql`select extname, extversion from pg_extension`;
  await sql`select indexrelid::regclass from pg_index where not indisvalid`;
}
