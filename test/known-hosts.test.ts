// scripts/lib/known-hosts.ts: which keys a known_hosts file trusts, as ssh reads it, and how one is pinned.
import { describe, expect, test } from "bun:test";
import { fingerprintOf, trustedKeys, withKey } from "../scripts/lib/known-hosts.ts";

const one = "AAAAC3NzaC1lZDI1NTE5AAAAIG768MWPNLwkYb/szS8qtdYeLQDI4Cz5xsZ4/lYbWGpT";
const two = "AAAAC3NzaC1lZDI1NTE5AAAAIO0SlsHDJA3M8iu9qwAjDzgL0wm+OiGpgYxhJURUmJrv";
const hashed = "|1|6cpD65rcbA1nnKV0olLXYHEl8/w=|gZgyzxs3IQssOLbofJ13jzaDAQA=";

test("fingerprintOf() is what ssh-keygen -l prints", () => {
  expect(fingerprintOf({ key: one })).toBe("SHA256:WB5aRJOxfBF6NR5E7zpnn0RHNflN9MmDOjbD3QjVkqM");
  expect(fingerprintOf({ key: two })).toBe("SHA256:dvno/7BoBJF/EO12BLAElBCzaZuyUBGjNCXp8M1dpBI");
});

describe("trustedKeys()", () => {
  const rows: { name: string; text: string; host?: string; trusted: string[] }[] = [
    { name: "an empty file trusts nobody", text: "", trusted: [] },
    { name: "the host's own line", text: `app.example.com ssh-ed25519 ${one} a comment`, trusted: [one] },
    { name: "each of several", text: `app.example.com x ${one}\napp.example.com y ${two}`, trusted: [one, two] },
    { name: "names are not case-sensitive", text: `APP.example.com x ${one}`, host: "app.EXAMPLE.com", trusted: [one] },
    { name: "a list of names", text: `10.0.0.1,app.example.com x ${one}`, trusted: [one] },
    { name: "another host", text: `db.example.com x ${one}`, trusted: [] },
    { name: "a part of a name is not the name", text: `app.example.com.evil.org x ${one}`, trusted: [] },
    { name: "a dot is a dot", text: `appXexample.com x ${one}`, trusted: [] },
    { name: "with a port it is another name", text: `[app.example.com]:2222 x ${one}`, trusted: [] },
    { name: "wildcards", text: `*.example.com x ${one}\napp?example.com x ${two}`, trusted: [one, two] },
    { name: "an exception from a wildcard", text: `*.example.com,!app.example.com x ${one}`, trusted: [] },
    { name: "a hashed name", text: `${hashed} x ${one}`, trusted: [one] },
    { name: "another one's hashed name", text: `${hashed} x ${one}`, host: "db.example.com", trusted: [] },
    { name: "an authority", text: `@cert-authority *.example.com x ${one}`, trusted: [one] },
    { name: "never what is revoked", text: `@revoked * x ${one}\napp.example.com x ${two}`, trusted: [two] },
    { name: "neither comments nor rubbish", text: `# app.example.com x ${one}\n\napp.example.com\n`, trusted: [] },
  ];
  test.each(rows)("$name", ({ text, host = "app.example.com", trusted }) => {
    expect(trustedKeys(text, host).map(({ key }) => key)).toEqual(trusted);
  });
});

describe("withKey()", () => {
  const pinned = (text: string) => withKey(text, "App.Example.com", { type: "ssh-ed25519", key: two });
  const line = `app.example.com ssh-ed25519 ${two}\n`;
  const rows = [
    { name: "makes a file", text: "", after: line },
    { name: "adds behind others", text: `db.example.com x ${one}`, after: `db.example.com x ${one}\n${line}` },
    { name: "replaces every key of the host", text: `app.example.com x ${one}\n${hashed} y ${one}\n`, after: line },
    { name: "keeps comments", text: `# ours\napp.example.com x ${one}\n`, after: `# ours\n${line}` },
    {
      name: "keeps what is revoked",
      text: `@revoked app.example.com x ${one}\n`,
      after: `@revoked app.example.com x ${one}\n${line}`,
    },
  ];
  test.each(rows)("$name", ({ text, after }) => expect(pinned(text)).toBe(after));

  test("twice is once", () => expect(pinned(pinned(""))).toBe(line));
});
