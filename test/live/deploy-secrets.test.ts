// Where a secret can be seen during a deploy and after it: in the containers that need it, and in the .env files that only their
// owner may read. Not in any command line, output, record, or other file.
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { formsOf } from "../../scripts/lib/redact.ts";
import { run } from "../../scripts/lib/run.ts";
import { watchArgv } from "../lab/argv-watch.ts";
import { loginTo, runDeploy, type Scene, startDeploy, startScene } from "../lab/interrupted-deploy.ts";

let scene: Scene;
/** By name, STRIPE_KEY among them, which no container asks for. */
let secrets: Record<string, string>;
let forms: string[];
beforeAll(async () => {
  scene = await startScene({
    config: { deploy: { bakeSeconds: 1 } },
    secrets: { POSTGRES_PASSWORD: `its $HOME "q" \\ %41 ü #@/:?&=;|<>*`, STRIPE_KEY: "sk_live_0123456789abcdef" },
  });
  secrets = { ...scene.project.secrets, REGISTRY_PASSWORD: scene.registry.password };
  forms = formsOf(Object.values(secrets));
}, 300_000);
afterAll(() => scene?.stop());

/** Which secrets a text has in it, in any form. */
const namesIn = (text: string) =>
  Object.keys(secrets).filter((name) => formsOf([secrets[name]!]).some((form) => text.includes(form)));

/** All that Docker tells about its containers, by service; images, networks and volumes under "other". */
async function inspected(): Promise<Record<string, string[]>> {
  const kinds = ["container", "image", "network", "volume"];
  const script = kinds.map((kind) => `docker ${kind} inspect $(docker ${kind} ls --quiet); echo; echo ====`).join("\n");
  const all = `${script.replace("container ls", "container ls --all")}\ndocker info`;
  const [containers, ...other] = (await scene.server.ssh(all, { user: "root" })).stdout.split("====\n");
  const byService = (JSON.parse(containers!) as { Config: { Labels: Record<string, string> } }[]).map(
    (one) => [one.Config.Labels["com.docker.compose.service"], namesIn(JSON.stringify(one))] as const,
  );
  return { ...Object.fromEntries(byService), other: namesIn(other.join("")) };
}

/** Files with a secret in them, wherever a deploy could have left one: "600 deploy PATH". The engine's own are the engine's. */
async function filesWithSecrets(): Promise<string[]> {
  const places = "/opt /tmp /var/tmp /dev/shm /home /root /etc /run /var/log /var/spool";
  const engine = "--exclude-dir=docker --exclude-dir=containerd";
  // The values go in through stdin; a NUL is in no argument either.
  const script = `grep --recursive --files-with-matches --fixed-strings --devices=skip ${engine} --file=- ${places} <<'END' |
${forms.join("\n")}
END
  xargs --no-run-if-empty stat --format='%a %U %n'`;
  const { stdout } = await scene.server.ssh(script, { user: "root", accept: [0, 1, 2] });
  return stdout.split("\n").filter(Boolean).sort();
}

const app = ["POSTGRES_PASSWORD", "HEALTH_TOKEN"];
const inOrder = (names: readonly string[]) => Object.keys(secrets).filter((name) => names.includes(name));

test("a first deploy and a second one show no secret to anybody", async () => {
  const { project, server, images } = scene;
  const text = "-- migrate:up\nselect pg_sleep(3);\n\n-- migrate:down\nselect 1;\n";
  await project.write("migrations/20990101000000_slow.sql", text);
  const watch = await watchArgv(forms);

  const first = await startDeploy(scene, images[0]!);
  await first.until("services");
  await server.ssh("until docker ps | grep --quiet migrations-run; do sleep 0.1; done");
  expect(await inspected()).toEqual({
    postgres: ["POSTGRES_PASSWORD"],
    migrations: ["POSTGRES_PASSWORD"],
    nginx: [],
    other: [],
  });
  const end = await first.end();
  const second = await runDeploy(scene, images[1]!);
  expect([end.exitCode, second.exitCode]).toEqual([0, 0]);
  // That a secret in a command line would have been found.
  await run({ argv: ["sh", "-c", "sleep 0.3", secrets.HEALTH_TOKEN!] });
  const { found, seen, rounds } = await watch.stop();
  console.log(`${seen.length} command lines seen, all processes looked at ${rounds} times`);
  const control = `sh -c sleep 0.3 ${secrets.HEALTH_TOKEN} `;
  // Its parent, caught between its fork and its exec, shows the same words as it quotes them.
  const isControl = (line: string) => line.replaceAll(/\$?'/g, "").endsWith(control);
  expect(found).toContain(control);
  expect(found.filter((line) => !isControl(line))).toEqual([]);

  for (const program of [
    /^bash -s -- /,
    /^docker .*compose .* run /,
    /^docker login /,
    /^docker exec /,
    /ssh .*deploy@/,
  ]) {
    expect(seen.filter((line) => program.test(line))).not.toEqual([]);
  }
  expect(namesIn([end.stdout, end.stderr, second.stdout, second.stderr].join("\n"))).toEqual([]);
  expect(await inspected()).toEqual({
    postgres: ["POSTGRES_PASSWORD"],
    "app-blue": inOrder(app),
    "app-green": inOrder(app),
    nginx: [],
    other: [],
  });
  expect(await filesWithSecrets()).toEqual([
    "600 deploy /opt/shop/.env",
    "600 deploy /opt/shop/releases/1/.env",
    "600 deploy /opt/shop/releases/2/.env",
  ]);
}, 180_000);

describe("a deploy that fails, because the app prints its whole environment and ends", () => {
  test.each([
    { where: "for people", words: [], environment: {} },
    { where: "to people who want to know where it happened", words: [], environment: { DBOPS_VERBOSE: "1" } },
    { where: "in GitHub Actions, as one document", words: ["--json"], environment: { GITHUB_ACTIONS: "true" } },
  ])(
    "shows no secret $where",
    async ({ words, environment }) => {
      const { project, registry } = scene;
      const image = await project.buildApp({ release: "tells-all", behaviour: "prints-environment" });
      const result = await project.run("deploy", ["--image", image.pinned, ...words], {
        accept: [1],
        environment: { ...loginTo(registry), ...environment },
      });
      const evidence = words.length > 0 ? JSON.parse(result.stdout).error.details : result.stderr;
      expect(evidence).toContain("PGPASSWORD=[secret]\n");
      expect(evidence).toMatch(/DATABASE_URL=postgres:\/\/\w+:\[secret\]@postgres:5432/);
      expect(evidence).toContain("HEALTH_TOKEN=[secret]\n");
      expect(result.stderr.includes("\ncaused by: ")).toBe("DBOPS_VERBOSE" in environment);

      const lines = result.stderr.split("\n");
      const masks = lines.filter((line) => line.startsWith("::add-mask::"));
      const rest = lines.slice(masks.length);
      // The runner obeys a line only for what comes after it.
      expect(rest.filter((line) => masks.includes(line))).toEqual([]);
      expect(namesIn([result.stdout, ...rest].join("\n"))).toEqual([]);
      const isGitHub = "GITHUB_ACTIONS" in environment;
      expect(namesIn(masks.join("\n").replaceAll("%25", "%"))).toEqual(isGitHub ? Object.keys(project.secrets) : []);
      expect((await filesWithSecrets()).filter((line) => !line.endsWith("/.env"))).toEqual([]);
    },
    120_000,
  );
});

test("a rollback, which does not ask for the secrets, hides the same ones, and nothing else", async () => {
  const { project, images, registry } = scene;
  const environment = { ...loginTo(registry), GITHUB_ACTIONS: "true" };
  const masksIn = (text: string) => text.split("\n").filter((line) => line.startsWith("::add-mask::"));
  const deploy = await project.run("deploy", ["--image", images[1]!.pinned, "--plan"], { environment });
  const rollback = await project.run("rollback", [], { environment });
  const masks = masksIn(rollback.stderr);
  expect(new Set(masks)).toEqual(new Set(masksIn(deploy.stderr)));
  const rest = rollback.stderr.split("\n").filter((line) => !masks.includes(line));
  expect(namesIn([rollback.stdout, ...rest].join("\n"))).toEqual([]);
  expect(rollback.stdout + rollback.stderr).not.toContain("[secret]");
}, 120_000);

test("a password that the registry does not accept is not shown either", async () => {
  const { project, registry, server } = scene;
  const { pinned } = await project.buildApp({ release: "not-there-yet" });
  secrets.REGISTRY_PASSWORD = "wrong-but-still-somebody's";
  forms = formsOf(Object.values(secrets));
  const environment = { ...loginTo(registry), DBOPS_REGISTRY_PASSWORD: secrets.REGISTRY_PASSWORD };
  const { stdout, stderr } = await project.run("deploy", ["--image", pinned], { accept: [1], environment });
  expect(stderr).toContain("the registry does not accept DBOPS_REGISTRY_USER and DBOPS_REGISTRY_PASSWORD");
  expect(namesIn(stdout + stderr)).toEqual([]);
  expect((await filesWithSecrets()).filter((line) => !line.endsWith("/.env"))).toEqual([]);
  expect((await server.ssh("ls -A ~ /dev/shm")).stdout).not.toContain("docker");
}, 120_000);
