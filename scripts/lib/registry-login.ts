// A login for the pull of a private image. It is for that pull alone: on the server nothing stays logged in.
import { exitCodes, Failure } from "./failure.ts";

export type RegistryLogin = { user: string; password: string };

const names = ["DBOPS_REGISTRY_USER", "DBOPS_REGISTRY_PASSWORD"] as const;

/** @throws {Failure} exit 2 when only one of the two is set: the pull would fail for want of a login, far from the reason. */
export function registryLogin(environment: Readonly<Record<string, string | undefined>>): RegistryLogin | undefined {
  const [user, password] = names.map((name) => environment[name]);
  if (user && password) return { user, password };
  if (!user && !password) return undefined;
  const [set, other] = user ? names : names.toReversed();
  const next = [`export ${other}=…`, `or unset ${set}   # the server then pulls with whatever login it has`];
  throw new Failure("Cannot log in to the registry", `${set} is set, and ${other} is not`, next, {
    exitCode: exitCodes.usage,
  });
}
