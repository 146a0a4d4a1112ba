// How long until the whole stack is healthy, images present: beside the same stack without start_interval, where Docker
// looks for the first time after a whole interval; and beside the embedded engine.
import { run } from "../../scripts/lib/run.ts";
import { up } from "../lab/observe.ts";
import { buildAppImage, createProject, type Project } from "../lab/project.ts";
import { createStackProject } from "../lab/stack.ts";

const rounds = 5;

export async function bench(): Promise<void> {
  const project = await createProject();
  try {
    await project.setEnvironment({ APP_IMAGE: await buildAppImage(project) });
    const fresh = await median(() => timeUp(project, { fresh: true }));
    const kept = await median(() => timeUp(project, { fresh: false }));
    const repeated = await median(() => timeUp(project, {}));
    await slowDown(project);
    const plain = await median(() => timeUp(project, { fresh: true }));
    console.log(`docker, fresh volume       ${fresh.toFixed(2)} s`);
    console.log(`docker, data already there ${kept.toFixed(2)} s`);
    console.log(`docker, running already    ${repeated.toFixed(2)} s`);
    console.log(`without start_interval     ${plain.toFixed(2)} s   ${(plain / fresh).toFixed(1)} times as long`);
  } finally {
    await project.remove();
  }
  await benchEmbedded();
}

async function benchEmbedded(): Promise<void> {
  const project = await createStackProject();
  try {
    const once = async () =>
      JSON.parse((await project.up(["--engine", "embedded", "--once", "--json"])).stdout).seconds;
    console.log(`embedded, no data yet      ${(await once()).toFixed(2)} s`);
    console.log(`embedded, data there       ${(await median(once)).toFixed(2)} s`);
  } finally {
    await project.remove();
  }
}

/** @param from a fresh volume, a kept one with all containers gone, or (nothing said) the running stack. */
async function timeUp(project: Project, from: { fresh?: boolean }): Promise<number> {
  if (from.fresh !== undefined) {
    await project.compose(["down", "--timeout", "5", ...(from.fresh ? ["--volumes"] : [])]);
  }
  return (await project.compose(up)).seconds;
}

async function slowDown(project: Project): Promise<void> {
  const file = `${project.directory}/compose.yaml`;
  await run({ argv: ["sed", "-i", "-E", "/start_interval: 250ms$/d; s/, start_interval: 250ms//", file] });
}

async function median(measure: () => Promise<number>): Promise<number> {
  const seconds: number[] = [];
  for (let round = 0; round < rounds; round++) seconds.push(await measure());
  return seconds.sort((a, b) => a - b)[Math.floor(rounds / 2)]!;
}
