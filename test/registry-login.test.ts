// scripts/lib/registry-login.ts: both variables, or none.
import { expect, test } from "bun:test";
import { type Failure, formatFailure } from "../scripts/lib/failure.ts";
import { registryLogin } from "../scripts/lib/registry-login.ts";

test("both, or none; what is empty is not set", () => {
  expect(registryLogin({ DBOPS_REGISTRY_USER: "ann", DBOPS_REGISTRY_PASSWORD: "x" })).toEqual({
    user: "ann",
    password: "x",
  });
  expect(registryLogin({})).toBe(undefined);
  expect(registryLogin({ DBOPS_REGISTRY_USER: "", DBOPS_REGISTRY_PASSWORD: "" })).toBe(undefined);
});

test.each([
  ["DBOPS_REGISTRY_USER", "DBOPS_REGISTRY_PASSWORD"],
  ["DBOPS_REGISTRY_PASSWORD", "DBOPS_REGISTRY_USER"],
])("%s without %s", (set, other) => {
  const refused = () => registryLogin({ [set]: "hunter2", [other]: "" });
  expect(refused).toThrow();
  try {
    refused();
  } catch (error) {
    expect([formatFailure(error as Failure), (error as Failure).exitCode]).toEqual([
      `Cannot log in to the registry: ${set} is set, and ${other} is not
  next: export ${other}=…
  next: or unset ${set}   # the server then pulls with whatever login it has`,
      2,
    ]);
  }
});
