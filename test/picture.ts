// Draws docs/images/first-run.svg, the README's picture: what the commands print today, nothing typed by hand.
// Run it: bun test/picture.ts      (brings up the lab's engine when none answers)
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "../scripts/lib/run.ts";
import { runIfMain } from "../scripts/lib/verb.ts";
import { startEngine } from "./lab/engine.ts";
import { ensureImages } from "./lab/images.ts";
import { repository } from "./lab/repository.ts";
import { cleanEnvironment, packScaffolder } from "./lab/scaffolder.ts";

const columns = 112;
const lineHeight = 19;

/** As typed by a person, and how it is run here. `cut` keeps the lines that say something. */
const scenes = [
  { typed: "npx create-dbops my-app --yes", shell: 'node "$SCAFFOLDER" my-app --yes --no-install', directory: "." },
  {
    typed: "cd my-app && docker compose up --detach --wait",
    shell: "docker compose up --detach --wait",
    directory: "my-app",
  },
  {
    typed: "docker compose ps",
    shell: "docker compose ps --format 'table {{.Service}}\\t{{.Status}}\\t{{.Image}}'",
    directory: "my-app",
  },
  {
    typed: "curl localhost:8080/health/database",
    shell: "curl -s localhost:8080/health/database",
    directory: "my-app",
  },
];

async function main(): Promise<void> {
  const [scaffolder, engine] = await Promise.all([packScaffolder(), startEngine()]);
  await ensureImages(engine);
  const directory = scaffolder.folder();
  const environment = cleanEnvironment({ ...engine.environment, SCAFFOLDER: scaffolder.program });
  const lines: string[] = [];
  try {
    for (const scene of scenes) {
      const { stdout, stderr } = await run({
        argv: ["sh", "-c", scene.shell],
        directory: join(directory, scene.directory),
        environment,
        timeoutSeconds: 300,
      });
      const printed = (stdout + stderr).replaceAll(directory, "~").trimEnd().split("\n");
      lines.push(`$ ${scene.typed}`, ...new Set(printed.filter(isTelling).flatMap(wrap)), "");
    }
  } finally {
    const down = ["docker", "compose", "down", "--volumes", "--rmi", "local"];
    await run({
      argv: down,
      directory: join(directory, "my-app"),
      environment,
      timeoutSeconds: 120,
    });
    scaffolder.remove();
  }
  const file = join(repository, "docs", "images", "first-run.svg");
  await mkdir(join(file, ".."), { recursive: true });
  await writeFile(file, draw(lines));
  console.log(file);
}

/** Of Compose's progress only how each part ended, not the steps on the way, and nothing of the image's build. */
const isTelling = (line: string) =>
  line.trim() !== "" && !/^ ?(#\d+|Image|Network|Volume|Container .* (Creat|Start|Wait)|(my-)?app .*Buil)/.test(line);

function wrap(line: string): string[] {
  return line.match(new RegExp(`.{1,${columns - 2}}`, "g")) ?? [""];
}

function draw(lines: readonly string[]): string {
  const height = lines.length * lineHeight + 28;
  const escaped = (text: string) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const rows = lines.map((line, index) => {
    const color = line.startsWith("$ ") ? "#7ee787" : "#d1d7e0";
    return `<text x="16" y="${(index + 1) * lineHeight + 10}" fill="${color}" xml:space="preserve">${escaped(line)}</text>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${columns * 8} ${height}" font-family="ui-monospace, Menlo, Consolas, monospace" font-size="13">`,
    "<title>What the first commands print</title>",
    `<rect width="100%" height="100%" rx="8" fill="#0d1117"/>`,
    ...rows,
    "</svg>\n",
  ].join("\n");
}

await runIfMain(import.meta, main);
