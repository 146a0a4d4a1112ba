// scripts/lib/deploy-plan.ts: from what a server says and what is wanted, exactly what a deploy does, or why it does not begin.
import { describe, expect, test } from "bun:test";
import { type Config, parseConfig, type Settings } from "../scripts/lib/config.ts";
import { formatPlan, mayBeLive, type Plan, planDeploy, type Wanted } from "../scripts/lib/deploy-plan.ts";
import { type Failure, formatFailure } from "../scripts/lib/failure.ts";
import { parseReference } from "../scripts/lib/image.ts";
import type { Release } from "../scripts/lib/release.ts";
import type { Container, ServerState, Service } from "../scripts/lib/server-state.ts";

const name = "ghcr.io/me/shop";
const digest = (character: string) => `sha256:${character.repeat(64)}`;
const pinned = (character: string) => `${name}@${digest(character)}`;
const now = Date.UTC(2026, 0, 2, 12) / 1000;

function settings(deploy: Partial<Settings["deploy"]> = {}, more: Partial<Config> = {}): Settings {
  return parseConfig({
    name: "shop",
    database: "shop",
    app: { command: ["bun", "app/main.ts"], port: 3000 },
    schema: { criticalTables: [], extensions: [] },
    environments: { local: {} },
    deploy,
    ...more,
  });
}

function wanted(changes: Partial<Wanted> = {}): Wanted {
  const { image = pinned("d"), ...rest } = changes;
  return {
    image,
    reference: parseReference(image)!,
    transfer: "registry",
    configHash: "c0ffee",
    migrations: ["20260101090000", "20260102090000"],
    allowDowntime: false,
    settings: settings(),
    directory: "/opt/shop",
    now,
    ...rest,
  };
}

const release = (number: number, changes: Partial<Release> = {}): Release => ({
  release: number,
  verb: "deploy",
  image: pinned(`${number}`),
  reference: pinned(`${number}`),
  imageId: `sha256:id${number}`,
  configHash: "c0ffee",
  slot: number % 2 === 1 ? "blue" : "green",
  schemaVersion: "20260102090000",
  previous: number - 1,
  who: "ann@laptop",
  at: "2026-01-01T12:00:00.000Z",
  seconds: 3.2,
  steps: {},
  outcome: "done",
  ...changes,
});

const container = (service: string, changes: Partial<Container> = {}): Container => ({
  service,
  status: "running",
  health: "healthy",
  image: "any",
  imageId: "sha256:any",
  restarts: 0,
  release: "",
  ...changes,
});

const service = (name: string, changes: Partial<Service> = {}): Service => ({
  name,
  changed: false,
  usesImage: false,
  ...changes,
});
const services = (...changed: string[]) =>
  ["app-blue", "migrations", "nginx", "postgres"].map((name) => service(name, { changed: changed.includes(name) }));
/** As docs/deploy.md has it. */
const worker = service("worker", { usesImage: true });

/** Nothing but Docker. */
const empty: ServerState = {
  problems: {},
  engineVersion: "28.5.2",
  architecture: "amd64",
  composeVersion: "2.40.3",
  containers: [],
  live: undefined,
  serving: undefined,
  upstream: "",
  slotInEnvironment: undefined,
  images: { blue: undefined, green: undefined },
  liveRelease: undefined,
  records: [],
  recordCount: 0,
  kept: [],
  freeBytes: { project: 50e9, docker: 40e9 },
  imageIds: [1, 2, 3, 4, 5, 6].map((number) => `sha256:id${number}`),
  clock: now,
  applied: undefined,
  services: services("app-blue", "migrations", "nginx", "postgres"),
  image: undefined,
  certificate: undefined,
};

/** Release 3 serves from blue, with everything else as it should be. */
const serving: ServerState = {
  ...empty,
  containers: [
    container("postgres"),
    container("nginx"),
    container("app-blue"),
    container("app-green", { status: "exited", health: "none" }),
    container("migrations", { status: "exited", health: "none" }),
  ],
  live: { release: 3, slot: "blue", state: "live" },
  serving: { release: 3, slot: "blue", state: "live" },
  slotInEnvironment: "blue",
  images: { blue: pinned("3"), green: pinned("2") },
  liveRelease: release(3),
  records: [release(1), release(2), release(3)],
  recordCount: 3,
  kept: [1, 2, 3],
  applied: ["20260101090000", "20260102090000"],
  services: services(),
};

/** What is wanted is release 3 itself. */
const same = wanted({ image: pinned("3") });

const live = (changes: Partial<Release>): Partial<ServerState> => {
  const record = release(3, changes);
  return { liveRelease: record, records: [release(1), release(2), record] };
};

const messageOf = (throwing: () => unknown): string => {
  try {
    throwing();
  } catch (error) {
    return `${formatFailure(error as Failure)}\nexit ${(error as Failure).exitCode}`;
  }
  throw new Error("it threw nothing");
};

const said = ({ steps }: Plan, step: string) => steps.find((one) => one.name === step)?.says;

describe("planDeploy(), whole", () => {
  test("the first deploy on an empty server", () => {
    const plan = planDeploy(empty, wanted());
    expect(plan).toEqual({
      nothing: false,
      release: 1,
      slot: "blue",
      revive: false,
      schemaAhead: undefined,
      previous: undefined,
      steps: [
        { name: "lock", says: "one deploy at a time" },
        { name: "backup", says: "none: there is no database yet" },
        { name: "upload", says: "the files and values of this project to /opt/shop/releases/1" },
        { name: "image", says: `pull ${pinned("d")}` },
        { name: "files", says: "/opt/shop gets the files of release 1, once nginx has accepted its own" },
        { name: "services", says: "start postgres, start nginx" },
        { name: "migrate", says: "2 pending: 20260101090000, 20260102090000" },
        { name: "start", says: "app-blue, beside nothing" },
        { name: "healthy", says: "within 60 s, and the release that its image says" },
        { name: "switch", says: "nginx to blue" },
        { name: "bake", says: "5 s; stop it again if it is not ready or 5 % fail" },
        { name: "commit", says: "release 1 is what a reboot starts" },
      ],
      services: ["postgres", "nginx"],
      pending: ["20260101090000", "20260102090000"],
      backup: false,
      rehearse: false,
      workers: [],
      removals: [],
      downtime: [],
      warnings: [],
    });
    expect(formatPlan(plan, wanted(), "app.example.com")).toBe(
      `==> shop on app.example.com: release 1 into blue; nothing serves yet
  lock      one deploy at a time
  backup    none: there is no database yet
  upload    the files and values of this project to /opt/shop/releases/1
  image     pull ${pinned("d")}
  files     /opt/shop gets the files of release 1, once nginx has accepted its own
  services  start postgres, start nginx
  migrate   2 pending: 20260101090000, 20260102090000
  start     app-blue, beside nothing
  healthy   within 60 s, and the release that its image says
  switch    nginx to blue
  bake      5 s; stop it again if it is not ready or 5 % fail
  commit    release 1 is what a reboot starts`,
    );
  });

  test("the next one, with a worker, something to tell and something to prune", () => {
    const want = wanted({
      settings: {
        ...settings({ stopFirst: ["worker"], keepReleases: 2, bakeSeconds: 7, errorPercent: 2.5, drainSeconds: 10 }),
        notifications: [{ kind: "slack", urlFrom: "SLACK_URL", on: "failure" }],
        cdn: { provider: "cloudflare", zone: "z", tokenFrom: "TOKEN", purge: "everything" },
      },
    });
    const plan = planDeploy({ ...serving, services: [...services(), { ...worker, changed: true }] }, want);
    expect(plan).toEqual({
      nothing: false,
      release: 4,
      slot: "green",
      revive: false,
      schemaAhead: undefined,
      previous: { release: 3, slot: "blue", state: "live" } as Plan["previous"],
      steps: [
        { name: "lock", says: "one deploy at a time" },
        { name: "upload", says: "the files and values of this project to /opt/shop/releases/4" },
        { name: "image", says: `pull ${pinned("d")}` },
        { name: "files", says: "/opt/shop gets the files of release 4, once nginx has accepted its own" },
        { name: "start", says: "app-green, beside app-blue" },
        { name: "healthy", says: "within 60 s, and the release that its image says" },
        { name: "switch", says: "nginx from blue to green" },
        { name: "workers", says: "worker: stop the old one, then start the new one" },
        { name: "bake", says: "7 s; back to release 3 if it is not ready or 2.5 % fail" },
        { name: "commit", says: "release 4 is what a reboot starts" },
        { name: "drain", says: "requests of app-blue, at most 10 s, then stop it and keep it for a rollback" },
        { name: "prune", says: "release 1, 2" },
        { name: "tell", says: "the CDN, slack" },
      ],
      services: [],
      pending: [],
      backup: false,
      rehearse: false,
      workers: ["worker"],
      removals: [
        { release: 1, imageId: "sha256:id1" },
        { release: 2, imageId: "sha256:id2" },
      ],
      downtime: [],
      warnings: [],
    });
    const text = formatPlan(plan, want, "app.example.com");
    expect(text.split("\n")[0]).toBe("==> shop on app.example.com: release 4 into green; release 3 serves from blue");
  });
});

const rows: { name: string; state?: Partial<ServerState>; want?: Partial<Wanted>; plan: Partial<Plan> }[] = [
  {
    name: "after a failed one, its number is not used again",
    state: { records: [...serving.records, release(4, { outcome: "failed" })], recordCount: 4 },
    plan: { release: 5, slot: "green", previous: serving.live! },
  },
  {
    name: "after one that was cut off before it wrote a line, its folder counts",
    state: { kept: [1, 2, 3, 4] },
    plan: { release: 5, removals: [{ release: 4 }] },
  },
  {
    name: "a stack that was started by hand is release 0, and is what to go back to",
    state: { live: { release: 0, slot: "blue", state: "live" }, liveRelease: undefined, records: [], kept: [] },
    plan: { release: 1, slot: "green", previous: { release: 0, slot: "blue", state: "live" } as Plan["previous"] },
  },
  {
    name: "pending migrations, oldest first",
    want: { migrations: ["20260101090000", "20260102090000", "20260103090000", "20260104090000"] },
    plan: { pending: ["20260103090000", "20260104090000"] },
  },
  {
    name: "a database without the table of migrations: all of them",
    state: { applied: [] },
    plan: { pending: ["20260101090000", "20260102090000"] },
  },
  {
    name: "a rollback never migrates",
    want: { again: release(1), migrations: ["20260101090000"] },
    plan: { pending: [], warnings: [] },
  },
  {
    name: "Postgres that does not answer: all of them are taken for pending, and it is started",
    state: {
      applied: undefined,
      containers: serving.containers.map((one) => (one.service === "postgres" ? { ...one, status: "exited" } : one)),
    },
    plan: { pending: ["20260101090000", "20260102090000"], services: ["postgres"], downtime: [] },
  },
  {
    name: "services that are missing are started: Postgres first, nginx last",
    state: {
      containers: [container("app-blue")],
      services: [...services(), service("zebra", { changed: true }), service("mail", { changed: true })],
    },
    plan: { services: ["postgres", "mail", "zebra", "nginx"], downtime: [] },
  },
  {
    name: "a service that runs with another definition is recreated, where that is allowed",
    state: { services: services("postgres", "nginx") },
    want: { allowDowntime: true },
    plan: {
      services: ["postgres", "nginx"],
      downtime: [
        "nginx is recreated, because its definition has changed",
        "postgres is recreated, because its definition has changed",
      ],
    },
  },
  {
    name: "what an interrupted first deploy has left is recreated, and interrupts nobody",
    state: {
      containers: [container("postgres")],
      ...{ live: undefined, serving: undefined, liveRelease: undefined, records: [] },
      services: services("app-blue", "migrations", "nginx", "postgres"),
    },
    plan: { services: ["postgres", "nginx"], downtime: [] },
  },
  {
    name: "what makes backups is recreated without asking: nobody is served by it",
    state: {
      containers: [...serving.containers, container("backup")],
      services: [...services(), service("backup", { changed: true })],
    },
    plan: { services: ["backup"], downtime: [], nothing: false },
  },
  {
    name: "the slots and the migrations never count as changed services",
    state: { services: services("app-blue", "migrations") },
    plan: { services: [], downtime: [] },
  },
  {
    name: "a worker is no service",
    state: { services: [...services(), service("cron", { changed: true })] },
    want: { settings: settings({ stopFirst: ["cron"] }) },
    plan: { services: [], workers: ["cron"], downtime: [] },
  },
  {
    name: "a rollback replaces the workers that its release has",
    state: { services: [...services(), worker] },
    want: { again: release(1), settings: settings({ stopFirst: ["worker", "cron"] }) },
    plan: { services: [], workers: ["worker"], warnings: [] },
  },
  {
    name: "a rollback where nginx' upstream file is lost: what nginx says is what to go back to",
    state: { live: undefined, liveRelease: undefined, upstream: "" },
    want: { again: release(2) },
    plan: {
      release: 4,
      slot: "green",
      previous: { release: 3, slot: "blue", state: "live" } as Plan["previous"],
      warnings: ["nginx/upstream/production.conf there is lost, and is made anew from what nginx says"],
    },
  },
  {
    name: "the same to the release that serves: it is not done already, for a reboot would start nothing",
    state: { live: undefined, liveRelease: undefined, upstream: "" },
    want: { image: pinned("3"), again: release(3) },
    plan: { nothing: false, release: 4, slot: "green", revive: false },
  },
  {
    name: "the same where nginx is down as well: nothing serves, and nothing is what to go back to",
    state: {
      ...{ live: undefined, serving: undefined, liveRelease: undefined, upstream: "" },
      containers: [container("postgres"), container("app-blue", { imageId: "sha256:id3", release: "3" })],
    },
    want: { image: pinned("3"), again: release(3) },
    plan: { release: 3, slot: "blue", revive: true, previous: undefined, services: ["nginx"], warnings: [] },
  },
  {
    name: "a rollback says which service it leaves at another release's image",
    state: { services: [...services(), worker], containers: [...serving.containers, container("worker")] },
    want: { again: release(1) },
    plan: {
      services: [],
      workers: [],
      warnings: ["worker has RELEASE_IMAGE, and deploy.stopFirst does not name it: it stays as it is"],
    },
  },
  {
    name: "the slots and the migrations may have the image of the release",
    state: {
      services: services().map((one) => ({ ...one, usesImage: one.name !== "nginx" && one.name !== "postgres" })),
    },
    plan: { workers: [], warnings: [] },
  },
  {
    name: "a tag that serves: whether it is the same image is not known",
    state: live({ image: `${name}:3` }),
    want: { image: `${name}:3` },
    plan: {
      nothing: false,
      warnings: [
        `${name}:3 serves already, and the registry was not asked: if it is the same image still, nothing is done`,
      ],
    },
  },
  {
    name: "a tag that serves, and means another image now",
    state: live({ image: `${name}:3` }),
    want: { image: `${name}:3`, imageId: "sha256:id4" },
    plan: { nothing: false, warnings: [] },
  },
  {
    name: "a certificate that is not there yet",
    state: { certificate: "missing" },
    plan: {
      warnings: [
        "there is no certificate: visitors get 503 until, on the server: cd /opt/shop && docker compose run --rm certbot",
      ],
    },
  },
  {
    name: "a certificate that nginx cannot use",
    state: { certificate: "unusable" },
    plan: {
      warnings: [
        "nginx cannot use what is in certificates/, no visitor gets through: docs/runbook/no-certificate.md; on the server: cd /opt/shop && docker compose logs --tail 20 nginx",
      ],
    },
  },
  {
    name: "a certificate that has ended",
    state: { certificate: { end: now } },
    plan: {
      warnings: [
        "the certificate ended on 2026-01-02: browsers refuse it; on the server: cd /opt/shop && docker compose run --rm certbot",
      ],
    },
  },
  {
    name: "a certificate that ends soon",
    state: { certificate: { end: now + 14 * 86_400 - 1 } },
    plan: {
      warnings: [
        "the certificate ends on 2026-01-16, in 13 days; on the server: cd /opt/shop && docker compose run --rm certbot",
      ],
    },
  },
  {
    name: "a certificate that is good for two weeks",
    state: { certificate: { end: now + 14 * 86_400 } },
    plan: { warnings: [] },
  },
  {
    name: "the server's clock is ahead",
    state: { clock: now + 61 },
    plan: { warnings: ["the clock of the server is 61 s ahead"] },
  },
  {
    name: "the server's clock is behind",
    state: { clock: now - 3600.2 },
    plan: { warnings: ["the clock of the server is 3600 s behind"] },
  },
  { name: "a minute is no difference", state: { clock: now + 60 }, plan: { warnings: [] } },
  {
    name: "migrations that nobody here knows",
    state: { applied: ["20250101000000", "20260101090000", "20260102090000", "20260102100000"] },
    plan: { warnings: ["applied there, but not in migrations/: 20250101000000, 20260102100000"], pending: [] },
  },
  {
    name: "the live slot does not run",
    state: { containers: [container("postgres"), container("nginx"), container("app-blue", { status: "exited" })] },
    plan: { warnings: ["release 3 does not run: there is nothing to go back to"] },
  },
  {
    name: "the live release was never finished",
    state: { live: { release: 3, slot: "blue", state: "bake" } },
    plan: { warnings: ["release 3 was interrupted while it was being deployed"] },
  },
  {
    name: "old releases go, but not the live one, not one that a kept release shares its image with",
    state: {
      records: [
        release(1),
        release(2, { outcome: "failed", imageId: "" }),
        release(3, { imageId: "sha256:id6" }),
        release(4, { outcome: "undone" }),
        release(5),
        release(6),
      ],
      kept: [1, 2, 3, 4, 5, 6],
      live: { release: 6, slot: "blue", state: "live" },
      liveRelease: release(6),
    },
    want: { settings: settings({ keepReleases: 3 }) },
    plan: {
      release: 7,
      removals: [
        { release: 1, imageId: "sha256:id1" },
        { release: 2 },
        { release: 3 },
        { release: 4, imageId: "sha256:id4" },
      ],
    },
  },
];

test.each(rows)("planDeploy() $name", ({ state, want, plan }) => {
  expect(planDeploy({ ...serving, ...state }, wanted(want))).toMatchObject(plan);
});

const texts: { name: string; state?: Partial<ServerState>; want?: Partial<Wanted>; step: string; says?: string }[] = [
  { name: "no bake", want: { settings: settings({ bakeSeconds: 0 }) }, step: "bake" },
  {
    name: "the old slot goes on",
    want: { settings: settings({ keepPrevious: "running" }) },
    step: "drain",
    says: "requests of app-blue, at most 30 s, and keep it running for a rollback",
  },
  {
    name: "over SSH",
    want: { image: "shop:1", transfer: "ssh", imageId: "sha256:x" },
    step: "image",
    says: "send shop:1 over SSH, unless it is there",
  },
  {
    name: "an earlier release",
    want: { again: release(1) },
    step: "upload",
    says: "the files and values of release 1 to /opt/shop/releases/4",
  },
  {
    name: "hooks",
    want: { settings: settings({ hooks: { before: ["bun", "ask.ts"], afterFailure: ["./page.sh"] } }) },
    step: "hooks",
    says: "on this machine, before: bun ask.ts; afterFailure: ./page.sh",
  },
  {
    name: "one service started, one recreated",
    state: {
      services: services("nginx"),
      containers: serving.containers.filter(({ service }) => service !== "postgres"),
    },
    want: { allowDowntime: true },
    step: "services",
    says: "start postgres, recreate nginx",
  },
];
const more = ["20260101090000", "20260102090000", "20260103090000"];
const withBackups = (deploy: Partial<Settings["deploy"]> = {}) => settings(deploy, { backup: { bucket: "backups" } });
const stopped = serving.containers.map((one) => (one.service === "postgres" ? { ...one, status: "exited" } : one));
const backups: {
  name: string;
  state?: Partial<ServerState>;
  want?: Partial<Wanted>;
  backup: boolean;
  says?: string;
}[] = [
  { name: "nothing to migrate", want: { migrations: more.slice(0, 2) }, backup: false },
  {
    name: "the first one",
    backup: true,
    says: "back up the database first (the first one)",
  },
  {
    name: "after others",
    want: { lastBackup: { bytes: 4_100_000_000, seconds: 38.2 } },
    backup: true,
    says: "back up the database first (last one 4.1 GB, 38 s)",
  },
  {
    name: "--no-backup",
    want: { noBackup: true },
    backup: false,
    says: "none: --no-backup, so there is no way back for data",
  },
  {
    name: "switched off",
    want: { settings: withBackups({ backup: "never" }) },
    backup: false,
    says: 'none: deploy.backup is "never", so there is no way back for data',
  },
  {
    name: "nowhere to go",
    want: { settings: settings() },
    backup: false,
    says: "none: dbops.config.ts has no `backup`, so there is no way back for data",
  },
  {
    name: "the first deploy",
    state: { applied: undefined, live: undefined, liveRelease: undefined, records: [], containers: [] },
    backup: false,
    says: "none: there is no database yet",
  },
  {
    name: "what a first deploy that failed has left is a database",
    state: { applied: [], live: undefined, liveRelease: undefined, records: [], containers: [container("postgres")] },
    backup: true,
    says: "back up the database first (the first one)",
  },
  {
    name: "Postgres is down, and shall be started without",
    state: { applied: undefined, containers: stopped },
    want: { noBackup: true },
    backup: false,
    says: "none: --no-backup, so there is no way back for data",
  },
  { name: "a rollback", want: { again: release(1) }, backup: false },
];
test.each(backups)("a backup before the migrations: $name", ({ state, want, backup, says }) => {
  const plan = planDeploy({ ...serving, ...state }, wanted({ settings: withBackups(), migrations: more, ...want }));
  expect([plan.backup, said(plan, "backup")]).toEqual([backup, says!]);
  // Before anything else is done there.
  if (backup) expect(plan.steps.slice(0, 3).map(({ name }) => name)).toEqual(["lock", "backup", "upload"]);
});

const rehearsals: {
  name: string;
  state?: Partial<ServerState>;
  want?: Partial<Wanted>;
  rehearse: boolean;
  says?: string;
}[] = [
  {
    name: "pending ones",
    rehearse: true,
    says: "1 pending, on the restored latest backup; above the limits nothing is deployed",
  },
  { name: "nothing to migrate", want: { migrations: more.slice(0, 2) }, rehearse: false },
  { name: "nobody asked for it", want: { rehearse: false }, rehearse: false },
  {
    name: "the first deploy",
    state: { applied: undefined, live: undefined, liveRelease: undefined, records: [], containers: [] },
    rehearse: false,
    says: "none: there is no database yet",
  },
];
test.each(rehearsals)("a rehearsal before everything else: $name", ({ state, want, rehearse, says }) => {
  const asked = { settings: withBackups(), migrations: more, rehearse: true };
  const plan = planDeploy({ ...serving, ...state }, wanted({ ...asked, ...want }));
  expect([plan.rehearse, said(plan, "rehearse")]).toEqual([rehearse, says!]);
  if (rehearse) expect(plan.steps.slice(0, 3).map(({ name }) => name)).toEqual(["rehearse", "lock", "backup"]);
});

test.each(texts)("the plan says it: $name", ({ state, want, step, says }) => {
  expect(said(planDeploy({ ...serving, ...state }, wanted(want)), step)).toBe(says!);
});

describe("nothing to do", () => {
  test("where exactly this serves already, pinned or known by its image", () => {
    expect(planDeploy(serving, same)).toMatchObject({ nothing: true });
    const byTag = wanted({ image: `${name}:3`, imageId: "sha256:id3" });
    expect(planDeploy(serving, byTag)).toMatchObject({ nothing: true });
    const overSsh = wanted({ image: "shop:3", transfer: "ssh", imageId: "sha256:id3" });
    expect(planDeploy(serving, overSsh)).toMatchObject({ nothing: true });
    const withoutCheck = serving.containers.map((one) => ({ ...one, health: "none" }));
    expect(planDeploy({ ...serving, containers: withoutCheck }, same)).toMatchObject({ nothing: true });
  });

  test("and the plan has no step then", () => {
    const plan = planDeploy(serving, same);
    expect(plan.steps).toEqual([]);
    expect(formatPlan(plan, same, "app.example.com")).toBe(
      "==> shop on app.example.com: nothing to do; release 3 serves from blue",
    );
  });

  test("where a rollback wants it, by digest or by its image", () => {
    expect(planDeploy(serving, wanted({ image: pinned("3"), again: release(3) })).nothing).toBe(true);
    const again = release(3, { reference: "shop-release:3" });
    const sent = { ...serving, ...live({ reference: "shop-release:3" }) };
    expect(planDeploy(sent, wanted({ image: "shop-release:3", again })).nothing).toBe(true);
    const other = release(2, { reference: "shop-release:2" });
    expect(planDeploy(sent, wanted({ image: "shop-release:2", again: other })).nothing).toBe(false);
  });

  const doubts: { name: string; state?: Partial<ServerState>; want?: Partial<Wanted> }[] = [
    { name: "other bytes", want: { image: pinned("4") } },
    { name: "the same bytes under another name", want: { image: `ghcr.io/me/other@${digest("3")}` } },
    { name: "a tag, and nobody has asked the registry", want: { image: `${name}:3` } },
    { name: "a tag that means other bytes now", want: { image: `${name}:3`, imageId: "sha256:id4" } },
    { name: "other files or values", want: { configHash: "decaf" } },
    { name: "a pending migration", want: { migrations: [...serving.applied!, "20260103090000"] } },
    { name: "no record of what serves", state: { liveRelease: undefined, records: [] } },
    { name: "the record says that it failed", state: live({ outcome: "failed" }) },
    { name: "the record says that it was undone", state: live({ outcome: "undone" }) },
    { name: "the upstream file is in the middle of a deploy", state: { live: { ...serving.live!, state: "warm" } } },
    { name: "nginx does not answer", state: { serving: undefined } },
    { name: "nginx serves another release", state: { serving: { release: 2, slot: "blue", state: "live" } } },
    { name: "nginx serves another slot", state: { serving: { release: 3, slot: "green", state: "live" } } },
    { name: "nginx is in the middle of a deploy", state: { serving: { release: 3, slot: "blue", state: "bake" } } },
    { name: "its container is gone", state: { containers: [container("postgres"), container("nginx")] } },
    ...(["exited", "restarting", "paused", "dead", "created"] as const).map((status) => ({
      name: `its container is ${status}`,
      state: { containers: [container("postgres"), container("nginx"), container("app-blue", { status })] },
    })),
    ...["starting", "unhealthy"].map((health) => ({
      name: `its container is ${health}`,
      state: { containers: [container("postgres"), container("nginx"), container("app-blue", { health })] },
    })),
    { name: "a reboot would start the other slot", state: { slotInEnvironment: "green" as const } },
    { name: "a reboot would start no slot", state: { slotInEnvironment: undefined } },
    {
      name: "a service does not run",
      state: { containers: serving.containers.filter(({ service }) => service !== "nginx") },
    },
    {
      name: "a service has another definition",
      state: { services: services("postgres") },
      want: { allowDowntime: true },
    },
    {
      name: "a worker does not run",
      state: { services: [...services(), worker] },
      want: { settings: settings({ stopFirst: ["worker"] }) },
    },
    {
      name: "a worker has another definition",
      state: {
        services: [...services(), { ...worker, changed: true }],
        containers: [...serving.containers, container("worker")],
      },
      want: { settings: settings({ stopFirst: ["worker"] }) },
    },
  ];
  test.each(doubts)("is refused by a single doubt: $name", ({ state, want }) => {
    const plan = planDeploy({ ...serving, ...state }, wanted({ image: pinned("3"), ...want }));
    expect(plan.nothing).toBe(false);
    expect(plan.steps.length).toBeGreaterThan(5);
  });
});

test.each([
  { name: "the tag that serves", want: { image: `${name}:3` }, asks: true },
  { name: "the tag that serves, with other files", want: { image: `${name}:3`, configHash: "decaf" }, asks: false },
  { name: "another tag", want: { image: `${name}:4` }, asks: false },
  { name: "a digest", want: { image: pinned("3") }, asks: false },
  { name: "an earlier release", want: { image: `${name}:3`, again: release(3) }, asks: false },
  { name: "an image of this machine", want: { image: `${name}:3`, transfer: "ssh" as const }, asks: false },
])("mayBeLive() with $name: the registry is asked $asks", ({ want, asks }) => {
  expect(mayBeLive({ ...serving, ...live({ image: `${name}:3` }) }, wanted(want))).toBe(asks);
});

const refusals: { name: string; state?: Partial<ServerState>; want?: Partial<Wanted>; message: string }[] = [
  {
    name: "no directory",
    state: { problems: { directory: "there is no /opt/shop", engine: "not asked" } },
    message: `The server is not ready: there is no /opt/shop
  next: bun scripts/provision.ts
exit 2`,
  },
  {
    name: "no engine",
    state: { problems: { engine: "Cannot connect to the Docker daemon" } },
    message: `The server is not ready: Docker does not answer there: Cannot connect to the Docker daemon
  next: on the server: sudo systemctl start docker
  next: bun scripts/provision.ts
  read: docs/runbook/server-rebooted.md
exit 3`,
  },
  {
    name: "no Compose",
    state: { problems: { compose: "docker: 'compose' is not a docker command." } },
    message: `The server is not ready: Docker does not answer there: docker: 'compose' is not a docker command.
  next: on the server: sudo systemctl start docker
  next: bun scripts/provision.ts
  read: docs/runbook/server-rebooted.md
exit 3`,
  },
  ...["2.19.1", "v1.29.2", "2.24.3"].map((composeVersion) => ({
    name: `Compose ${composeVersion}`,
    state: { composeVersion },
    message: `The server is not ready: it has Docker Compose ${composeVersion}, at least 2.24.4 is needed
  next: bun scripts/provision.ts
exit 3`,
  })),
  {
    name: "files that Compose does not accept",
    state: { problems: { config: "services.app-blue additional properties 'imge' not allowed" } },
    message: `Docker Compose does not accept these files: services.app-blue additional properties 'imge' not allowed
  next: docker compose config --quiet
  next: correct compose.yaml, compose/ or .env.tpl
exit 2`,
  },
  {
    name: "a full disk where Docker keeps its images",
    state: { freeBytes: { project: 50e9, docker: 940e6 } },
    message: `Nothing was deployed: the server's disk has 0.9 GB left, deploy.freeGigabytes asks for 1
  next: on the server: df -h /opt/shop; docker system df
  read: docs/runbook/disk-full.md
exit 3`,
  },
  {
    name: "a full disk where the project lies",
    state: { freeBytes: { project: 2.44e9, docker: 50e9 } },
    want: { settings: settings({ freeGigabytes: 2.5 }) },
    message: `Nothing was deployed: the server's disk has 2.4 GB left, deploy.freeGigabytes asks for 2.5
  next: on the server: df -h /opt/shop; docker system df
  read: docs/runbook/disk-full.md
exit 3`,
  },
  {
    name: "a migration that comes too late",
    want: { migrations: ["20260101090000", "20260101100000", "20260101110000", "20260102090000", "20260103090000"] },
    message: `Cannot migrate: 20260101100000, 20260101110000 is older than 20260102090000, which is applied already
  next: give the file in migrations/ a newer version
  read: docs/runbook/migration-failed.md
exit 2`,
  },
  {
    name: "a database that does not say what it has",
    state: { applied: undefined },
    message: `Nothing was changed: Postgres is running there, and does not answer
  next: on the server: cd /opt/shop; docker compose ps postgres; docker compose logs --tail 50 postgres
  next: the same command again
  read: docs/runbook/database-unhealthy.md
exit 3`,
  },
  {
    name: "a rollback while Postgres does not run",
    state: {
      applied: undefined,
      containers: serving.containers.map((one) => (one.service === "postgres" ? { ...one, status: "exited" } : one)),
    },
    want: { again: release(1) },
    message: `Nothing was changed: Postgres does not run there, and a rollback does not start it before it knows the schema
  next: on the server: cd /opt/shop; docker compose up --detach --wait postgres
  next: the same command again
  read: docs/runbook/database-unhealthy.md
exit 3`,
  },
  {
    name: "a rehearsal without a backup to restore",
    state: {},
    want: { rehearse: true, migrations: more },
    message: `Cannot rehearse the migrations: dbops.config.ts has no \`backup\`, and a rehearsal restores one
  next: add   backup: { bucket: "…", endpoint: "https://…", region: "…" },   to dbops.config.ts
  next: or without it: the same command without --rehearse
  read: docs/rehearse.md
exit 2`,
  },
  {
    name: "a rehearsal, because Postgres does not run",
    state: { applied: undefined, containers: stopped },
    want: { settings: withBackups({ backup: "never" }), rehearse: true, migrations: more },
    message: `Nothing was changed: Postgres does not run there, and without it the migrations cannot be rehearsed
  next: on the server: cd /opt/shop; docker compose up --detach --wait postgres
  next: the same command again
  next: or without it: the same command without --rehearse
  read: docs/runbook/database-unhealthy.md
exit 3`,
  },
  {
    name: "no backup before the migrations, because Postgres does not run",
    state: { applied: undefined, containers: stopped },
    want: { settings: withBackups() },
    message: `Nothing was changed: Postgres does not run there, and without it there is no backup before the migrations
  next: on the server: cd /opt/shop; docker compose up --detach --wait postgres
  next: the same command again
  next: or without a backup: the same command with --no-backup
  read: docs/runbook/database-unhealthy.md
exit 3`,
  },
  {
    name: "a service that would stay at the image of the release before",
    state: {
      services: [...services(), worker, service("cron", { usesImage: true }), service("mail", { usesImage: true })],
    },
    want: { settings: settings({ stopFirst: ["cron"] }) },
    message: `Nothing was deployed: worker, mail would keep the old image: RELEASE_IMAGE is replaced only in services that deploy.stopFirst names
  next: in dbops.config.ts: deploy: { stopFirst: ["cron", "worker", "mail"] }
  read: docs/deploy.md
exit 2`,
  },
  {
    name: "a worker by a name that is nobody's",
    state: { services: [...services(), worker] },
    want: { settings: settings({ stopFirst: ["wroker"] }) },
    message: `Nothing was deployed: deploy.stopFirst names wroker, and compose.yaml and compose/ have no such service
  next: correct deploy.stopFirst in dbops.config.ts
  read: docs/deploy.md
exit 2`,
  },
  {
    name: "downtime that nobody has allowed",
    state: { services: services("postgres", "nginx") },
    message: `Nothing was deployed: this deploy would interrupt the service
  | DOWNTIME: nginx is recreated, because its definition has changed
  | DOWNTIME: postgres is recreated, because its definition has changed
  next: the same command with --allow-downtime
  read: docs/deploy.md
exit 5`,
  },
];
test.each(refusals)("planDeploy() refuses: $name", ({ state, want, message }) => {
  expect(messageOf(() => planDeploy({ ...serving, ...state }, wanted(want)))).toBe(message);
});

test.each(["2.24.4", "v2.25.0", "2.40.3-desktop.1", "5.0.0"])("planDeploy() accepts Compose %s", (composeVersion) => {
  expect(planDeploy({ ...serving, composeVersion }, wanted()).release).toBe(4);
});

test("formatPlan() shows what is interrupted, and what is doubtful", () => {
  const want = wanted({ allowDowntime: true });
  const plan = planDeploy({ ...serving, services: services("postgres"), clock: now - 90 }, want);
  expect(
    formatPlan(plan, want, "app.example.com"),
  ).toBe(`==> shop on app.example.com: release 4 into green; release 3 serves from blue
  lock      one deploy at a time
  upload    the files and values of this project to /opt/shop/releases/4
  image     pull ${pinned("d")}
  files     /opt/shop gets the files of release 4, once nginx has accepted its own
  services  recreate postgres
  start     app-green, beside app-blue
  healthy   within 60 s, and the release that its image says
  switch    nginx from blue to green
  bake      5 s; back to release 3 if it is not ready or 5 % fail
  commit    release 4 is what a reboot starts
  drain     requests of app-blue, at most 30 s, then stop it and keep it for a rollback
  DOWNTIME: postgres is recreated, because its definition has changed
  warning: the clock of the server is 90 s behind`);
});
