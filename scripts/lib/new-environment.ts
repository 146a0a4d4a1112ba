// The .env of a fresh clone: written on its first `up`, and never over data that was made with another password.
import { join } from "node:path";
import { writeSecretFile } from "./environment.ts";
import { exitCodes, Failure } from "./failure.ts";
import type { Project } from "./stack.ts";
import { phase } from "./terminal.ts";

/**
 * Does nothing where there is an .env.
 * @param earlierData the volumes and folders of this project.
 * @throws {Failure} exit 5 when there are any: their password was in an .env that is lost.
 */
export async function writeNewEnvironment(project: Project, earlierData: readonly string[]): Promise<void> {
  if (!project.newEnvironment) return;
  if (earlierData.length > 0) {
    const why = "the data of this project was made with another password";
    throw new Failure("Cannot make a new .env", why, ["put the earlier .env back"], {
      exitCode: exitCodes.refused,
      details: earlierData.join("\n"),
      read: "docs/runbook/wrong-password.md",
    });
  }
  phase("there is no .env yet: writing one with a new password");
  await writeSecretFile(join(project.directory, ".env"), project.newEnvironment);
}
