// Ports of this machine.
import { createServer } from "node:net";
import { exitCodes, Failure } from "./failure.ts";

/**
 * @param hosts every address that a client may take for ours: behind "localhost" stand two.
 * @param variable the name in .env that chooses it.
 * @throws {Failure} exit 2 when it is taken: silently using another would send the next `psql` or `curl` to the wrong server.
 */
export async function requireFreePort(port: number, hosts: readonly string[], variable: string): Promise<void> {
  for (const host of hosts) {
    const code = await listenBriefly(port, host);
    if (code) throw portFailure(code, port, variable);
  }
}

export async function isFreePort(port: number, host: string): Promise<boolean> {
  return (await listenBriefly(port, host)) === undefined;
}

/** Asks the kernel. @returns the error's code; none where this machine does not have the address at all. */
async function listenBriefly(port: number, host: string): Promise<string | undefined> {
  const probe = createServer();
  const code = await new Promise<string | undefined>((resolve) => {
    probe.once("error", (error: NodeJS.ErrnoException) => resolve(error.code));
    probe.listen({ port, host, exclusive: true }, () => probe.close(() => resolve(undefined)));
  });
  return code === "EADDRNOTAVAIL" || code === "EAFNOSUPPORT" ? undefined : code;
}

const reasons: Readonly<Record<string, string>> = {
  EADDRINUSE: "another program listens on it",
  EACCES: "only root may listen on it",
};

/** @param code of the error that listening on it gave. */
export function portFailure(code: string, port: number, variable: string): Failure {
  const other = port < 1024 ? port + 8000 : port + 1;
  const next = [`set ${variable} in .env to another port, for instance ${other}`];
  return new Failure(`Cannot use port ${port}`, reasons[code] ?? code, next, {
    exitCode: exitCodes.usage,
    read: "docs/runbook/port-is-taken.md",
  });
}
