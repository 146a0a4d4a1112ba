// What is said when a step on the server has failed: in words what was to be done, and the reason where it can be told.
import { Failure } from "./failure.ts";
import type { Result } from "./run.ts";
import type { Call } from "./session.ts";

const filesOf = (release = "") => `keep the files of release ${release}`;
const askPostgres = () => "ask Postgres";

/** For "Cannot …": each function of lib/server/deploy.sh that is called, with its words. */
const purposes: Readonly<Record<string, (...words: string[]) => string>> = {
  observe: () => "see what is there",
  history: () => "read what was deployed",
  values_of: (release) => `read the values of release ${release}`,
  take_lock: () => "take the lock",
  keep_release: filesOf,
  complete_release: filesOf,
  prepare_revival: (release) => `prepare release ${release}`,
  pull: (image) => `pull ${image}`,
  describe_image: (image) => `ask Docker about ${image}`,
  tag_image: (_, tag) => `name the image ${tag}`,
  put_files: (release) => `put the files of release ${release} in place`,
  switch_file: () => "put nginx' upstream file in place",
  pull_services: (_release, _registry, _user, _seconds, ...services) => `pull the image of ${services.join(", ")}`,
  up_services: (_release, _seconds, ...services) => `start ${services.join(", ")}`,
  up_nginx: () => "start nginx",
  migrate: () => "migrate",
  applied_migrations: askPostgres,
  look_at_migrations: askPostgres,
  drop_index: askPostgres,
  start_slot: (_, slot) => `start app-${slot}`,
  revive_slot: (slot) => `start app-${slot}`,
  await_slot: (slot) => `watch app-${slot}`,
  ask_slot: (slot) => `ask app-${slot}`,
  watch: (slot) => `watch app-${slot}`,
  evidence: (service) => `read the log of ${service}`,
  switch_to: (stamp) => `switch nginx to "${stamp}"`,
  serving: () => "ask nginx what serves",
  commit: (release) => `make release ${release} what a reboot starts`,
  finish: (_, old) => (old === "none" ? "finish" : `let app-${old} end`),
  record: () => "write releases.jsonl",
  prune_release: (release) => `remove release ${release}`,
};

/** A service without a page says itself, in its log, what is wrong. */
const pages: Readonly<Record<string, string>> = {
  postgres: "docs/runbook/database-unhealthy.md",
  nginx: "docs/runbook/bad-nginx-configuration.md",
};

/** What a call is for, as a sentence goes on: "start nginx". */
export function purposeOf([name, ...words]: Call): string {
  return purposes[name]?.(...words) ?? `run "${[name, ...words].join(" ")}"`;
}

export function callFailed(call: Call, host: string, { exitCode, stdout, stderr }: Result): Failure {
  const what = `Cannot ${purposeOf(call)} on ${host}`;
  const details = (stderr.trim() || stdout.trim()).split("\n").slice(-30).join("\n");
  if (/no space left on device/i.test(details)) {
    const next = ["on the server: df -h; docker system df"];
    return new Failure(what, "the disk is full", next, { details, read: "docs/runbook/disk-full.md" });
  }
  const taken = /^.*from daemon: .*(?:port is already allocated|address already in use).*$/m.exec(stderr)?.[0];
  if (taken) {
    const port = /:(\d+)(?:\/tcp)?(?: failed)?: (?:bind: |listen .*)?(?:port is|address)/.exec(taken)?.[1];
    const next = ["on the server: docker ps; sudo ss -ltnp   # who has it", "then the same command again"];
    return new Failure(what, port ? `port ${port} is taken` : "a port is taken", next, {
      details: taken,
      read: "docs/runbook/port-is-taken.md",
    });
  }
  const [why, service = ""] = /^(\S+) does not come up: .*$/m.exec(stderr) ?? [];
  const page = pages[service];
  if (why) return new Failure(what, why, [], { details, ...(page && { read: page }) });
  return new Failure(what, details ? "see below" : `it exited with ${exitCode}`, [], details ? { details } : {});
}
