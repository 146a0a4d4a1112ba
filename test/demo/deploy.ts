// Deploys to a server under load: the first one, one that no request notices, a broken one that is taken back by itself, and a
// rollback. What is printed in between is what the verbs print.
import { join } from "node:path";
import { writeSecretFile } from "../../scripts/lib/environment.ts";
import { exitCodes, Failure } from "../../scripts/lib/failure.ts";
import { phase } from "../../scripts/lib/terminal.ts";
import { untilAborted } from "../../scripts/lib/wait.ts";
import type { Load } from "../lab/load.ts";
import { type Act, formatFailures, formatRequests, formatSummary, type Result } from "./deploy-summary.ts";
import type { Scene, Stage } from "./scene.ts";
import { between, commandOf, errorsOfTheApp, runVerb, type Stand, startFittingLoad, withServer } from "./server.ts";

export const deploy: Scene = {
  shows: "a server, and deploys to it under load: root on Debian",
  async play(stage) {
    const { engine, interrupted } = stage;
    if (engine === "embedded") {
      const next = ["npm run demo -- --deploy"];
      throw new Failure("Cannot show a deploy", "a server has Docker, so --engine embedded makes no sense", next, {
        exitCode: exitCodes.usage,
      });
    }
    return await withServer({ interrupted }, (stand) => show(stand, stage));
  },
};

async function show(stand: Stand, { json, once, interrupted }: Stage): Promise<{ exitCode: number }> {
  phase("three images: v1, v2, and v3, which is healthy and answers everything else with an error");
  const v1 = await buildApp(stand, "v1");
  const v2 = await buildApp(stand, "v2");
  const v3 = await buildApp(stand, "v3", "live-errors");

  phase("the first deploy: nothing is on the server yet");
  const first = await act(stand, "deploy", ["--image", v1]);
  await expectAnswerOf(stand, "v1");

  const { load, requestsPerSecond } = await startFittingLoad(stand);
  try {
    phase(`${requestsPerSecond} requests a second from here on, half of them POST, on kept connections`);
    phase("v2, while v1 answers");
    const second = await actUnderLoad(stand, load, () => act(stand, "deploy", ["--image", v2]));
    await expectAnswerOf(stand, "v2");

    phase("v3, which is broken: nobody steps in");
    let flipBackSeconds = 0;
    const broken = await actUnderLoad(stand, load, async () => {
      const { seconds, text } = await act(stand, "deploy", ["--image", v3], exitCodes.failed);
      flipBackSeconds = switchedBackIn(text);
      return { seconds, isBroken: true };
    });
    await expectAnswerOf(stand, "v2");

    phase("back to v1");
    const back = await actUnderLoad(stand, load, () => act(stand, "rollback", []));
    await expectAnswerOf(stand, "v1");

    const report = await load.stop();
    const { requests, seconds } = report;
    const { answersOfBrokenRelease } = broken;
    const result: Result = {
      requests,
      failed: report.failed - answersOfBrokenRelease,
      deploys: 2,
      deploySeconds: [first.seconds, second.seconds],
      flipBackSeconds,
      answersOfBrokenRelease,
      rollbackSeconds: back.seconds,
      requestsPerSecond: Math.round(requests / seconds),
    };
    console.log(json ? JSON.stringify(result) : formatSummary(result, { first, second, broken, back }));
    if (result.failed > 0) {
      console.error(formatFailures(report));
      return { exitCode: exitCodes.failed };
    }
    if (!once) await stay(stand, interrupted);
    return { exitCode: exitCodes.done };
  } finally {
    // It has ended already, unless something went wrong.
    await load.stop().catch(() => {});
  }
}

async function buildApp({ project, interrupted }: Stand, release: string, behaviour: "ok" | "live-errors" = "ok") {
  interrupted.throwIfAborted();
  return (await project.buildApp({ release, behaviour })).reference;
}

/** A verb, printed as typed, and all that it prints. */
async function act(stand: Stand, verb: string, words: readonly string[], exitCode = 0) {
  console.error(`$ ${commandOf(verb, words)}`);
  const { seconds, lines } = await runVerb(stand, verb, words, { exitCode, onLine: console.error });
  return { seconds: rounded(seconds), text: lines.map(({ text }) => text).join("\n") };
}

type Work = { seconds: number; isBroken?: boolean };

async function actUnderLoad(stand: Stand, load: Load, work: () => Promise<Work>): Promise<Act> {
  const [before, errorsBefore] = [await load.settle(), await errorsOfTheApp(stand)];
  const { seconds, isBroken = false } = await work();
  const { requests, failed, failures } = between(before, await load.settle());
  // A broken release did answer them: they are its errors. Whatever else went wrong is the deploy's.
  const newErrors = isBroken ? (await errorsOfTheApp(stand)) - errorsBefore : 0;
  const answersOfBrokenRelease = Math.min(newErrors, failures["5xx"] ?? 0);
  const act = { seconds, requests, failed: failed - answersOfBrokenRelease, answersOfBrokenRelease };
  console.error(`    meanwhile ${formatRequests(act)}`);
  return act;
}

async function expectAnswerOf({ project }: Stand, release: string): Promise<void> {
  const answer = await project.ask("/");
  if (answer.release === release) return console.error(`    ${project.url} is ${release}`);
  throw new Failure(`${project.url} should be ${release}`, `it answers ${answer.status} ${answer.body}`);
}

function switchedBackIn(text: string): number {
  const seconds = /switched back to release \d+ in ([\d.]+) s/.exec(text)?.[1];
  if (seconds) return Number(seconds);
  throw new Failure("The broken release was not taken back by a switch", "the deploy does not say so", [], {
    details: text,
  });
}

/** Until Ctrl-C, with all that a person needs to try it. */
async function stay({ server, project, registry }: Stand, interrupted: AbortSignal): Promise<void> {
  const login = { DBOPS_REGISTRY_USER: registry.user, DBOPS_REGISTRY_PASSWORD: registry.password };
  // Not how this demo reaches Docker: whoever reads the file in goes on with his own.
  const { DOCKER_HOST, DOCKER_CONFIG, ...environment } = project.environment;
  const lines = Object.entries({ ...environment, ...login }).map(([name, value]) => `export ${name}='${value}'\n`);
  await writeSecretFile(join(project.directory, "demo.env"), lines.join(""));
  await project.write("ca.pem", project.ca);
  const ssh = ["ssh", ...server.sshArguments, `${server.user}@${server.address}`].join(" ");
  console.error(
    [
      "",
      "The server stays until Ctrl-C. From another terminal:",
      `  cd ${project.directory} && . ./demo.env`,
      "  bun scripts/deploy.ts --history",
      `  bun scripts/deploy.ts --image ${project.image}:v2`,
      `  curl --silent --cacert ca.pem --resolve ${project.domain}:443:${server.address} ${project.url}/`,
      `  ${ssh} docker ps`,
    ].join("\n"),
  );
  await untilAborted(interrupted);
}

const rounded = (seconds: number) => Math.round(seconds * 100) / 100;
