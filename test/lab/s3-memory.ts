// Uploads so many MiB that a program writes, or downloads them for one that reads, in a process of its own, and prints how much memory
// that took at most.
//   echo '{"endpoint": …, "accessKeyId": …, "secretAccessKey": …}' | bun test/lab/s3-memory.ts up 400      # then: down 400
import { readFileSync } from "node:fs";
import { parseConfig } from "../../scripts/lib/config.ts";
import { flow } from "../../scripts/lib/flow.ts";
import { openStore } from "../../scripts/lib/s3.ts";

const [direction, mebibytes] = process.argv.slice(2);
const { endpoint, ...credentials } = JSON.parse(await Bun.stdin.text());
const { backup } = parseConfig({
  name: "shop",
  database: "shop",
  app: { command: ["bun"], port: 3000 },
  schema: { criticalTables: [], extensions: [] },
  environments: { local: {} },
  backup: { bucket: "backups", endpoint },
});
const store = await openStore(backup!, credentials);
const bytes = direction === "up" ? await up() : await down();
store.close();
const peakKibibytes = Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))![1]);
console.log(JSON.stringify({ bytes, peakMebibytes: Math.round(peakKibibytes / 1024) }));

async function up(): Promise<number> {
  const argv = ["head", "--bytes", `${mebibytes}M`, "/dev/zero"];
  return (await store.put("memory", flow([{ name: "head", argv }]).output)).bytes;
}

async function down(): Promise<number> {
  let counted = "";
  const { output } = flow([{ name: "wc", argv: ["wc", "--bytes"] }], { input: store.get("memory") });
  for await (const chunk of output) counted += chunk;
  await store.remove(["memory"]);
  return Number(counted);
}
