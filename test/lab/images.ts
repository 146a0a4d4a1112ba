// The images that the kit uses, under their official names: pulled where a container registry answers, else stand-ins made of
// Debian's and npm's packages. Each stand-in's folder has a CONTRACT.md that says what it keeps of the official image.
import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { run } from "../../scripts/lib/run.ts";
import { cacheFolder, hashOf, step, whole } from "./cache.ts";
import type { Engine } from "./engine.ts";
import { bun } from "./images/bun/recipe.ts";
import { dbmate } from "./images/dbmate/recipe.ts";
import { deno } from "./images/deno/recipe.ts";
import { type ImageName, imageNames } from "./images/names.ts";
import { nginx } from "./images/nginx/recipe.ts";
import { postgres } from "./images/postgres/recipe.ts";
import { certificatesFile, hostCertificates, makeRoot, type Recipe, writeFile } from "./images/root.ts";
import { withLock } from "./process.ts";

export { type ImageName, imageNames };

/** How an image came to be in the engine. "official" was there already, or was pulled. */
export type ImageOrigin = "official" | "stand-in";

/** By the name of its folder in images/. */
const recipes = { postgres, nginx, dbmate, bun, deno } as const satisfies Record<keyof typeof imageNames, Recipe>;
type Folder = keyof typeof recipes;
const folders = Object.keys(recipes) as Folder[];

/** On every stand-in, with the key of its recipe: whoever lists images can tell them apart, and an outdated one is replaced. */
const label = "create-dbops.stand-in";

const registryWithinSeconds = 5;
const buildWithinSeconds = 900;

/** Makes images present in the engine. Images that are there stay, unless they are stand-ins of another recipe. */
export async function ensureImages(
  engine: Engine,
  names: readonly ImageName[] = Object.values(imageNames),
): Promise<Partial<Record<ImageName, ImageOrigin>>> {
  mkdirSync(cacheFolder("images"), { recursive: true });
  const wanted = folders.filter((folder) => names.includes(recipes[folder].image));
  const origins = wanted.map(async (folder) => {
    // One process at a time for each image: another may be making the same one.
    const lock = cacheFolder("images", `${folder}.lock`);
    return [recipes[folder].image, await withLock(lock, buildWithinSeconds, () => ensure(engine, folder))] as const;
  });
  return Object.fromEntries(await Promise.all(origins));
}

/** Which of the kit's images the engine has, and what they are. */
export async function observeImages(engine: Engine): Promise<Record<string, ImageOrigin | "outdated" | "missing">> {
  const states = folders.map(async (folder) => {
    const { image } = recipes[folder];
    const present = await inspect(engine, image);
    if (!present) return [image, "missing"];
    if (present.key === "") return [image, "official"];
    return [image, present.key === (await keyOf(folder)) ? "stand-in" : "outdated"];
  });
  return Object.fromEntries(await Promise.all(states));
}

async function ensure(engine: Engine, folder: Folder): Promise<ImageOrigin> {
  const recipe: Recipe = recipes[folder];
  const key = await keyOf(folder);
  const present = await inspect(engine, recipe.image);
  if (present?.key === "") return "official";
  if (present?.key === key) return "stand-in";
  if (!present && (await registryHas(engine, recipe.image))) {
    await step(`${recipe.image} pulled`, () => docker(engine, ["pull", "--quiet", recipe.image], buildWithinSeconds));
    return "official";
  }
  const archive = cacheFolder("images", `${folder}-${key}.tar`);
  await whole(archive, (temporary) => step(`${recipe.image} built from packages`, () => build(recipe, temporary)));
  removeOthers(folder, key);
  const changes = [...recipe.instructions, ...(await surroundings(recipe)), `LABEL ${label}=${key}`];
  const flags = changes.flatMap((change) => ["--change", change]);
  await step(`${recipe.image} loaded`, () => docker(engine, ["import", ...flags, archive, recipe.image], 300));
  // The one that was replaced has lost its name and would stay in the engine for ever, unless a container still uses it.
  if (present) await docker(engine, ["image", "rm", present.id], 60, [0, 1]);
  return "stand-in";
}

/** The image's id and, of a stand-in, its key; undefined if the engine has no such image. */
async function inspect(engine: Engine, image: ImageName): Promise<{ id: string; key: string } | undefined> {
  const format = `{{.Id}} {{with .Config.Labels}}{{index . "${label}"}}{{end}}`;
  const { exitCode, stdout } = await docker(engine, ["image", "inspect", "--format", format, image], 30, [0, 1]);
  const [id, key] = stdout.trim().split(" ");
  return exitCode === 0 && id ? { id, key: key ?? "" } : undefined;
}

/** Whether the image could be pulled. Without a registry the answer is no, within seconds. */
async function registryHas(engine: Engine, image: ImageName): Promise<boolean> {
  return docker(engine, ["manifest", "inspect", image], registryWithinSeconds).then(
    () => true,
    () => false,
  );
}

async function build(recipe: Recipe, archive: string): Promise<void> {
  const root = `${archive}.root`;
  try {
    const versions = await makeRoot(recipe, root);
    writeFile(root, "etc/create-dbops-stand-in", `${recipe.image}\n${versions.join("\n")}\n`, 0o644);
    const argv = ["tar", "--create", "--sort=name", "--numeric-owner", "--file", archive, "--directory", root, "."];
    await run({ argv, timeoutSeconds: 300 });
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

/** An archive of an earlier recipe is never loaded again. */
function removeOthers(folder: Folder, key: string): void {
  const archives = readdirSync(cacheFolder("images")).filter(
    (name) => name.startsWith(`${folder}-`) && name.endsWith(".tar"),
  );
  for (const name of archives.filter((other) => other !== `${folder}-${key}.tar`)) rmSync(cacheFolder("images", name));
}

/** Changes with everything that goes into the image except the packages' versions: a set that worked is kept. */
async function keyOf(folder: Folder): Promise<string> {
  const base = new URL("images/", import.meta.url).pathname;
  const filesIn = (path: string) =>
    readdirSync(path, { withFileTypes: true }).flatMap((entry) =>
      entry.isFile() && !entry.name.endsWith(".md") ? [entry.name, readFileSync(join(path, entry.name))] : [],
    );
  const parts = [process.arch, hostCertificates() ?? "", ...(await surroundings(recipes[folder]))];
  return hashOf(...parts, ...filesIn(base), ...filesIn(join(base, folder))).slice(0, 16);
}

let registry: Promise<string> | undefined;

/** What this machine's network asks of a package manager, as a Dockerfile's ENV lines. Found out here, written down nowhere. */
async function surroundings({ installsPackages }: Recipe): Promise<string[]> {
  if (!installsPackages) return [];
  registry ??= run({ argv: ["npm", "config", "get", "registry"], directory: "/" }).then(({ stdout }) => stdout.trim());
  const certificates = hostCertificates() ? ["SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "DENO_CERT"] : [];
  return [
    ...certificates.map((name) => `ENV ${name}=${certificatesFile}`),
    `ENV NPM_CONFIG_REGISTRY=${await registry}`,
  ];
}

function docker(engine: Engine, words: readonly string[], timeoutSeconds: number, accept: readonly number[] = [0]) {
  return run({ argv: ["docker", ...words], environment: engine.environment, timeoutSeconds, accept });
}
