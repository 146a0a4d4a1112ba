// The real ssh without this machine's configuration, for programs that start it by its name: who runs the tests, and with which
// ~/.ssh/config, agent and keys, must not matter.
//   const environment = await plainSsh(folder);   …   run({ argv: ["bun", "scripts/provision.ts"], environment });
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { toolsEnvironment } from "./server/tools.ts";

/**
 * @param folder for the wrapper; the caller removes it.
 * @param configuration the text of an ssh_config file that stands for the user's own.
 */
export async function plainSsh(folder: string, configuration = ""): Promise<Record<string, string | undefined>> {
  const { PATH } = await toolsEnvironment();
  const bin = join(folder, "bin");
  mkdirSync(bin, { recursive: true });
  const file = join(folder, "ssh_config");
  writeFileSync(file, configuration);
  writeFileSync(join(bin, "ssh"), `#!/bin/sh\nexec "${Bun.which("ssh", { PATH })}" -F "${file}" "$@"\n`);
  chmodSync(join(bin, "ssh"), 0o755);
  return { PATH: `${bin}:${PATH}`, SSH_AUTH_SOCK: undefined, DBOPS_SSH_KEY_FILE: undefined };
}
