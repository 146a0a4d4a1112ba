// What of the kit lands where in a project. Directories, not file lists: a new runbook page or verb comes along by
// itself. test/create-kit.test.ts fails for a file that neither `landing` nor `staysInTheKit` knows.
import { lstatSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Answers } from "./answers.ts";

export type KitFile = { path: string; text: string; executable: boolean };

/** The whole kit as text, files sorted by path. Embedded into dist/create-dbops.mjs. */
export type Payload = { version: string; files: readonly KitFile[] };

/** What --with adds, and the folder of the kit that brings it. An extra without files is not in this version. */
export const extras = {
  kubernetes: "templates/kubernetes/",
  ecs: "templates/ecs/",
  tenants: "migrations/tenants/",
} as const;

export type Extra = keyof typeof extras;

type Landing = {
  /** A file, or a folder when it ends with a slash. The first entry that matches counts. */
  from: string;
  to: string;
  /** Copied byte for byte, because nothing in it names the project. */
  verbatim?: true;
  when?: (answers: Answers) => boolean;
};

const starter = ({ app }: Answers) => app;
const asked = (extra: Extra) => (answers: Answers) => answers.with.includes(extra);

export const landing: readonly Landing[] = [
  { from: "compose/compose.yaml", to: "compose.yaml" },
  { from: "compose/", to: "compose/" },
  { from: "nginx/", to: "nginx/" },
  { from: "scripts/", to: "scripts/", verbatim: true },
  { from: "migrations/TEMPLATE.sql", to: "migrations/TEMPLATE.sql", verbatim: true },
  { from: "migrations/tenants/", to: "migrations/tenants/", verbatim: true, when: asked("tenants") },
  { from: "migrations/", to: "migrations/", verbatim: true, when: starter },
  { from: "docs/", to: "docs/" },
  { from: "templates/app/Dockerfile.deno", to: "app/Dockerfile", when: (a) => a.app && a.runtime === "deno" },
  { from: "templates/app/Dockerfile", to: "app/Dockerfile", when: (a) => a.app && a.runtime === "bun" },
  { from: "templates/app/", to: "app/", when: starter },
  { from: "templates/migrations/", to: "migrations/", verbatim: true, when: (answers) => !answers.app },
  { from: "templates/kubernetes/", to: "kubernetes/", when: asked("kubernetes") },
  { from: "templates/ecs/", to: "ecs/", when: asked("ecs") },
  { from: "templates/github/", to: ".github/" },
  // npm leaves a real .gitignore out of every package, so the dot is added here.
  { from: "templates/gitignore", to: ".gitignore", verbatim: true },
  { from: "templates/dockerignore", to: ".dockerignore", verbatim: true },
  { from: "templates/env.tpl", to: ".env.tpl" },
  { from: "templates/agents.md", to: "AGENTS.md" },
  { from: "templates/package.json", to: "package.json" },
  { from: "templates/deno.json", to: "deno.json" },
  { from: "templates/bunfig.toml", to: "bunfig.toml", verbatim: true },
  { from: "templates/dbops.config.ts", to: "dbops.config.ts" },
];

/** The kit's own: how it is built, tested and explained. Comes before `landing`. */
export const staysInTheKit: readonly string[] = [
  ".ci/",
  ".github/",
  ".gitignore",
  ".npmrc",
  "LICENSE",
  "README.md",
  "biome.json",
  "bunfig.toml",
  "create/",
  "deno.json",
  "docs/architecture.md",
  "docs/images/",
  "package-lock.json",
  "package.json",
  "test/",
  "tsconfig.json",
];

export const isUnder = (path: string, from: string) => (from.endsWith("/") ? path.startsWith(from) : path === from);

/** Nothing for what stays in the kit, or is unknown. */
export function landingOf(path: string): Landing | undefined {
  if (staysInTheKit.some((from) => isUnder(path, from))) return undefined;
  return landing.find(({ from }) => isUnder(path, from));
}

/** Extras that this payload holds. */
export function extrasIn(payload: Payload): Extra[] {
  const names = Object.keys(extras) as Extra[];
  return names.filter((name) => payload.files.some(({ path }) => isUnder(path, extras[name])));
}

/** Reads the kit from a checkout. @throws on a file that is not text: the bundle holds text only. */
export function readKit(root: string): Payload {
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const folders = new Set(landing.map(({ from }) => from.split("/")[0]!));
  const paths = [...folders].flatMap((folder) => filesBelow(root, folder)).filter(landingOf);
  return { version, files: paths.sort().map((path) => readKitFile(root, path)) };
}

function filesBelow(root: string, folder: string): string[] {
  const entries = readdirSync(join(root, folder), { withFileTypes: true });
  return entries.flatMap((entry) => {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) return filesBelow(root, path);
    return entry.name === ".DS_Store" || entry.name.endsWith("~") ? [] : [path];
  });
}

function readKitFile(root: string, path: string): KitFile {
  const bytes = readFileSync(join(root, path));
  const text = bytes.toString("utf8");
  if (!Buffer.from(text).equals(bytes)) throw new Error(`"${path}" is not UTF-8 text, the payload holds text only`);
  return { path, text, executable: (lstatSync(join(root, path)).mode & 0o100) !== 0 };
}
