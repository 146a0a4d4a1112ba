// scripts/lib/dbmate.ts: what dbmate is given, so that it reaches the database that psql has looked at, and as safely.
import { describe, expect, test } from "bun:test";
import { databaseUrl, dbmateEnvironment, requireForDbmate } from "../scripts/lib/dbmate.ts";
import { asFailure, formatFailure } from "../scripts/lib/failure.ts";
import { directPlace, embeddedPlace, parseDatabaseUrl } from "../scripts/lib/place.ts";

type Variables = Record<string, string | undefined>;
const timeouts = "-c lock_timeout=5s -c statement_timeout=0";
const connectionOf = (parameters: string, host: string, environment: Variables = {}) =>
  parseDatabaseUrl(`postgres://shop@${host}/shop${parameters}`, { PGPASSWORD: "secret", ...environment });

describe("dbmateEnvironment()", () => {
  test("says where to go, and unsets everything that leads elsewhere", () => {
    const environment = {
      ...{ PATH: "/bin", PGHOSTADDR: "127.0.0.9", PGSERVICE: "other", PGSERVICEFILE: "/other", PGPORT: "1" },
      ...{ DBMATE_MIGRATIONS_TABLE: "elsewhere", DBMATE_DRIVER: "mysql", DATABASE_URL: "postgres://other/other" },
    };
    const connection = connectionOf("?sslmode=require&connect_timeout=3", "db.example.com:6000");
    expect(dbmateEnvironment(connection, environment)).toEqual({
      ...{ PGHOSTADDR: undefined, PGSERVICE: undefined, PGSERVICEFILE: undefined },
      ...{ PGHOST: "db.example.com", PGPORT: "6000", PGUSER: "shop", PGPASSWORD: "secret", PGDATABASE: "shop" },
      ...{ PGSSLMODE: undefined, PGCHANNELBINDING: undefined, PGREQUIREAUTH: undefined, PGCONNECT_TIMEOUT: "3" },
      ...{ DBMATE_MIGRATIONS_TABLE: undefined, DBMATE_DRIVER: undefined },
      DATABASE_URL: "postgres://db.example.com:6000/shop?sslmode=require",
      PGOPTIONS: timeouts,
    });
  });

  test("psql gets the same", () => {
    const { connection, client } = directPlace(connectionOf("", "db.example.com"), "x");
    const forPsql = client(["psql"]).environment!;
    const forDbmate = dbmateEnvironment(connection!, {});
    const names = ["HOSTADDR", "SERVICE", "SERVICEFILE", "HOST", "PORT", "USER", "PASSWORD", "DATABASE"];
    for (const name of names.map((it) => `PG${it}`)) {
      expect([name, name in forPsql, name in forDbmate]).toEqual([name, true, true]);
      expect([name, forPsql[name]]).toEqual([name, forDbmate[name]]);
    }
  });

  test.each<{ url?: string; host?: string; environment?: Variables; expected: string }>([
    { expected: "require" },
    { host: "127.0.0.1", expected: "disable" },
    { host: "localhost", expected: "disable" },
    { host: "[::1]", expected: "disable" },
    { host: "%2Fvar%2Frun", expected: "disable" },
    { environment: { PGSSLMODE: "verify-full" }, expected: "verify-full" },
    { environment: { PGSSLMODE: "verify-full" }, host: "127.0.0.1", expected: "verify-full" },
    { environment: { PGSSLMODE: "disable" }, expected: "disable" },
    { environment: { PGSSLMODE: "prefer" }, expected: "require" },
    { environment: { PGSSLMODE: "" }, expected: "require" },
    { url: "?sslmode=verify-ca", expected: "verify-ca" },
    { url: "?sslmode=verify-full", environment: { PGSSLMODE: "disable" }, expected: "verify-full" },
    { url: "?sslmode=allow", environment: { PGSSLMODE: "verify-full" }, expected: "require" },
  ])("sslmode: %j", ({ url = "", host = "db.example.com", environment = {}, expected }) => {
    const { DATABASE_URL, PGSSLMODE } = dbmateEnvironment(connectionOf(url, host), environment);
    expect([/sslmode=([\w-]+)$/.exec(DATABASE_URL!)![1], PGSSLMODE]).toEqual([expected, undefined]);
  });

  test("options: what the URL says counts, and what the shell says only beside ours", () => {
    const optionsOf = (url: string) =>
      dbmateEnvironment(connectionOf(url, "db.example.com"), { PGOPTIONS: "-c search_path=app" }).PGOPTIONS;
    expect(optionsOf("")).toBe(`-c search_path=app ${timeouts}`);
    expect(optionsOf("?options=-c%20lock_timeout%3D1s")).toBe(`${timeouts} -c lock_timeout=1s`);
  });

  test("what its driver obeys reaches it", () => {
    const url = "?sslmode=require&sslnegotiation=direct&target_session_attrs=read-write&sslrootcert=/ca.pem";
    expect(dbmateEnvironment(connectionOf(url, "db.example.com"), {})).toMatchObject({
      ...{ PGSSLNEGOTIATION: "direct", PGTARGETSESSIONATTRS: "read-write", PGSSLROOTCERT: "/ca.pem" },
    });
  });
});

describe("requireForDbmate()", () => {
  const said = (url: string, environment: Variables) => {
    try {
      requireForDbmate(directPlace(connectionOf(url, "db.example.com"), "x"), environment);
      return undefined;
    } catch (error) {
      const failure = asFailure(error);
      return `${failure.exitCode} ${formatFailure(failure)}`;
    }
  };
  test.each<{ url?: string; environment?: Variables; expected: string | undefined }>([
    { expected: undefined },
    { url: "?channel_binding=prefer", environment: { PGCHANNELBINDING: "require" }, expected: undefined },
    {
      url: "?channel_binding=require",
      expected: `2 Cannot migrate: channel_binding=require is for psql alone: dbmate connects without it
  next: leave it out, and say instead: sslmode=verify-full`,
    },
    {
      environment: { PGCHANNELBINDING: "require" },
      expected: `2 Cannot migrate: PGCHANNELBINDING=require is for psql alone: dbmate connects without it
  next: leave it out, and say instead: sslmode=verify-full`,
    },
    {
      environment: { PGREQUIREAUTH: "scram-sha-256" },
      expected: `2 Cannot migrate: PGREQUIREAUTH=scram-sha-256 is for psql alone: dbmate connects without it
  next: leave it out, and say instead: sslmode=verify-full`,
    },
  ])("%j", ({ url = "", environment = {}, expected }) => {
    expect(said(url, environment)).toBe(expected);
  });
});

test("our own server without TLS is none of those that a shell asks to be careful with", () => {
  const environment = { PGSSLMODE: "verify-full", PGCHANNELBINDING: "require", PGREQUIREAUTH: "none" };
  const database = { host: "127.0.0.1", port: 5432, user: "shop", password: "secret", database: "shop" };
  const place = embeddedPlace(database);
  expect(() => requireForDbmate(place, environment)).not.toThrow();
  expect(dbmateEnvironment(place.connection!, environment)).toMatchObject({
    DATABASE_URL: "postgres://127.0.0.1:5432/shop?sslmode=disable",
    ...{ PGSSLMODE: undefined, PGCHANNELBINDING: undefined, PGREQUIREAUTH: undefined },
  });
  expect(place.client(["psql"]).environment).toMatchObject({
    ...{ PGSSLMODE: "disable", PGCHANNELBINDING: "prefer", PGREQUIREAUTH: "" },
  });
});

test.each([
  ["db.example.com", "postgres://db.example.com:5432/a%2Fb%20%C3%BC?sslmode=require"],
  ["::1", "postgres://[::1]:5432/a%2Fb%20%C3%BC?sslmode=require"],
  ["/var/run/postgresql", "postgres:///a%2Fb%20%C3%BC?host=%2Fvar%2Frun%2Fpostgresql&port=5432&sslmode=require"],
])("databaseUrl() of %s", (host, expected) => {
  const connection = { host, port: 5432, user: "shop", password: "secret", database: "a/b ü" };
  expect(databaseUrl(connection, "require")).toBe(expected);
});
