// scripts/lib/domain.ts: one name in three files, compared as nginx compares it.
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Names, requireOneName, serverNamesIn } from "../scripts/lib/domain.ts";
import { type Failure, formatFailure } from "../scripts/lib/failure.ts";
import { repository } from "./lab/repository.ts";

function refusal(names: Names): string | undefined {
  try {
    requireOneName(names);
    return undefined;
  } catch (error) {
    return `${formatFailure(error as Failure)}\nexit ${(error as Failure).exitCode}`;
  }
}

test("the shipped file has one name, and none in its comments and texts", () => {
  expect(serverNamesIn(readFileSync(join(repository, "nginx/production.conf"), "utf8"))).toEqual(["app.example.com"]);
});

test("serverNamesIn() finds every directive, however it is written", () => {
  const text = `server_name a.test  "b.test"
    *.c.test;server_name d.test;
  # server_name old.test;
  server { server_name 'e.test'; server_name_in_redirect off; set $x $server_name; return 200 "the server_name f.test;"; }`;
  expect(serverNamesIn(text)).toEqual(["a.test", "b.test", "*.c.test", "d.test", "e.test"]);
  expect(serverNamesIn("server_names_hash_max_size 512;")).toEqual([]);
});

test.each([
  ["www.shop.test", "www.shop.test"],
  ["WWW.shop.test", "www.Shop.test"],
  ["www.shop.test", "*.shop.test"],
  ["a.www.shop.test", "*.shop.test"],
  ["shop.test", ".shop.test"],
  ["www.shop.test", ".shop.test"],
  ["shop.test", "shop.*"],
  ["shop.test", "~^(www\\.)?shop"],
  ["shop.test", "_"],
])("%s is served by server_name %s", (domain, name) => {
  expect(refusal({ domain, serverNames: ["other.test", name], certificateName: domain })).toBe(undefined);
});

test.each([
  ["shop.test", "*.shop.test"],
  ["my-shop.test", ".shop.test"],
  ["shop.test", "www.shop.test"],
])("%s is not served by server_name %s", (domain, name) => {
  expect(refusal({ domain, serverNames: [name], certificateName: domain })).toBe(`\
Cannot serve ${domain}: environments.production.domain in dbops.config.ts is no server_name in nginx/production.conf
  | dbops.config.ts        domain: "${domain}"
  | nginx/production.conf  server_name ${name}
  | .env.tpl               DOMAIN=${domain}
  next: write the same name into all three, then deploy again
  read: docs/nginx.md
exit 2`);
});

test("a certificate for another name", () => {
  expect(refusal({ domain: "new.test", serverNames: ["new.test", "old.test"], certificateName: "old.test" })).toBe(`\
Cannot serve new.test: environments.production.domain in dbops.config.ts is not DOMAIN in .env.tpl, for which the certificate is
  | dbops.config.ts        domain: "new.test"
  | nginx/production.conf  server_name new.test old.test
  | .env.tpl               DOMAIN=old.test
  next: write the same name into all three, then deploy again
  read: docs/nginx.md
exit 2`);
});
