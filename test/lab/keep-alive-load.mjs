// Clients that hold their connection and ask as fast as they can. Told `connection: close`, a client goes on with the
// other server, as nginx does after a deploy has switched it over. Ends when all clients have had 50 answers there.
// A program for Node, because Bun's own HTTP client silently repeats a request whose connection was cut.
//   node keep-alive-load.mjs PORT OTHER_PORT CLIENTS      prints {"answered":N,"failed":{"why":N}} as one line
import { Agent, request } from "node:http";

const [port, otherPort, clients] = process.argv.slice(2).map(Number);
const paths = ["/", "/accounts", "/health"];
const failed = {};
let answered = 0;

function ask(agent, port, path) {
  return new Promise((resolve) => {
    const asked = request({ host: "127.0.0.1", port, path, agent }, (response) => {
      const { statusCode, headers } = response;
      response.on("error", (error) => resolve({ why: `cut off: ${error.code}` }));
      response.resume().on("end", () => resolve(statusCode === 200 ? headers : { why: `code ${statusCode}` }));
    });
    asked.on("error", ({ code }) => resolve({ why: `${asked.reusedSocket ? "held" : "new"} connection: ${code}` }));
    asked.setTimeout(5000, () => asked.destroy(Object.assign(new Error(), { code: "no answer in 5 s" })));
    asked.end();
  });
}

async function client() {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  let server = port;
  let answersThere = 0;
  for (let turn = 0; answersThere < 50; turn++) {
    const { why, connection } = await ask(agent, server, paths[turn % paths.length]);
    if (why) failed[why] = (failed[why] ?? 0) + 1;
    else answered++;
    if (server === otherPort) answersThere++;
    if (connection === "close" || why) server = otherPort;
  }
  agent.destroy();
}

// Bounded, should the first server never stop.
setTimeout(() => process.exit(2), 30_000).unref();
await Promise.all(Array.from({ length: clients }, client));
console.log(JSON.stringify({ answered, failed }));
