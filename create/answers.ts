// What the project is called and made for: from the flags, else from the manifest of an earlier run, else derived.
import { basename } from "node:path";
import { type Extra, extras, extrasIn, type Payload } from "./kit.ts";
import { checkDatabase, checkDomain, checkImage, checkName, checkServer, databaseFrom, nameFrom } from "./names.ts";

/** Recorded in .dbops/manifest.json: with these, the same kit writes the same bytes again. */
export type Answers = {
  name: string;
  database: string;
  domain: string;
  image: string;
  server: string;
  runtime: "bun" | "deno";
  /** With the starter app and its migrations. */
  app: boolean;
  with: readonly Extra[];
};

/** What was said on the command line or in a prompt; undefined means not said. */
export type Said = {
  name?: string | undefined;
  database?: string | undefined;
  domain?: string | undefined;
  image?: string | undefined;
  server?: string | undefined;
  /** "bun" or "deno"; the command line accepts nothing else. */
  runtime?: string | undefined;
  noApp: boolean;
  with: readonly string[];
};

type Surroundings = {
  /** Absolute: its last part is the default for the name. */
  directory: string;
  /** Holds nothing that an app could be built from. */
  empty: boolean;
  recorded?: Answers | undefined;
  userAgent: string;
};

/** Pure. `problems` are sentences, all of them; the answers may only be used when there are none. */
export function settleAnswers(said: Said, around: Surroundings, payload: Payload) {
  const { recorded } = around;
  const name = said.name ?? recorded?.name ?? nameFrom(basename(around.directory));
  const database = said.database ?? recorded?.database ?? databaseFrom(name);
  const domain = said.domain ?? recorded?.domain ?? "app.example.com";
  const answers: Answers = {
    name,
    database,
    domain,
    image: said.image ?? recorded?.image ?? `ghcr.io/example/${name}`,
    server: said.server ?? recorded?.server ?? `deploy@${domain}`,
    runtime: (said.runtime as Answers["runtime"]) ?? recorded?.runtime ?? defaultRuntime(around.userAgent),
    app: !said.noApp && (recorded?.app ?? around.empty),
    with: [...new Set([...(recorded?.with ?? []), ...(said.with as Extra[])])].sort(),
  };
  return { answers, problems: [...problemsOf(answers, around.directory), ...extraProblems(said.with, payload)] };
}

/** `deno run npm:create-dbops` is asked by somebody who has Deno; everybody else gets Bun. */
export function defaultRuntime(userAgent: string): Answers["runtime"] {
  return userAgent.startsWith("deno/") ? "deno" : "bun";
}

function problemsOf(answers: Answers, directory: string): string[] {
  if (answers.name === "") {
    return [`no name can be made from "${basename(directory)}": say --name NAME`];
  }
  const nameProblem = checkName(answers.name);
  const checks = [
    nameProblem,
    // A database or image derived from a bad name would only repeat the same complaint.
    nameProblem && answers.database === databaseFrom(answers.name) ? undefined : checkDatabase(answers.database),
    checkDomain(answers.domain),
    nameProblem && answers.image.endsWith(`/${answers.name}`) ? undefined : checkImage(answers.image),
    answers.server === `deploy@${answers.domain}` ? undefined : checkServer(answers.server),
  ];
  return checks.filter((problem) => problem !== undefined);
}

function extraProblems(asked: readonly string[], payload: Payload): string[] {
  const available = extrasIn(payload);
  const choice = available.length > 0 ? `there is: ${available.join(", ")}` : "there is none yet";
  return asked.flatMap((name) => {
    if (!Object.hasOwn(extras, name)) return [`--with "${name}" is unknown; ${choice}`];
    return available.includes(name as Extra)
      ? []
      : [`--with "${name}" is not in this version (${payload.version}); ${choice}`];
  });
}
