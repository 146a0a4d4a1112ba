// A scaffolded project that can be deployed to a lab server, as a user has it on disk, and what has to be on the server before.
//
//   const [server, registry] = await Promise.all([startServer({ kind: "docker", withImages: true }), startRegistry()]);
//   const project = await createDeployProject({ server, registry, config: { deploy: { bakeSeconds: 1 } } });
//   const a1 = await project.buildApp({ release: "a1" });                       // test/lab/deploy-app.ts has the behaviours
//   const { stdout } = await project.run("deploy", ["--image", a1.pinned, "--yes", "--json"], { accept: [0, 1] });
//   const deploy = await project.start("deploy", ["--image", a1.pinned, "--yes"], { onLine: (line) => … });
//   const load = await startLoad({ ...project.target, requestsPerSecond: 500 });  // test/lab/load.ts
//   expect((await project.ask("/")).release).toBe("a1");
//   await project.remove();  await server.stop();  await registry.stop();
//
// What is where: dbops.config.ts and .env.tpl ask provider "env" (secret://NAME; the values are in project.secrets and, for
// run() and start(), in the environment); known_hosts has the server's key; /opt/NAME on the server belongs to deploy and has a
// certificate; nginx' limits are raised, because all load comes from one address. The environment of run() and start() knows
// ssh, DBOPS_SSH_KEY_FILE, and a docker that is logged in to the registry. Nothing has been deployed, nobody has logged in there.
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Config } from "../../scripts/lib/config.ts";
import { type Command, type Result, type Running, run, start } from "../../scripts/lib/run.ts";
import { makeCertificate } from "./certificate.ts";
import { type Behaviour, buildApp, buildStarter, type PushedImage } from "./deploy-app.ts";
import { type Answer, askOnce, type Target } from "./load/connection.ts";
import { linkPackages, writeProjectFiles } from "./project-files.ts";
import type { Registry } from "./registry.ts";
import { programs } from "./repository.ts";
import type { Server } from "./server.ts";

type Options = {
  server: Server;
  registry: Registry;
  /** The project, its Compose project, its folder below /opt and its images. */
  name?: string;
  domain?: string;
  /** Over the shipped dbops.config.ts, its outermost keys as they are; "env" is the provider if nothing is said. */
  config?: Partial<Config>;
  /** Over the random values of what .env.tpl refers to. Any other name is added to .env.tpl as well. */
  secrets?: Readonly<Record<string, string>>;
};

export type DeployProject = {
  directory: string;
  name: string;
  domain: string;
  /** "10.x.y.z:5000/NAME", as in dbops.config.ts. */
  image: string;
  /** On the server: "/opt/NAME". */
  folder: string;
  /** "https://DOMAIN". No DNS knows the name: ask() and the load go to the server's address. */
  url: string;
  /** The authority of the server's certificate, as text. */
  ca: string;
  /** For startLoad(), openWebsocket() and slowRequest(). */
  target: Target;
  /** What stands behind secret://NAME. */
  secrets: Readonly<Record<string, string>>;
  /** Of run() and start(), over this process's own. */
  environment: Readonly<Record<string, string>>;
  /** One verb to its end, within 300 s if nothing else is said. */
  run(verb: string, words?: readonly string[], options?: RunOptions): Promise<Result>;
  /** The same, to interrupt or kill it. It has a process group of its own. */
  start(verb: string, words?: readonly string[], options?: StartOptions): Promise<Running>;
  buildApp(wanted: { release: string; behaviour?: Behaviour; amount?: number }): Promise<PushedImage>;
  buildStarter(wanted: { release: string }): Promise<PushedImage>;
  /** One request over TLS on a connection of its own. */
  ask(path: string, options?: { method?: string; body?: string; headers?: Record<string, string> }): Promise<Answer>;
  /** Adds or replaces a file of the project. */
  write(path: string, text: string): Promise<void>;
  /** Reads a file of the project, changes it, writes it. A change that changes nothing is an error. */
  edit(path: string, change: (text: string) => string): Promise<void>;
  /** Replaces outermost keys of dbops.config.ts. */
  configure(changes: Partial<Config>): Promise<void>;
  /** Empties the server: containers, volumes, networks, the project's images and its folder; then as before the first deploy. */
  resetServer(): Promise<void>;
  /** The directory. The server goes with its own stop(). Harmless on repetition. */
  remove(): Promise<void>;
};

type RunOptions = Pick<Command, "accept" | "timeoutSeconds" | "environment" | "stdin">;
type StartOptions = Pick<Parameters<typeof start>[0], "onLine" | "environment">;

export async function createDeployProject(options: Options): Promise<DeployProject> {
  const { server, registry, name = "shop", domain = `${name}.test` } = options;
  const [image, folder] = [`${registry.address}/${name}`, `/opt/${name}`];
  const answers = { name, domain, image, server: `deploy@${server.address}` };
  const { directory, write } = await writeProjectFiles(answers);
  await linkPackages(directory);
  const read = (path: string) => readFile(join(directory, path), "utf8");
  const edit = async (path: string, change: (text: string) => string) => {
    const before = await read(path);
    const after = change(before);
    if (after === before) throw new Error(`${path} has not been changed`);
    await write(path, after);
  };

  const template = withOurReferences(await read(".env.tpl"), Object.keys(options.secrets ?? {}));
  await write(".env.tpl", template.text);
  const secrets: Record<string, string> = Object.fromEntries(template.names.map((one) => [one, randomValue()]));
  Object.assign(secrets, options.secrets);

  await write("known_hosts", `${server.address} ${server.hostKey}\n`);
  await edit("nginx/shared/limits.conf", (text) => text.replace("rate=50r/s", "rate=5000r/s"));
  await edit("nginx/shared/app.conf", (text) =>
    text.replace("burst=100 ", "burst=5000 ").replace("limit_conn connections 100;", "limit_conn connections 5000;"),
  );
  const config = (await import(join(directory, "dbops.config.ts"))).default as Config;
  const configure = async (changes: Partial<Config>) => {
    Object.assign(config, changes);
    await write("dbops.config.ts", configText(config));
  };
  await configure({ secrets: { provider: "env" }, ...options.config });

  await registry.trustedBy(server);
  const certificate = await readCertificate([domain, server.address]);
  const prepareServer = () => server.ssh(preparation(folder, certificate), { user: "root" });
  await prepareServer();

  const target: Target = { address: server.address, port: 443, name: domain, ca: certificate.ca };
  const environment = {
    ...registry.environment,
    PATH: [programs, server.environment.PATH, registry.environment.PATH ?? process.env.PATH].join(":"),
    DBOPS_SSH_KEY_FILE: server.privateKeyFile,
    ...secrets,
  };
  const command = (verb: string, words: readonly string[]) => ["bun", `scripts/${verb}.ts`, ...words];
  return {
    ...{ directory, name, domain, image, folder, target, secrets, environment, write, edit, configure },
    url: `https://${domain}`,
    ca: certificate.ca,
    run: (verb, words = [], { environment: more, ...rest } = {}) =>
      run({
        argv: command(verb, words),
        directory,
        environment: { ...environment, ...more },
        timeoutSeconds: 300,
        ...rest,
      }),
    start: (verb, words = [], { environment: more, onLine = () => {} } = {}) =>
      start({
        argv: command(verb, words),
        directory,
        environment: { ...environment, ...more },
        onLine,
        ownGroup: true,
      }),
    buildApp: (wanted) => buildApp({ registry, name, ...wanted }),
    buildStarter: (wanted) => buildStarter({ registry, name, directory, ...wanted }),
    ask: (path, request = {}) => askOnce(target, { method: "GET", path, ...request }),
    async resetServer() {
      await server.ssh(clearing(name, image, folder), { user: "root", timeoutSeconds: 180 });
      await prepareServer();
    },
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}

const randomValue = () => randomBytes(18).toString("base64url");

/** Every reference of the shipped template becomes secret://ITS-NAME; further names get a line each. */
function withOurReferences(template: string, further: readonly string[]): { text: string; names: string[] } {
  const reference = /^([A-Z_]+)=(['"]?)op:\/\/.*$/gm;
  const found = [...template.matchAll(reference)].map(([, name]) => name!);
  const added = further.filter((name) => !found.includes(name));
  const lines = added.map((name) => `${name}='secret://${name}'\n`).join("");
  return { text: template.replace(reference, "$1='secret://$1'") + lines, names: found };
}

function configText(config: Config): string {
  const type = 'import type { Config } from "./scripts/lib/config.ts";';
  return `${type}\n\nexport default ${JSON.stringify(config, null, 2)} satisfies Config;\n`;
}

type CertificateTexts = { ca: string; certificate: string; key: string };

async function readCertificate(names: readonly string[]): Promise<CertificateTexts> {
  const folder = await mkdtemp(join(tmpdir(), "dbops-certificate-"));
  try {
    const files = await makeCertificate(folder, names);
    const [ca, certificate, key] = await Promise.all(
      [files.caFile, files.certificateFile, files.keyFile].map((file) => readFile(file, "utf8")),
    );
    return { ca: ca!, certificate: certificate!, key: key! };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** As `provision` and certbot leave a server: the folder belongs to deploy, the certificate to nginx, who is uid 101. */
function preparation(folder: string, { certificate, key }: CertificateTexts): string {
  return `set -e
install -d -o deploy -g deploy -m 0755 '${folder}' '${folder}/certificates'
cd '${folder}/certificates'
cat >fullchain.pem <<'END'
${certificate}END
(umask 077; cat >privkey.pem) <<'END'
${key}END
chown 101:101 fullchain.pem privkey.pem
`;
}

/** What Compose has made, by its label: the files that describe it may be broken. */
function clearing(name: string, image: string, folder: string): string {
  const label = `--filter label=com.docker.compose.project=${name}`;
  return `set -e
docker ps --all --quiet ${label} | xargs --no-run-if-empty docker rm --force --volumes
docker network ls --quiet ${label} | xargs --no-run-if-empty docker network rm
docker volume ls --quiet ${label} | xargs --no-run-if-empty docker volume rm
docker image ls --quiet '${image}' | sort --unique | xargs --no-run-if-empty docker image rm --force
rm -rf '${folder}'
`;
}
