// The one that knows @supabase/pg-delta: it says which statements make one database's structure into another's. Optional, and pinned
// exactly: its alphas change from one to the next. Whatever it says is tried before it is believed (drift-forward.ts).
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import type { Psql } from "./psql.ts";

export const deltaPackage = "@supabase/pg-delta";
export const deltaVersion = "1.0.0-alpha.34";

type DeltaAction = {
  sql: string;
  /** The strongest one on a table that is in use, as Postgres calls it; undefined for none. */
  lock: string | undefined;
  losesData: boolean;
  /** Every row may be written anew. */
  rewrites: boolean;
};

/** What goes into one transaction, or one statement that cannot be in any. */
export type Segment = { transaction: boolean; settings: string[]; actions: DeltaAction[] };

export type Facts = { readonly facts: unknown };

export type DeltaEngine = {
  read(psql: Psql, called?: Renaming): Promise<Facts>;
  /** @throws {Error} in its own words, where it does not know a way. */
  plan(source: Facts, desired: Facts, options: DeltaOptions): Segment[];
};

/** Who owns everything in the scratch database, and what he is called in the live one. */
export type Renaming = { from: string; to: string };

type DeltaOptions = {
  owner: string;
  roles: readonly string[];
  /** Tables that no migration makes, as "schema.table"; and "schema.*". */
  histories: readonly string[];
  /** Left as they are, on both sides: kind, and path without quotes. */
  except: readonly { kind: "index" | "constraint"; path: readonly string[] }[];
};

/** @returns undefined where it is not installed, or another version is. */
export async function loadDelta(): Promise<DeltaEngine | undefined> {
  if ((await installedVersion()) !== deltaVersion) return undefined;
  const [{ extract }, { plan }] = (await Promise.all([
    import(`${deltaPackage}/extract`),
    import(`${deltaPackage}/plan`),
  ])) as [Extracting, Planning];
  return {
    async read(psql, called) {
      const { factBase } = await extract(poolOf(psql, called));
      return { facts: factBase };
    },
    plan({ facts: source }, { facts: desired }, { owner, roles, except, histories }) {
      // What an owner may do by himself goes without saying, and he is called otherwise elsewhere.
      const ofOwner = exclude({ kind: "acl" }, { idField: { field: "grantee", glob: owner } });
      const filter = [...ownTables, ...histories.flatMap(historyExcluded), ofOwner, ...except.map(excluded)];
      const policy = { id: "dbops", filter };
      const options = { policy, scope: "database", defaultOwner: owner, assumedRoles: [...roles] };
      return segmentsOf(plan(source, desired, options));
    },
  };
}

async function installedVersion(): Promise<string | undefined> {
  try {
    const main = createRequire(import.meta.url).resolve(deltaPackage);
    const text = await readFile(join(dirname(main), "../package.json"), "utf8");
    return (JSON.parse(text) as { version: string }).version;
  } catch {
    return undefined;
  }
}

/** What is used of the package. Its own types are not there where it is not installed. */
type Extracting = { extract: (pool: unknown) => Promise<{ factBase: unknown }> };
type Planning = { plan: (source: unknown, desired: unknown, options: unknown) => DeltaPlan };
type DeltaPlan = {
  preamble: { name: string; value: string }[];
  actions: {
    sql: string;
    transactionality: "transactional" | "nonTransactional" | "commitBoundaryAfter";
    lockClass: "none" | "share" | "shareRowExclusive" | "shareUpdateExclusive" | "accessExclusive";
    newSegmentBefore: boolean;
    dataLoss: "none" | "destructive";
    rewriteRisk: boolean;
  }[];
};

/**
 * It asks a pool of connections; Postgres may be in a container that nobody can connect to, and psql is what reaches it. All that it
 * selects are texts, truth values, and lists of them: the same as JSON.
 */
function poolOf(psql: Psql, called?: Renaming) {
  const query = async (sql: string) => {
    if (!/^\s*(?:begin|commit|rollback|set)\b/i.test(sql)) {
      const rows = await psql.rows<unknown>(sql, 300);
      return { rows: called ? rows.map((row) => renamed(row, called)) : rows };
    }
    await psql.execute(sql);
    return { rows: [] };
  };
  return { connect: async () => ({ query, release() {} }) };
}

/** Wherever a role is named, and nowhere else. */
function renamed(value: unknown, { from, to }: Renaming): unknown {
  const isRole = (key: string) => ["owner", "grantee", "grantor", "role", "member"].includes(key);
  return JSON.parse(JSON.stringify(value), (key, inner) => (isRole(key) && inner === from ? to : inner));
}

const exclude = (...all: Record<string, unknown>[]) => ({ match: { all }, action: "exclude" });

const ownTables = [
  exclude({ kind: "schema" }, { name: "dbops" }),
  exclude({ kind: "table" }, { schema: "public" }, { name: "schema_migrations" }),
  exclude({ kind: "sequence" }, { schema: "public" }, { name: "schema_migrations_*" }),
];

/** With the sequences of its columns. */
function historyExcluded(history: string) {
  const dot = history.indexOf(".");
  const [schema, name] = [history.slice(0, dot), history.slice(dot + 1)];
  if (name === "*") return [exclude({ kind: "schema" }, { name: schema })];
  return [
    exclude({ kind: "table" }, { schema }, { name }),
    exclude({ kind: "sequence" }, { schema }, { name: `${name}_*` }),
  ];
}

function excluded({ kind, path }: DeltaOptions["except"][number]) {
  const [schema, ...rest] = path;
  const table = rest.length === 2 ? [{ idField: { field: "table", glob: rest[0] } }] : [];
  return exclude({ kind }, { schema }, ...table, { name: rest.at(-1) });
}

const locks = {
  none: undefined,
  share: "SHARE",
  shareRowExclusive: "SHARE ROW EXCLUSIVE",
  shareUpdateExclusive: "SHARE UPDATE EXCLUSIVE",
  accessExclusive: "ACCESS EXCLUSIVE",
} as const;

/** As its own apply() would send them. Not the search path: every name is whole, and dbmate's own INSERT needs the usual one. */
function segmentsOf({ preamble, actions }: DeltaPlan): Segment[] {
  const settings = preamble
    .filter(({ name }) => name !== "search_path")
    .map(({ name, value }) => `set local ${name} = ${value}`);
  const segments: Segment[] = [];
  let isOpen = false;
  for (const { sql, transactionality, lockClass, newSegmentBefore, dataLoss, rewriteRisk } of actions) {
    const isAlone = transactionality === "nonTransactional";
    if (!isOpen || isAlone || newSegmentBefore) {
      segments.push({ transaction: !isAlone, settings: isAlone ? [] : settings, actions: [] });
    }
    const [losesData, rewrites] = [dataLoss === "destructive", rewriteRisk];
    segments.at(-1)!.actions.push({ sql: sql.trim().replace(/;$/, ""), lock: locks[lockClass], losesData, rewrites });
    isOpen = transactionality === "transactional";
  }
  return segments;
}
