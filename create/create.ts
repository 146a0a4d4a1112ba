// create-dbops: writes the database half of a production app into a folder, new or with a project in it.
//   npx create-dbops my-app          bunx create-dbops .          deno run -A npm:create-dbops my-app
// Never touches a file that is there already: package.json and the like are merged, everything else lands beside it.
import { resolve } from "node:path";
import { generatePassword } from "../scripts/lib/environment.ts";
import { exitCodes, Failure } from "../scripts/lib/failure.ts";
import { type Answers, type Said, settleAnswers } from "./answers.ts";
import { applyPlan } from "./apply.ts";
import { type Flags, parseFlags } from "./command-line.ts";
import { finish, print } from "./finish.ts";
import type { Payload } from "./kit.ts";
import { contentProblems, type Observed, observe, pathProblems, targetProblems } from "./observe.ts";
import { type Plan, planProject } from "./plan.ts";
import { askForDirectory, askForRest, askToGoOn, canPrompt } from "./prompt.ts";
import { formatPlan } from "./report.ts";

/** @param loadKit called only when the kit is needed: `--help` is not to wait for it. */
export async function create(argv: readonly string[], loadKit: () => Payload): Promise<void> {
  const flags = parseFlags(argv);
  const kit = loadKit();
  if (flags.version) {
    console.log(kit.version);
    return;
  }
  const mayAsk = canPrompt() && !flags.yes && !flags.json;

  const directory = resolve(flags._[0] ?? (mayAsk ? await askForDirectory() : missingDirectory()));
  refuse(targetProblems(directory));
  const observed = observe(directory);
  const answers = await settle(flags, observed, kit, mayAsk);
  const plan = planProject(observed, answers, kit, { password: generatePassword(), force: flags.force });
  refuse([...unknownFiles(flags.force, plan), ...pathProblems(directory, writtenPaths(plan))]);

  if (flags["dry-run"]) {
    print({ flags, observed, answers, plan });
    return;
  }
  if (mayAsk && !observed.empty && writtenPaths(plan).length > 0) {
    console.error(formatPlan(directory, plan));
    await askToGoOn(`Write this into ${directory}?`);
  }
  applyPlan(directory, plan);
  await finish({ flags, observed, answers, plan });
}

async function settle(flags: Flags, observed: Observed, kit: Payload, mayAsk: boolean): Promise<Answers> {
  const { directory, empty, manifest } = observed;
  const userAgent = process.env.npm_config_user_agent ?? "";
  const { name, database, domain, image, server, runtime } = flags;
  const typed: Said = { name, database, domain, image, server, runtime, noApp: flags["no-app"], with: flags.with };
  const contents = contentProblems(observed);
  if (mayAsk) refuse(contents);
  // A project that was made before has all its answers already.
  const said = mayAsk && !manifest ? await askForRest(typed, directory, userAgent) : typed;
  const { answers, problems } = settleAnswers(said, { directory, empty, recorded: manifest?.answers, userAgent }, kit);
  refuse([...contents, ...problems]);
  return answers;
}

function missingDirectory(): never {
  throw new Failure(
    "Cannot create a project",
    "[dir] is missing: no folder was named, and there is no terminal to ask on",
    ["create-dbops my-app --yes", "create-dbops . --yes"],
    { exitCode: exitCodes.usage },
  );
}

/** @throws {Failure} exit 2 with all problems, if there are any. */
function refuse(problems: readonly string[]): void {
  if (problems.length === 0) return;
  const why = problems.length === 1 ? problems[0]! : `${problems.length} problems`;
  throw new Failure("Cannot create the project, nothing was written", why, ["create-dbops --help"], {
    exitCode: exitCodes.usage,
    ...(problems.length > 1 ? { details: problems.join("\n") } : {}),
  });
}

function unknownFiles(force: readonly string[], plan: Plan): string[] {
  const known = new Set(plan.files.map(({ path }) => path));
  return force.flatMap((file) => {
    if (file === ".env") return ["--force .env: it holds your secrets, move it away yourself"];
    return known.has(file) ? [] : [`--force "${file}": the kit has no file of that name`];
  });
}

const writtenPaths = (plan: Plan) => plan.files.flatMap(({ write }) => (write ? [write.path] : []));
