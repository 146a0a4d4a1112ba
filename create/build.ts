// Builds dist/create-dbops.mjs: scaffolder and kit in one file for Node 20, Bun and Deno, without dependencies.
//   npm run build
import { chmodSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants } from "node:zlib";
import { readKit } from "./kit.ts";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const kit = readKit(root);

// A third of the size, which everybody who makes a project downloads; unpacked when the kit is needed.
const packed = brotliCompressSync(JSON.stringify(kit), { params: { [constants.BROTLI_PARAM_LGWIN]: 24 } });
const entry = `
import { brotliDecompressSync } from "node:zlib";
import { reportAndExit } from "../scripts/lib/failure.ts";
import { create } from "./create.ts";
const kit = () => JSON.parse(brotliDecompressSync(Buffer.from("${packed.toString("base64")}", "base64")).toString());
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
