// Builds dist/create-dbops.mjs: scaffolder and kit in one file for Node 20, Bun and Deno, without dependencies.
//   npm run build
import { chmodSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { readKit } from "./kit.ts";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const kit = readKit(root);

// JSON inside a string: parsed when the kit is needed, and faster than the same thing as a JavaScript literal.
const entry = `
import { reportAndExit } from "../scripts/lib/failure.ts";
import { create } from "./create.ts";
const kit = () => JSON.parse(${JSON.stringify(JSON.stringify(kit))});
await create(process.argv.slice(2), kit).catch(reportAndExit);
`;
const entryPath = join(root, "create", "entry.ts");
const built = await Bun.build({
  entrypoints: [entryPath],
  files: { [entryPath]: entry },
  target: "node",
  format: "esm",
  banner: "#!/usr/bin/env node",
  minify: { whitespace: true, syntax: true },
  // run() is the only user of zx, and the scaffolder starts its programs with start().
  external: ["zx"],
});

const file = join(root, "dist", "create-dbops.mjs");
mkdirSync(dirname(file), { recursive: true });
// Renamed into place: tests that run beside each other build it, and nobody may read half of it.
const temporary = `${file}.${process.pid}`;
writeFileSync(temporary, await built.outputs[0]!.text());
chmodSync(temporary, 0o755);
renameSync(temporary, file);
console.error(`dist/create-dbops.mjs: ${kit.files.length} files of the kit, version ${kit.version}`);
