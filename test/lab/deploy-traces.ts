// What a deploy has left on a lab server: for tests that say "as before, and nothing else".
//   const before = await tracesOn(server, project);   …   expect(await tracesOn(server, project)).toEqual(before);
import { parseRecords, type Release } from "../../scripts/lib/release.ts";
import { poll } from "../../scripts/lib/wait.ts";
import type { DeployProject } from "./deploy-project.ts";
import type { Server } from "./server.ts";

export type Traces = {
  /** "app-blue running", by name. Stopped ones too. */
  containers: readonly string[];
  /** Folders of releases, and what was not tidied up beside them. */
  releases: readonly string[];
  /** "HASH MODE PATH" of each file of the project, without its releases, its lock and its records. */
  files: readonly string[];
  /** What nginx says. */
  serving: string;
  /** Anything of a session: its folder in memory, its process, a login of Docker's. */
  sessions: readonly string[];
};

export async function tracesOn(server: Server, { folder, name }: DeployProject): Promise<Traces> {
  const script = `cd '${folder}'
echo containers
docker ps --all --filter label=com.docker.compose.project=${name} --format '{{.Label "com.docker.compose.service"}} {{.State}}' | sort
echo releases
ls -A releases 2>/dev/null | sort --numeric-sort
echo files
find . -type f ! -path './releases/*' ! -path './certificates/*' ! -name 'lock*' ! -name releases.jsonl -printf '%m %p\\n' |
  sort --key=2 | while read -r mode path; do echo "$(sha256sum <"$path" | cut -c 1-16) $mode $path"; done
echo serving
docker exec "$(docker ps --quiet --filter label=com.docker.compose.service=nginx)" wget -q -O - http://127.0.0.1:8081/release 2>/dev/null
echo sessions
ls -d /dev/shm/dbops.* /tmp/tmp.* ~/.docker/config.json 2>/dev/null
for process in /proc/[0-9]*; do tr '\\0' ' ' <"$process/cmdline" 2>/dev/null | grep -a -x "bash -s -- .* ${folder} ${name} "; done
exit 0`;
  const { stdout } = await server.ssh(script);
  const parts: Record<string, string[]> = {};
  const names = ["containers", "releases", "files", "serving", "sessions"];
  let current = "";
  for (const line of stdout.split("\n")) {
    if (names.includes(line)) {
      current = line;
      parts[current] = [];
    } else if (line) parts[current]!.push(line);
  }
  const { containers = [], releases = [], files = [], serving = [], sessions = [] } = parts;
  return { containers, releases, files, serving: serving.join("\n"), sessions };
}

/** The same once no session is left: the server's end of one goes a moment after its client. */
export async function tracesAtRest(server: Server, project: DeployProject): Promise<Traces> {
  let traces = await tracesOn(server, project);
  await poll({ seconds: 10 }, async () => {
    if (traces.sessions.length === 0) return true;
    traces = await tracesOn(server, project);
    return undefined;
  });
  return traces;
}

/** The lines of releases.jsonl, oldest first. One that cannot be read is an error here. */
export async function recordsOn(server: Server, { folder }: DeployProject): Promise<Release[]> {
  const { stdout } = await server.ssh(`[ ! -e '${folder}/releases.jsonl' ] || cat '${folder}/releases.jsonl'`);
  const records = parseRecords(stdout);
  if (records.length !== stdout.split("\n").length - 1) throw new Error(`releases.jsonl cannot be read:\n${stdout}`);
  return records;
}

/** Of what a verb wrote to stderr, the failure: all that follows the last line of its progress. */
export function failureIn(stderr: string): string {
  const lines = stderr.trimEnd().split("\n");
  const last = lines.findLastIndex((line) => /^( {2}(done {2}|FAILED) |==> | {9}\S)/.test(line));
  const end = lines.slice(last + 1).findIndex((line) => !/^ {2}\w+ {2,}|^ {2}DOWNTIME|^ {2}warning/.test(line));
  return lines.slice(last + 1 + Math.max(end, 0)).join("\n");
}
