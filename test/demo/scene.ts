// What a scene of the demo is.
import type { DemoProject } from "./project.ts";

export type Stage = { once: boolean; json: boolean; interrupted: AbortSignal };

export type Scene = {
  /** One line for --help. */
  shows: string;
  /** Prints its result on stdout, everything else on stderr. An exit code other than 0 has been explained already. */
  play(project: DemoProject, stage: Stage): Promise<{ exitCode: number }>;
};
