// scripts/lib/hooks.ts: what a hook finds in its environment, and what it never does.
import { expect, test } from "bun:test";
import { hookEnvironment } from "../scripts/lib/hooks.ts";

const facts = { environment: "production", release: 9, image: "ghcr.io/me/shop:abc", previousRelease: 8 };

test("hookEnvironment() tells what is known, and removes what an outer deploy may have set", () => {
  expect(hookEnvironment({}, [], { ...facts, outcome: "done" })).toEqual({
    DBOPS_REGISTRY_USER: undefined,
    DBOPS_REGISTRY_PASSWORD: undefined,
    DBOPS_ENVIRONMENT: "production",
    DBOPS_OUTCOME: "done",
    DBOPS_RELEASE: "9",
    DBOPS_IMAGE: "ghcr.io/me/shop:abc",
    DBOPS_PREVIOUS_RELEASE: "8",
  });
  expect("OP_SESSION_ME" in hookEnvironment({ OP_SESSION_ME: "x" }, [], facts)).toBe(true);
  const first = hookEnvironment({ DBOPS_OUTCOME: "failed" }, [], { environment: "production" });
  expect(Object.values(first).filter((value) => value !== undefined)).toEqual(["production"]);
});

test.each([
  { name: "the secret itself", value: "hunter2-hunter2", withheld: true },
  { name: "a URL with it", value: "postgres://app:hunter2-hunter2@postgres/app", withheld: true },
  { name: "a short one, alone", value: "abcd", withheld: true },
  { name: "a short one as a part of words", value: "/srv/abcdef", withheld: false },
  { name: "something else", value: "fr_FR.UTF-8", withheld: false },
  { name: "nothing", value: "", withheld: false },
])("hookEnvironment() with a variable that holds $name: withheld $withheld", ({ value, withheld }) => {
  const changes = hookEnvironment({ SOMETHING: value, PATH: value }, ["hunter2-hunter2", "abcd"], facts);
  expect("SOMETHING" in changes).toBe(withheld);
  expect("PATH" in changes).toBe(false);
});
