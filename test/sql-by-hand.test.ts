// The command for one statement, as somebody would type it.
import { expect, test } from "bun:test";
import { sqlByHand } from "../scripts/lib/sql-by-hand.ts";

const place = { environment: "local", user: "shop", database: "shop" };
const connection = { host: "127.0.0.1", port: 5433, user: "shop", password: "secret", database: "shop" };
const inStack = () => ({ argv: [] });

test.each([
  [
    "in the stack of this machine",
    { ...place, inStack },
    "docker compose exec postgres psql --username shop --dbname shop --command 'drop index concurrently public.i;'",
  ],
  [
    "on the server",
    { ...place, environment: "production", inStack },
    "on the server, where compose.yaml is: docker compose exec postgres psql --username shop --dbname shop --command 'drop index concurrently public.i;'",
  ],
  [
    "by a URL, without the password",
    { ...place, environment: "127.0.0.1", connection },
    "psql --host 127.0.0.1 --port 5433 --username shop --dbname shop --command 'drop index concurrently public.i;'",
  ],
  ["nobody knows where", place, "in psql: drop index concurrently public.i;"],
])("%s", (_, given, command) => {
  expect(sqlByHand(given)("drop index concurrently public.i;")).toBe(command);
});

test("nothing in a name is a part of the shell's", () => {
  const odd = { ...place, user: "o'brien", database: "my shop", inStack };
  expect(sqlByHand(odd)('drop index concurrently public."it\'s $HOME";')).toBe(
    `docker compose exec postgres psql --username 'o'\\''brien' --dbname 'my shop' --command 'drop index concurrently public."it'\\''s $HOME";'`,
  );
});
