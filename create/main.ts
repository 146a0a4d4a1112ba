// The scaffolder from a checkout of the kit, with the files as they lie there: bun create/main.ts my-app
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { runIfMain } from "../scripts/lib/verb.ts";
import { create } from "./create.ts";
import { readKit } from "./kit.ts";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

await runIfMain(import.meta, (argv) => create(argv, () => readKit(root)));
