// What a deploy costs, and whom: its time by step beside the app's own boot; a deploy with nothing to do; how fast a broken
// release is taken back; and how many requests fail while the app is replaced, by this kit and by what people do without it:
// on one lab server, with one app, under one load. Takes root on Debian, and at most 6 minutes: rounds are left out then.
import { cpus, loadavg } from "node:os";
import { interruption } from "../../scripts/lib/wait.ts";
import { runVerb, type Stand, startFittingLoad, withServer } from "../demo/server.ts";
import type { Behaviour } from "../lab/deploy-app.ts";
import { replaceImage, startPlainStack, ways } from "./deploy/alternatives.ts";
import { countRoundTrips, measureDeploy, measureFlipBack, measureOwn } from "./deploy/kit.ts";
import { createRounds, type Rounds } from "./deploy/numbers.ts";
import { formatDeploys, formatFlipBacks, formatNothingToDo, formatSwitches } from "./deploy/report.ts";
import { measureSwitch, type Switch } from "./deploy/switch.ts";

export async function bench(): Promise<void> {
  const interrupted = interruption();
  const rounds = createRounds(interrupted);
  const before = machine();
  // While a deploy watches its release it does nothing else.
  const config = { deploy: { bakeSeconds: 0 } };
  await withServer({ interrupted, config }, async (stand) => {
    const images = await buildImages(stand);
    await benchDeploys(stand, images, rounds);
    await benchNothingToDo(stand, images, rounds);
    await benchUnderLoad(stand, images, rounds);
  });
  console.log(`machine: ${cpus().length} cores, load average ${before} at the beginning, ${machine()} at the end`);
}

const machine = () => loadavg()[0]!.toFixed(1);

type Images = { a1: string; a2: string; broken: string };

async function buildImages({ project }: Stand): Promise<Images> {
  const image = async (release: string, behaviour: Behaviour = "ok") =>
    (await project.buildApp({ release, behaviour })).pinned;
  return { a1: await image("a1"), a2: await image("a2"), broken: await image("broken", "live-errors") };
}

/** The two take turns, once they have been pulled; a1 serves in the end. The app's own times in between, on the same machine's mood. */
async function benchDeploys(stand: Stand, { a1, a2 }: Images, rounds: Rounds): Promise<void> {
  for (const image of [a1, a2, a1]) await measureDeploy(stand, image);
  const results = await rounds(6, 125, async () => {
    const deploys = [await measureDeploy(stand, a2), await measureDeploy(stand, a1)];
    return { deploys, own: await measureOwn(stand, deploys[1]!.slot) };
  });
  const deploys = results.flatMap((result) => result.deploys);
  const own = results.map((result) => result.own);
  console.log(formatDeploys(deploys, own));
}

/** a2 serves in the end. */
async function benchNothingToDo(stand: Stand, { a1, a2 }: Images, rounds: Rounds): Promise<void> {
  const tag = a1.replace(/@.*/, ":a1");
  const timesOf = async (image: string) => {
    const runs = await rounds(5, 150, () => runVerb(stand, "deploy", ["--image", image]));
    return runs.map(({ seconds }) => seconds);
  };
  const [digestTimes, digestTrips] = [await timesOf(a1), await countRoundTrips(stand, a1)];
  // That the tag means the same bytes is known only after a deploy of the tag.
  await runVerb(stand, "deploy", ["--image", tag]);
  const [tagTimes, tagTrips] = [await timesOf(tag), await countRoundTrips(stand, tag)];
  const allTrips = await countRoundTrips(stand, a2);
  const byDigest = { name: "by digest", times: digestTimes, trips: digestTrips };
  const byTag = { name: "by tag, about which the registry is asked", times: tagTimes, trips: tagTrips };
  console.log(formatNothingToDo([byDigest, byTag], allTrips));
}

async function benchUnderLoad(stand: Stand, images: Images, rounds: Rounds): Promise<void> {
  let live: "a1" | "a2" = "a2";
  const next = () => {
    live = live === "a1" ? "a2" : "a1";
    return { release: live, image: images[live] };
  };
  const results: { name: string; switches: Switch[] }[] = [];
  const { load, requestsPerSecond } = await startFittingLoad(stand);
  try {
    const switches = await rounds(4, 190, () => {
      const { release, image } = next();
      return measureSwitch(load, release, () => measureDeploy(stand, image));
    });
    results.push({ name: "deploy of this kit", switches });
    await stand.project.configure({ deploy: { bakeSeconds: 5 } });
    console.log(formatFlipBacks(await rounds(4, 225, () => measureFlipBack(stand, load, images.broken))));
  } finally {
    await load.stop();
  }
  await startPlainStack(stand, images[live]);
  const { load: plainLoad } = await startFittingLoad(stand);
  try {
    for (const [index, way] of ways.entries()) {
      const switches = await rounds(3, 260 + 30 * index, () => {
        const { release, image } = next();
        return measureSwitch(plainLoad, release, () => replaceImage(stand, way, image));
      });
      results.push({ name: way.name, switches });
    }
  } finally {
    await plainLoad.stop();
  }
  console.log(formatSwitches(results, requestsPerSecond));
}
