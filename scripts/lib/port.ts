// Ports of this machine.
import { createServer } from "node:net";
import { exitCodes, Failure } from "./failure.ts";

/**
 * @param variable the name in .env that chooses it.
 * @throws {Failure} exit 2 when it is taken: silently using another would send the next `psql` or `curl` to the wrong server.
 */
export async function requireFreePort(port: number, host: string, variable: string): Promise<void> {
  if (!(await isFreePort(port, host))) throw portTaken(port, variable);
}

/** Asks the kernel by listening on it for a moment. */
export async function isFreePort(port: number, host: string): Promise<boolean> {
  const probe = createServer();
  return await new Promise((resolve, reject) => {
    probe.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EADDRINUSE") resolve(false);
      else reject(new Failure(`Cannot use port ${port}`, error.message, [], { exitCode: exitCodes.usage }));
    });
    probe.listen({ port, host, exclusive: true }, () => probe.close(() => resolve(true)));
  });
}

export function portTaken(port: number, variable: string): Failure {
  const next = [`set ${variable} in .env to another port, for instance ${port + 1}`];
  return new Failure(`Cannot use port ${port}`, "another program listens on it", next, { exitCode: exitCodes.usage });
}
