// What a deploy has left on a lab server: for tests that say "as before, and nothing else".
//   const before = await lookAt(server, project);   …   expect((await lookAt(server, project)).traces).toEqual(before.traces);
import { parseRecords, type Release } from "../../scripts/lib/release.ts";
import { poll } from "../../scripts/lib/wait.ts";
import type { DeployProject } from "./deploy-project.ts";
import type { Server } from "./server.ts";

export type Traces = {
  /** "app-blue running", by name. Stopped ones too. */
  containers: readonly string[];
  /** Folders of releases, and what was not tidied up beside them. */
  releases: readonly string[];
  /** "PATH MODE HASH" of each file of the project, without its releases, its lock and its records. */
  files: readonly string[];
  /** What nginx says. */
  serving: readonly string[];
  /** Anything of a session: its folder in memory, its process, a login of Docker's. */
  sessions: readonly string[];
};

export type Look = {
  traces: Traces;
  /** The lines of releases.jsonl, oldest first. */
  records: Release[];
};

/** Once no session is left: the server's end of one goes a moment after its client. */
export async function lookAt(server: Server, project: DeployProject): Promise<Look> {
  let look = await lookNow(server, project);
  await poll({ seconds: 10 }, async () => {
    if (look.traces.sessions.length === 0) return true;
    look = await lookNow(server, project);
    return undefined;
  });
  return look;
}

/** The records alone. */
export async function recordsOn(server: Server, { folder }: DeployProject): Promise<Release[]> {
  return readRecords(
    (await server.ssh(`[ ! -e '${folder}/releases.jsonl' ] || cat '${folder}/releases.jsonl'`)).stdout,
  );
}

/** @throws where a line cannot be read. */
function readRecords(text: string): Release[] {
  const records = parseRecords(text);
  if (records.length !== text.split("\n").filter(Boolean).length)
    throw new Error(`releases.jsonl cannot be read:\n${text}`);
  return records;
}

async function lookNow(server: Server, { folder, name }: DeployProject): Promise<Look> {
  const label = "com.docker.compose";
  const notItself = folder.replace(/.$/, "[$&]");
  const script = `cd '${folder}'
docker ps --all --filter label=${label}.project=${name} --format '{{.Label "${label}.service"}} {{.State}}' | sort | sed 's/^/containers /'
[ ! -e releases ] || ls -A releases | sort --numeric-sort | sed 's/^/releases /'
kept() { find . -type f ! -path './releases/*' ! -path './certificates/*' ! -name 'lock*' ! -name releases.jsonl "$@"; }
join -j 2 <(kept -printf '%m %p\\n' | sort --key=2) <(kept -exec sha256sum {} + | sort --key=2) | sed 's/^/files /'
nginx=$(docker ps --quiet --filter label=${label}.project=${name} --filter label=${label}.service=nginx)
[ -z "$nginx" ] || docker exec "$nginx" wget -q -O - http://127.0.0.1:8081/release | sed 's/^/serving /'
ls -d /dev/shm/dbops.* /tmp/tmp.* ~/.docker/config.json 2>/dev/null | sed 's/^/sessions /'
grep --null-data --line-regexp --files-with-matches '${notItself}' /proc/[0-9]*/cmdline 2>/dev/null | sed 's/^/sessions /'
[ ! -e releases.jsonl ] || sed 's/^/records /' releases.jsonl`;
  const lines = (await server.ssh(script)).stdout.split("\n").filter(Boolean);
  const all = (what: string) =>
    lines.flatMap((line) => (line.startsWith(`${what} `) ? [line.slice(what.length + 1)] : []));
  const [containers, releases, files] = [all("containers"), all("releases"), all("files")];
  const traces = { containers, releases, files, serving: all("serving"), sessions: all("sessions") };
  return { traces, records: readRecords(all("records").join("\n")) };
}

/** Of what a verb wrote to stderr, the failure: all that follows the last line of its progress and of its plan. */
export function failureIn(stderr: string): string {
  const lines = stderr.trimEnd().split("\n");
  const last = lines.findLastIndex((line) => /^( {2}(done {2}|FAILED) |==> | {9}\S)/.test(line));
  const end = lines.slice(last + 1).findIndex((line) => !/^ {2}\w+ {2,}|^ {2}DOWNTIME|^ {2}warning/.test(line));
  return lines.slice(last + 1 + Math.max(end, 0)).join("\n");
}
