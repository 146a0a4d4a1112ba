// A container registry with TLS and a password, under an address that the lab's engine and every lab server reach alike, so
// that one image reference means the same to all of them.
//   const registry = await startRegistry();   await registry.trustedBy(server);   …   await registry.stop();
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Failure } from "../../scripts/lib/failure.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { hashOf } from "./cache.ts";
import { makeCertificate } from "./certificate.ts";
import { startEngine } from "./engine.ts";
import { startDaemon } from "./process.ts";
import { describeSlot, type Owner, rememberFolder, rememberProcess } from "./server/record.ts";
import { claimSlot, listenHere, releaseSlot } from "./server/slot.ts";
import { toolsEnvironment } from "./server/tools.ts";
import type { Server } from "./server.ts";

export type Registry = {
  /** "10.x.y.z:5000": what an image reference begins with. */
  address: string;
  user: string;
  password: string;
  /** Signed the registry's certificate. The lab's engine trusts it. */
  caFile: string;
  /** For the docker command on this machine: the lab's engine, logged in to this registry and no other. */
  environment: Readonly<Record<string, string>>;
  /** Makes a server's engine trust the certificate. It still has to log in. */
  trustedBy(server: Server): Promise<void>;
  /** Connections are still taken, and then nothing happens. */
  pause(): void;
  resume(): void;
  /** Removes the registry and every trace. Harmless on repetition. */
  stop(): Promise<void>;
};

const port = 5000;
const startWithinSeconds = 15;

export async function startRegistry({ owner = "process" }: { owner?: Owner } = {}): Promise<Registry> {
  const slot = await claimSlot("registry", owner);
  try {
    await listenHere(slot);
    const address = `${slot.address}:${port}`;
    const { caFile, certificateFile, keyFile } = await makeCertificate(slot.folder, [slot.address]);
    const user = "deploy";
    const password = hashOf(crypto.getRandomValues(new Uint8Array(32))).slice(0, 32);
    const htpasswd = join(slot.folder, "htpasswd");
    writeFileSync(htpasswd, `${user}:${await Bun.password.hash(password, { algorithm: "bcrypt", cost: 4 })}\n`);
    const configuration = {
      version: 0.1,
      log: { level: "warn", accesslog: { disabled: true } },
      storage: { filesystem: { rootdirectory: slot.storage }, delete: { enabled: true } },
      http: { addr: address, tls: { certificate: certificateFile, key: keyFile } },
      auth: { htpasswd: { realm: "lab", path: htpasswd } },
    };
    // JSON is YAML.
    const file = join(slot.folder, "registry.yml");
    writeFileSync(file, JSON.stringify(configuration));
    const log = join(slot.folder, "registry.log");
    const argv = ["docker-registry", "serve", file];
    const pid = await startDaemon({ argv, environment: await toolsEnvironment(), log });
    await rememberProcess(slot, pid);
    const answers = await poll({ seconds: startWithinSeconds }, async () => {
      const reply = await fetch(`https://${address}/v2/`, { tls: { ca: readFileSync(caFile) } }).catch(() => undefined);
      return reply?.status === 401 || undefined;
    });
    if (!answers) {
      const details = readFileSync(log, "utf8");
      throw new Failure("Cannot start a registry", "it does not answer", [`ss -ltn src ${slot.address}`], { details });
    }
    // The one place where an engine looks for authorities of one registry; it needs no restart.
    const trusted = `/etc/docker/certs.d/${address}`;
    rememberFolder(slot, trusted);
    mkdirSync(trusted, { recursive: true });
    writeFileSync(join(trusted, "ca.crt"), readFileSync(caFile));
    const environment = await loggedIn(slot.folder, address, `${user}:${password}`);
    describeSlot(slot, { address, "logged in": `DOCKER_CONFIG=${environment.DOCKER_CONFIG}` });
    return {
      ...{ address, user, password, caFile, environment },
      async trustedBy(server) {
        const script = `mkdir -p '${trusted}' && cat >'${trusted}/ca.crt' <<'END'\n${readFileSync(caFile, "utf8")}END\n`;
        await server.ssh(script, { user: "root" });
      },
      pause: () => void process.kill(pid, "SIGSTOP"),
      resume: () => void process.kill(pid, "SIGCONT"),
      stop: () => releaseSlot(slot),
    };
  } catch (error) {
    await releaseSlot(slot);
    throw error;
  }
}

/** The engine's environment with a docker configuration of its own: the shared one must not learn this password. */
async function loggedIn(folder: string, address: string, credentials: string): Promise<Record<string, string>> {
  const { environment } = await startEngine();
  const configuration = join(folder, "docker-config");
  mkdirSync(configuration);
  const auths = { [address]: { auth: Buffer.from(credentials).toString("base64") } };
  writeFileSync(join(configuration, "config.json"), JSON.stringify({ auths }), { mode: 0o600 });
  const plugins = join(environment.DOCKER_CONFIG ?? join(process.env.HOME ?? "/root", ".docker"), "cli-plugins");
  if (existsSync(plugins)) symlinkSync(plugins, join(configuration, "cli-plugins"));
  return { ...environment, DOCKER_CONFIG: configuration };
}
