// The lab's servers are other machines in every way that a deploy can notice, and leave nothing behind.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { run, start } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { cacheFolder, labId } from "../lab/cache.ts";
import { allProcesses, argvOf } from "../lab/processes.ts";
import { records } from "../lab/server/record.ts";
import { claimSlot, releaseSlot } from "../lab/server/slot.ts";
import { toolsEnvironment } from "../lab/server/tools.ts";
import { type Server, startServer } from "../lab/server.ts";
import { startSink } from "../lab/sink.ts";

let server: Server;
beforeAll(async () => {
  server = await startServer({ kind: "docker", withImages: true });
}, 300_000);
afterAll(() => server?.stop());

const webServer = "docker run --detach --name web --publish 80:80 --restart unless-stopped nginx:1.30-alpine";

test("is a machine of its own: name, processes, disk, engine", async () => {
  const { stdout } = await server.ssh(
    "hostname; id --user --name; grep --only-matching --text lab-init /proc/1/cmdline; docker images --quiet | wc --lines",
  );
  expect(stdout.split("\n")).toEqual([server.hostname, "deploy", "lab-init", "5", ""]);
  const size = await server.ssh("df --output=size --block-size=1G / | tail -1");
  expect(Number(size.stdout)).toBe(6);
});

test("lets nobody in without the key, and is known by its own host key", async () => {
  const ssh = (words: string[], accept: number[]) => {
    const argv = ["ssh", ...words, `root@${server.address}`, "true"];
    return run({ argv, environment: server.environment, accept });
  };
  await ssh([...server.sshArguments], [0]);
  const others = ["-F", "none", "-i", "/dev/null", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"];
  const known = `UserKnownHostsFile=${server.knownHostsFile}`;
  expect((await ssh([...others, "-o", known], [255])).stderr).toContain("Permission denied (publickey)");
  const unknown = await ssh(
    [...others, "-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=yes"],
    [255],
  );
  expect(unknown.stderr).toContain("Host key verification failed");
});

test("serves what its containers publish, before and after a power cut", async () => {
  await server.ssh(`${webServer} && docker create --name asleep nginx:1.30-alpine && echo kept > kept`);
  expect(await answer()).toBe(200);
  await server.powerOff();
  expect(await opens(22, 500)).toBe("unreachable");
  await server.powerOn();
  expect(await answer()).toBe(200);
  expect((await server.ssh("cat kept; docker ps --all --format '{{.Names}} {{.State}}' | sort")).stdout).toBe(
    "kept\nasleep created\nweb running\n",
  );
});

test("reaches this machine, and so do its containers", async () => {
  const sink = await startSink(server.gateway);
  const { hostname, port } = new URL(sink.url);
  const get = (path: string) => `printf 'GET ${path} HTTP/1.0\\r\\n\\r\\n'`;
  await server.ssh(`exec 3<>/dev/tcp/${hostname}/${port} && ${get("/server")} >&3 && cat <&3`);
  await server.ssh(`docker run --rm nginx:1.30-alpine sh -c "${get("/container")} | nc ${hostname} ${port}"`);
  expect((await sink.received(2)).map(({ path }) => path)).toEqual(["/server", "/container"]);
  await sink.stop();
});

test("a cut cable is noticed by nobody, and the command on the other side goes on", async () => {
  const argv = ["ssh", ...server.sshArguments, "-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=1"];
  const client = await start({
    argv: [...argv, `deploy@${server.address}`, "touch begun; sleep 3; touch finished"],
    environment: server.environment,
  });
  await until(async () => (await server.ssh("ls")).stdout.includes("begun"));
  await server.cutOff();
  expect(await opens(22, 500)).toBe("nothing");
  expect(await client.ended).toBe(255);
  await server.reconnect();
  await until(async () => (await server.ssh("ls")).stdout.includes("finished"));
});

test("a slow line is slow in both directions", async () => {
  const seconds = async (script: string, stdin: string) => {
    const argv = ["ssh", ...server.sshArguments, `deploy@${server.address}`, script];
    return (await run({ argv, environment: server.environment, stdin })).seconds;
  };
  await server.slow(8);
  expect(await seconds("head --bytes=1M /dev/zero", "")).toBeGreaterThan(0.7);
  expect(await seconds("cat > /dev/null", "x".repeat(2 ** 20))).toBeGreaterThan(0.7);
  await server.fast();
  expect(await seconds("head --bytes=1M /dev/zero", "")).toBeLessThan(0.7);
});

test("a full disk is full for everybody until it is freed", async () => {
  await server.fillDisk();
  const full = await server.ssh("head --bytes=1M /dev/zero > /root/more", { user: "root", accept: [1] });
  expect(full.stderr).toContain("No space left on device");
  await server.freeDisk();
  await server.ssh("head --bytes=1M /dev/zero > /root/more", { user: "root" });
});

test("a bare server has no Docker, and stands beside the other with its own address", async () => {
  const bare = await startServer({ kind: "bare" });
  try {
    expect(bare.address).not.toBe(server.address);
    expect((await bare.ssh("command -v docker; id deploy", { accept: [1] })).stdout).toBe("");
    expect((await bare.ssh("apt-get --version | head -1; id -un")).stdout).toMatch(/^apt .*\nroot\n$/);
  } finally {
    await bare.stop();
  }
}, 300_000);

test("stop() leaves nothing, and a server whose owner was killed goes with the next start", async () => {
  const program = `
    import { startServer } from "${new URL("../lab/server.ts", import.meta.url).pathname}";
    const { address } = await startServer({ kind: "bare" });
    console.log(address);
    setInterval(() => {}, 1000);`;
  const lines: string[] = [];
  const owner = await start({ argv: ["bun", "--eval", program], onLine: (line) => lines.push(line) });
  await until(async () => lines.some((line) => line.startsWith("10.")));
  const orphan = processesOf(lines.find((line) => line.startsWith("10."))!);
  await owner.stop("SIGKILL", 1);
  expect(orphan.filter(isAlive)).not.toEqual([]);
  // It is still a server: only the next start can know that nobody wants it any more.
  const next = await startServer({ kind: "bare" });
  try {
    expect(orphan.filter(isAlive)).toEqual([]);
    expect(await tracesOf(next)).not.toEqual([]);
  } finally {
    await next.stop();
  }
  await next.stop();
  expect(await tracesOf(next)).toEqual([]);
}, 300_000);

test("who gives back a place for the second time does not take it from the next one", async () => {
  const first = await claimSlot("first", "process");
  await releaseSlot(first);
  const second = await claimSlot("second", "process");
  const names = () => records().map(({ slot }) => slot.claim);
  try {
    await releaseSlot(first);
    expect(names()).toContain(second.claim);
  } finally {
    await releaseSlot(second);
  }
  expect(names()).not.toContain(second.claim);
});

/** Whatever on this machine has to do with the server. */
async function tracesOf({ address }: Server): Promise<string[]> {
  const environment = await toolsEnvironment();
  const number = (Number(address.split(".")[3]) - 2) / 4;
  const [name, cable] = [`dbops-${labId()}-${number}`, `h${labId()}n${number}`];
  const outputs = [
    (await run({ argv: ["iptables-save"], environment })).stdout,
    (await run({ argv: ["ip", "-oneline", "address"], environment })).stdout,
    (await run({ argv: ["ip", "route"], environment })).stdout,
    (await run({ argv: ["losetup", "--list"] })).stdout,
    readFileSync("/proc/self/mounts", "utf8"),
  ];
  const words = [` ${name} `, ` ${cable}`, ` ${address.replace(/\d+$/, `${4 * number}`)}/30 `, `/hosts/${number}/`];
  const lines = outputs.join("\n").split("\n");
  const folders = [`/run/create-dbops-lab-${labId()}-hosts/${number}`, cacheFolder("hosts", `${number}`)];
  const groups = readdirSync("/sys/fs/cgroup").map((group) => `/sys/fs/cgroup/${group}/${name}`);
  return [
    ...processesOf(address).map((pid) => `process ${pid}`),
    ...lines.filter((line) => words.some((word) => ` ${line} `.includes(word))),
    ...[...folders, ...groups].filter(existsSync),
  ];
}

/** Of the server at the address, as seen from this machine. */
const processesOf = (address: string) =>
  allProcesses().filter((pid) => argvOf(pid).some((word) => word.includes(`${address}/30`)));

const isAlive = (pid: number) => argvOf(pid).length > 0;

/** The status of the server's web page, once there is one. */
async function answer(): Promise<number | undefined> {
  return poll({ seconds: 15 }, async () => (await fetch(`http://${server.address}/`).catch(() => undefined))?.status);
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  const came = await poll({ seconds: 20 }, async () => (await condition()) || undefined);
  expect(came).toBe(true);
}

type Reply = "open" | "unreachable" | "nothing";

function opens(port: number, milliseconds: number): Promise<Reply> {
  return new Promise((resolve) => {
    const socket = connect({ host: server.address, port, timeout: milliseconds });
    const result = (what: Reply) => {
      socket.destroy();
      resolve(what);
    };
    socket.once("connect", () => result("open"));
    socket.once("error", () => result("unreachable"));
    socket.once("timeout", () => result("nothing"));
  });
}
