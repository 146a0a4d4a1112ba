// scripts/lib/place.ts: what a database URL means. live/place.test.ts has everything that needs a database.
import { expect, test } from "bun:test";
import { asFailure, formatFailure } from "../scripts/lib/failure.ts";
import { directPlace, inOther, openContainer, parseDatabaseUrl } from "../scripts/lib/place.ts";

const urls = [
  {
    url: "postgres://app@db.example.com/app",
    means: { host: "db.example.com", port: 5432, user: "app", password: "secret", database: "app", variables: {} },
  },
  {
    url: "postgresql://a%40b@[::1]:6543/my%20app?sslmode=verify-full&sslrootcert=ca.crt",
    means: {
      ...{ host: "::1", port: 6543, user: "a@b", password: "secret", database: "my app" },
      variables: { PGSSLMODE: "verify-full", PGSSLROOTCERT: "ca.crt" },
    },
  },
];
test.each(urls)("$url, with the password of the environment", ({ url, means }) => {
  expect(parseDatabaseUrl(url, { PGPASSWORD: "secret" })).toEqual(means);
  expect(parseDatabaseUrl(url, {})).toEqual({ ...means, password: "" });
});

const shape = "it is not postgres://USER@HOST:PORT/DATABASE";
const visible = [
  "it has a password in it, and everybody on this machine can read the command lines of all programs",
  "  next: export PGPASSWORD=…",
  "  next: --database-url postgres://USER@HOST:PORT/DATABASE      # without it",
].join("\n");
const unusable = [
  { url: "secret", why: shape },
  { url: "mysql://app:secret@host/app", why: shape },
  { url: "postgres://app:secret@host/", why: shape },
  { url: "postgres://host/app", why: shape },
  { url: "postgres://app:secret%@host/app", why: shape },
  { url: "postgres://app@host/app?pool=5", why: 'psql and pg_dump do not know its parameter "pool"' },
  { url: "postgres://app:secret@host/app", why: visible },
  { url: "postgres://app@host/app?password=secret", why: visible },
];
test.each(unusable)("not $url, and the message does not hold the password", ({ url, why }) => {
  let failure: ReturnType<typeof asFailure> | undefined;
  try {
    parseDatabaseUrl(url, { PGPASSWORD: "secret" });
  } catch (error) {
    failure = asFailure(error);
  }
  expect([formatFailure(failure!), failure!.exitCode]).toEqual([`Cannot use --database-url: ${why}`, 2]);
  expect(formatFailure(failure!)).not.toContain("secret");
});

test("inOther() is about that database alone, unless somebody asks for one by its name", () => {
  const direct = inOther(directPlace({ ...urls[0]!.means, database: "live" }, "x"), "restored");
  const databaseOf = ({ environment }: ReturnType<typeof direct.client>) => environment?.PGDATABASE;
  expect([direct.database, direct.connection?.database]).toEqual(["restored", "restored"]);
  expect([databaseOf(direct.client(["psql"])), databaseOf(direct.client(["psql"], "third"))]).toEqual([
    "restored",
    "third",
  ]);
  expect(databaseOf(direct.supervised(["pg_dump"]))).toBe("restored");
  const contained = inOther(openContainer({ id: "c", database: "live", user: "app" }, "c"), "restored");
  const end = (words: readonly string[]) => words.slice(-2);
  expect(contained.connection).toBeUndefined();
  expect([end(contained.client(["psql"]).argv), end(contained.supervised(["pg_dump"]).argv)]).toEqual([
    ["restored", "psql"],
    ["restored", "pg_dump"],
  ]);
});
