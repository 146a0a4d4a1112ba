// The statements that make a database, give it what belongs to the database itself, and remove one.
import { describe, expect, test } from "bun:test";
import { chooseSettings, createScript, dropScript, settingsScript } from "../scripts/lib/database-create.ts";
import { manifestAt } from "./lab/backup-samples.ts";

const { server } = manifestAt("2026-11-21T03:00:00Z");

test.each([
  [undefined, undefined, 'create database "a""b" template template0'],
  [
    "shop",
    server,
    `create database "a""b" template template0 owner "shop" encoding 'UTF8' lc_collate 'C.UTF-8' lc_ctype 'C.UTF-8' locale_provider libc`,
  ],
  [
    undefined,
    { ...server, provider: "i", locale: "de-AT" },
    `create database "a""b" template template0 encoding 'UTF8' lc_collate 'C.UTF-8' lc_ctype 'C.UTF-8' locale_provider icu icu_locale 'de-AT'`,
  ],
  [
    undefined,
    { ...server, provider: "b", locale: "C.UTF-8" },
    `create database "a""b" template template0 encoding 'UTF8' lc_collate 'C.UTF-8' lc_ctype 'C.UTF-8' locale_provider builtin builtin_locale 'C.UTF-8'`,
  ],
])("createScript() for %p, %j", (owner, like, script) => {
  expect(createScript('a"b', owner, like)).toBe(script);
});

test("dropScript() sends away who is connected", () => {
  expect(dropScript('a"b')).toBe('drop database if exists "a""b" with (force)');
});

describe("chooseSettings(): the live database's, unless it has none of its own, as on a new server", () => {
  const bare = { owner: "new", connectionLimit: -1, grants: [], parameters: [], comment: null };
  const saved = { ...bare, owner: "old", parameters: [{ role: null, parameter: "work_mem", value: "5MB" }] };
  const changed = { ...bare, connectionLimit: 7 };
  test.each([
    ["a live one with settings", changed, saved, changed],
    ["a bare one: the backup's, with its own owner", bare, saved, { ...saved, owner: "new" }],
    ["no live one", undefined, saved, saved],
    ["no manifest", bare, undefined, bare],
    ["neither", undefined, undefined, undefined],
  ])("%s", (_, live, backedUp, chosen) => expect(chooseSettings(live, backedUp)).toEqual(chosen));
});

describe("settingsScript()", () => {
  const none = { owner: "shop", connectionLimit: -1, grants: [], parameters: [], comment: null };

  test("of a database that has nothing of its own", () => {
    expect(settingsScript("new", none, ["shop"])).toBe('alter database "new" connection limit -1;');
  });

  test("lists stay lists, other texts stay texts, and roles that are not there are left out", () => {
    const parameters = [
      { role: null, parameter: "search_path", value: '"$user", public, "Other ""Schema"' },
      { role: null, parameter: "TimeZone", value: "Europe/Vienna" },
      { role: null, parameter: "app.words", value: "a, b 'c'" },
      { role: "read er", parameter: "statement_timeout", value: "11s" },
      { role: "gone", parameter: "statement_timeout", value: "12s" },
      { role: null, parameter: "temp_tablespaces", value: '""' },
    ];
    const grants = ["PUBLIC CONNECT f", '"read er" TEMPORARY t', "shop CREATE f", "gone CONNECT f"];
    const settings = { ...none, connectionLimit: 7, parameters, grants, comment: "the shop's" };
    expect(settingsScript("new", settings, ["shop", "read er"])).toBe(
      `alter database "new" set "search_path" to '$user', 'public', 'Other "Schema';
alter database "new" set "TimeZone" to 'Europe/Vienna';
alter database "new" set "app.words" to 'a, b ''c''';
alter role "read er" in database "new" set "statement_timeout" to '11s';
alter database "new" set "temp_tablespaces" to '';
alter database "new" connection limit 7;
comment on database "new" is 'the shop''s';
revoke all on database "new" from public, "shop";
grant CONNECT on database "new" to PUBLIC;
grant TEMPORARY on database "new" to "read er" with grant option;
grant CREATE on database "new" to shop;`,
    );
  });
});
