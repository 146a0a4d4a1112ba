// Uploads so many MiB that a program writes, in a process of its own, and prints how much memory that took at most.
//   echo '{"endpoint": …, "accessKeyId": …, "secretAccessKey": …}' | bun test/lab/s3-memory.ts 400
import { parseConfig } from "../../scripts/lib/config.ts";
import { flow } from "../../scripts/lib/flow.ts";
import { openStore } from "../../scripts/lib/s3.ts";

const { endpoint, ...credentials } = JSON.parse(await Bun.stdin.text());
const { backup } = parseConfig({
  name: "shop",
  database: "shop",
  app: { command: ["bun"], port: 3000 },
  schema: { criticalTables: [], extensions: [] },
  environments: { local: {} },
  backup: { bucket: "backups", endpoint },
});
let peak = 0;
const timer = setInterval(() => {
  peak = Math.max(peak, process.memoryUsage().rss);
}, 10);
const store = await openStore(backup!, credentials);
const argv = ["head", "--bytes", `${process.argv[2]}M`, "/dev/zero"];
const { bytes } = await store.put("memory", flow([{ name: "head", argv }]).output);
clearInterval(timer);
await store.remove(["memory"]);
store.close();
console.log(JSON.stringify({ bytes, peakMebibytes: Math.round(peak / 2 ** 20) }));
