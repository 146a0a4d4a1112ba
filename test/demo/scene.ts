// What a scene of the demo is.

export type Stage = {
  /** What the person asked for, if anything. */
  engine: "docker" | "embedded" | undefined;
  once: boolean;
  json: boolean;
  interrupted: AbortSignal;
};

export type Scene = {
  /** One line for --help. */
  shows: string;
  /**
   * Makes what it needs, shows it, and takes it down again as the stage says. Prints its result on stdout, everything else on
   * stderr. An exit code other than 0 has been explained already.
   */
  play(stage: Stage): Promise<{ exitCode: number }>;
};
