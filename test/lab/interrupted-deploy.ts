// For tests that disturb a deploy: one that has come as far as a step, and what the server looks like when all is over.
//   const scene = await startScene({ name: "shop", config: { deploy: { bakeSeconds: 1 } } });   …   await scene.stop();
//   const deploy = await deployUntil(scene, image, "bake");         // its line "done   bake" has just been printed
//   killWithSsh(deploy);   …   expect((await deploy.end()).exitCode).toBe("SIGKILL");
//   expect((await settled(scene)).at).toEqual(serving("a1"));
import { parseRecords, type Release } from "../../scripts/lib/release.ts";
import { type Result, type Running, sendSignal } from "../../scripts/lib/run.ts";
import type { PushedImage } from "./deploy-app.ts";
import { createDeployProject, type DeployProject } from "./deploy-project.ts";
import { allProcesses, argvOf, childrenOf } from "./processes.ts";
import { type Registry, startRegistry } from "./registry.ts";
import { type Server, startServer } from "./server.ts";

export type Scene = {
  server: Server;
  registry: Registry;
  project: DeployProject;
  /** They say "a1", "a2" … */
  images: readonly PushedImage[];
  stop(): Promise<void>;
};

type SceneOptions = Omit<Parameters<typeof createDeployProject>[0], "server" | "registry"> & { releases?: string[] };

export async function startScene({ releases = ["a1", "a2"], ...options }: SceneOptions = {}): Promise<Scene> {
  const [server, registry] = await Promise.all([startServer({ kind: "docker", withImages: true }), startRegistry()]);
  const project = await createDeployProject({ ...options, server, registry });
  const images: PushedImage[] = [];
  for (const release of releases) images.push(await project.buildApp({ release }));
  const stop = async () => {
    await project.remove();
    await server.stop();
    await registry.stop();
  };
  return { server, registry, project, images, stop };
}

/** The verb's own environment for the registry's password, which nothing on the server knows. */
export const loginTo = ({ user, password }: Registry) => ({
  DBOPS_REGISTRY_USER: user,
  DBOPS_REGISTRY_PASSWORD: password,
});

/** A deploy to its end; every exit code is an answer. */
export function runDeploy(scene: Scene, image: PushedImage, words: readonly string[] = []): Promise<Result> {
  const { project, registry } = scene;
  return project.run("deploy", ["--image", image.pinned, ...words], {
    accept: [0, 1, 2, 3, 4, 5, 130],
    environment: loginTo(registry),
  });
}

/** Which of the images serves, the next one, and the one after that. Deploys the first if none does. */
export async function liveAndNext(scene: Scene): Promise<{ live: PushedImage; next: PushedImage; later: PushedImage }> {
  const { project, images } = scene;
  const ask = async () => (await project.ask("/").catch(() => undefined))?.release;
  if (!(await ask())) await runDeploy(scene, images[0]!);
  const release = await ask();
  const number = images.findIndex((image) => image.release === release);
  if (number < 0) throw new Error(`none of the images serves, but "${release}"`);
  const at = (index: number) => images[index % images.length]!;
  return { live: at(number), next: at(number + 1), later: at(number + 2) };
}

export type DeployAtWork = {
  program: Running;
  /** The verb's ssh, which is in a process group of its own; 0 until the verb has connected. */
  sshPid(): number;
  /** Resolves as soon as the step's line has been printed. @throws when the deploy has ended before. */
  until(step: string): Promise<void>;
  end(): Promise<{ exitCode: number | NodeJS.Signals; stdout: string; stderr: string }>;
};

export async function startDeploy(
  { project, registry }: Scene,
  image: Pick<PushedImage, "pinned">,
  words: readonly string[] = [],
): Promise<DeployAtWork> {
  const output = { stdout: "", stderr: "" };
  const waiting = new Set<() => void>();
  let sshPid = 0;
  const program: Running = await project.start("deploy", ["--image", image.pinned, ...words], {
    environment: loginTo(registry),
    onLine(line, stream) {
      output[stream] += `${line}\n`;
      if (line.startsWith("  done   connect ")) sshPid = sshOf(program.pid);
      for (const look of waiting) look();
    },
  });
  const printed = (text: string) =>
    new Promise<"printed">((resolve) => {
      const look = () => {
        if (!output.stderr.includes(text)) return;
        waiting.delete(look);
        resolve("printed");
      };
      waiting.add(look);
      look();
    });
  return {
    program,
    sshPid: () => sshPid,
    async until(step) {
      const tooLate = new Promise<string>((resolve) => {
        setTimeout(resolve, stepWithinSeconds * 1000, `not within ${stepWithinSeconds} s`).unref();
      });
      const how = await Promise.race([printed(`  done   ${step} `), program.ended, tooLate]);
      if (how === "printed") return;
      await program.stop("SIGKILL", 1);
      throw new Error(`the deploy did not come to "${step}": ${how}\n${output.stderr}`);
    },
    end: async () => ({ exitCode: await program.ended, ...output }),
  };
}

const stepWithinSeconds = 120;

/** Starts a deploy, and has it come as far as the end of a step. */
export async function deployUntil(scene: Scene, image: PushedImage, step: string): Promise<DeployAtWork> {
  const deploy = await startDeploy(scene, image);
  await deploy.until(step);
  return deploy;
}

/** As when the machine of the deploy is gone at once: its kernel, or a firewall, still closes the connection. */
export function killWithSsh({ program, sshPid }: DeployAtWork): void {
  sendSignal(-program.pid, "SIGKILL");
  sendSignal(-sshPid(), "SIGKILL");
}

function sshOf(pid: number): number {
  const found = childrenOf(pid).find((child) => argvOf(child).some((word) => word.startsWith("deploy@")));
  if (!found) throw new Error("the deploy has no ssh");
  return found;
}

/** The agents that are at work on the server for this project, seen from this machine: also while the cable is cut. */
export function agentsOf({ name, folder }: DeployProject): number[] {
  return allProcesses().filter((pid) => {
    const [program, ...words] = argvOf(pid);
    return program === "bash" && words.slice(-2).join(" ") === `${folder} ${name}`;
  });
}

export type Settled = { at: AtRest; records: Release[] };

export type AtRest = {
  /** Of the app and its workers: "the live slot a1", "worker a1". */
  running: string[];
  /** "live", "warm" or "bake": the last word of the stamp; "" where there is none. */
  state: string;
  nginxAgrees: boolean;
  environmentAgrees: boolean;
  isRecorded: boolean;
  /** Files and folders that only a deploy at work may have, and releases that are good for nothing. */
  leftovers: string[];
};

/** A server that is as every deploy should leave it. */
export const serving = (release: string, workers: readonly string[] = []): AtRest => ({
  running: [`the live slot ${release}`, ...workers.map((name) => `${name} ${release}`)],
  state: "live",
  nginxAgrees: true,
  environmentAgrees: true,
  isRecorded: true,
  leftovers: [],
});

/** One on which no release has ever stayed. */
export const nothing: AtRest = {
  running: [],
  state: "",
  nginxAgrees: true,
  environmentAgrees: true,
  isRecorded: false,
  leftovers: [],
};

/** Waits until nobody holds the lock, then looks at everything that a deploy leaves. */
export async function settled({ server, project: { name, folder } }: Scene): Promise<Settled> {
  const { stdout } = await server.ssh(`cd ${folder}\n${look(name)}`, { timeoutSeconds: 120 });
  const all = (key: string) =>
    stdout.split("\n").flatMap((line) => (line.startsWith(`${key} `) ? [line.slice(key.length + 1)] : []));
  const [stamp = "", asked = "", slot] = ["stamp", "asked", "slot"].map((key) => all(key)[0]);
  const [number, liveSlot, state = ""] = stamp.split(" ");
  const records = parseRecords(all("record").join("\n"));
  const done = records.filter(({ outcome }) => outcome === "done");
  const isGood = (release: string) =>
    done.some((record) => `${record.release}` === release || `${record.previous}` === release);
  const running = all("container").map((line) => {
    const [status, service, release] = line.split(" ");
    const name = service === `app-${liveSlot}` ? "the live slot" : service;
    return `${name} ${release}${status === "running" ? "" : ` (${status})`}`;
  });
  return {
    records,
    at: {
      running: running.sort(),
      state,
      nginxAgrees: asked === stamp,
      environmentAgrees: slot === liveSlot || stamp === "",
      isRecorded: done.some(({ release }) => `${release}` === number),
      leftovers: [...all("leftover"), ...all("kept").filter((release) => !isGood(release))],
    },
  };
}

const look = (project: string) => `
flock --wait 90 lock true
ls -d /dev/shm/* /tmp/tmp.* 2>/dev/null | sed 's/^/leftover /'
find . -name '*.dbops-*' -o -name .new -o -name '*.json.new' | sed 's/^/leftover /'
sed -n 's/^ *default "\\(.*\\)";.*/stamp \\1/p' nginx/upstream/production.conf 2>/dev/null
label=com.docker.compose.project=${project}
nginx=$(docker ps --quiet --filter label=$label --filter label=com.docker.compose.service=nginx)
[ -z "$nginx" ] || echo "asked $(docker exec $nginx wget -q -T 3 -O - http://127.0.0.1:8081/release)"
[ ! -e .env ] || sed -n "s/^COMPOSE_PROFILES='*\\([a-z]*\\).*/slot \\1/p" .env
docker ps --all --filter label=$label --format '{{.Label "com.docker.compose.oneoff"}}' | sed -n 's/^True/leftover container/p'
docker ps --quiet --filter label=$label |
  xargs --no-run-if-empty docker inspect --format '{{.State.Status}} {{index .Config.Labels "com.docker.compose.service"}}{{range .Config.Env}} {{.}}{{end}}' |
  sed -n 's/^\\([a-z]*\\) \\([a-z-]*\\) .*\\bRELEASE=\\([^ ]*\\).*/container \\1 \\2 \\3/p'
ls releases 2>/dev/null | sed 's/^/kept /'
[ ! -e releases.jsonl ] || sed 's/^/record /' releases.jsonl
exit 0
`;
