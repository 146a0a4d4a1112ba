// What counts as a difference between a backup's manifest and the database that was restored from it.
import { expect, test } from "bun:test";
import { compare, type Found } from "../scripts/lib/database-compare.ts";
import type { Manifest } from "../scripts/lib/manifest.ts";
import { manifestAt } from "./lab/backup-samples.ts";

const settings = {
  owner: "shop",
  connectionLimit: -1,
  grants: ['"odd one" CONNECT f', "lister CONNECT t"],
  parameters: [],
  comment: null,
};
const expected = manifestAt("2026-11-21T03:00:00Z", {
  ...{ settings, roles: ["shop", "odd one", "lister", "writer"], largeObjects: 3 },
  extensions: { plpgsql: "1.0", pg_trgm: "1.6" },
});
const equal: Found = {
  ...{ rows: { "public.accounts": 12, "public.sessions": 30 }, largeObjects: 3, migrations: ["20261101000000"] },
  ...{ extensions: { plpgsql: "1.0", pg_trgm: "1.7" }, roles: ["shop", "writer"], firstRole: "postgres" },
};

test.each<[string, Partial<Manifest>, Partial<Found>, string[]]>([
  ["equal; a newer version of an extension is none of the data", {}, {}, []],
  [
    "rows",
    {},
    { rows: { "public.accounts": 11, "public.new": 1 } },
    ["public.accounts: 11 rows instead of 12", "public.new: not in the original", "public.sessions: missing"],
  ],
  ["large objects", {}, { largeObjects: 2 }, ["large objects: 2 instead of 3"]],
  ["an extension", {}, { extensions: { plpgsql: "1.0" } }, ["extension pg_trgm: missing"]],
  ["an owner", {}, { roles: ["shop"] }, ["role writer: owns nothing and may do nothing, and did in the original"]],
  ["an owner that is the server's first role here", {}, { roles: ["shop"], firstRole: "writer" }, []],
  ["a backup of some tables, which nobody counted", { tables: ["accounts"], rows: {} }, {}, []],
])("compare(): %s", (_, changes, found, lines) => {
  expect(compare({ ...expected, ...changes }, { ...equal, ...found })).toEqual(lines);
});
