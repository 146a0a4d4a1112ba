// The rules of the Compose files, read as YAML: what must hold for every service, also for those added later.
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";
import { imageNames } from "./lab/images/names.ts";
import { repository } from "./lab/repository.ts";

type Service = {
  image?: string;
  extends?: unknown;
  container_name?: string;
  privileged?: boolean;
  restart?: string;
  security_opt?: string[];
  cap_drop?: string[];
  cap_add?: string[];
  logging?: { driver: string; options: Record<string, string> };
  mem_limit?: string;
  pids_limit?: number;
  read_only?: boolean;
  stop_grace_period?: string;
  profiles?: string[];
  healthcheck?: { start_interval?: string };
  ports?: string[];
  volumes?: string[];
};
type ComposeFile = { name?: string; services: Record<string, Service | null> };

const text = (file: string) => readFileSync(join(repository, "compose", file), "utf8");
const read = (file: string): ComposeFile => parse(text(file), { merge: true, logLevel: "error" });
const files = ["compose.yaml", "development.yaml", "production.yaml"];

const imagesOfTheKit: readonly string[] = Object.values(imageNames);

/** Everything that is wrong with a service that stands on its own. Empty is good. */
function weaknesses(service: Service): string[] {
  const rules: [boolean, string][] = [
    [service.security_opt?.includes("no-new-privileges:true") ?? false, "no-new-privileges"],
    [service.cap_drop?.includes("ALL") ?? false, "cap_drop"],
    [service.logging?.driver === "local" && "max-size" in service.logging.options, "logging"],
    [service.mem_limit !== undefined, "mem_limit"],
    [service.pids_limit !== undefined, "pids_limit"],
    [service.read_only === true, "read_only"],
    [service.restart !== undefined, "restart"],
    [!service.container_name, "container_name"],
    [!service.privileged, "privileged"],
  ];
  return rules.filter(([holds]) => !holds).map(([, rule]) => rule);
}

test("weaknesses() finds what is missing", () => {
  expect(weaknesses({ container_name: "x", privileged: true })).toEqual([
    "no-new-privileges",
    "cap_drop",
    "logging",
    "mem_limit",
    "pids_limit",
    "read_only",
    "restart",
    "container_name",
    "privileged",
  ]);
});

describe("compose.yaml", () => {
  const { name, services } = read("compose.yaml");

  test("fixes the project's name, and has the four services, and one that is asked for", () => {
    expect(name).toBe("dbops-app");
    expect(Object.keys(services)).toEqual(["postgres", "migrations", "app", "nginx", "backup"]);
    expect(Object.keys(services).filter((service) => services[service]!.profiles)).toEqual(["backup"]);
  });

  test.each(Object.entries(services))("%s is hardened", (_, service) => {
    expect(weaknesses(service!)).toEqual([]);
  });

  test("only postgres keeps capabilities", () => {
    const keepers = Object.entries(services).filter(([, service]) => service?.cap_add);
    expect(keepers.map(([service]) => service)).toEqual(["postgres"]);
  });

  test("what keeps running says how long it may take to stop, and is checked often while it starts", () => {
    for (const service of ["postgres", "app", "nginx", "backup"]) {
      expect(services[service]!.stop_grace_period).toMatch(/^\d+s$/);
      expect(services[service]!.healthcheck?.start_interval).toBe("250ms");
    }
  });

  test("uses the images of the kit", () => {
    const used = Object.values(services).flatMap((service) => service!.image ?? []);
    expect(used.filter((image) => !image.startsWith("$"))).toEqual([
      imageNames.postgres,
      imageNames.dbmate,
      imageNames.nginx,
    ]);
  });
});

describe("the overlays", () => {
  test("production: services that stand on their own are hardened", () => {
    const { certbot } = read("production.yaml").services;
    expect(weaknesses(certbot!)).toEqual([]);
  });

  test("production: each slot takes everything from app and is never built", () => {
    const { services } = read("production.yaml");
    for (const slot of ["app-blue", "app-green"]) {
      expect(services[slot]?.extends).toEqual({ file: "compose.yaml", service: "app" });
    }
    expect(text("production.yaml")).toContain("build: !reset null");
  });

  test("the image of backups is of the same Postgres and Bun as the rest", () => {
    const froms = [...text("backup/Dockerfile").matchAll(/^FROM (\S+)/gm)].map(([, image]) => image!);
    expect(froms).toEqual([imageNames.bun, imageNames.postgres]);
  });
});

describe.each(files)("%s", (file) => {
  const services = Object.entries(read(file).services).flatMap(([, service]) => (service ? [service] : []));

  test("every image has a fixed version", () => {
    const images = services.flatMap(({ image }) => image ?? []).filter((image) => !image.startsWith("$"));
    for (const image of images) expect(image).toMatch(/:[\w.-]*\d[\w.-]*$/);
    expect(text(file)).not.toContain(":latest");
    const ours = images.filter((image) => !image.startsWith("certbot/"));
    expect(ours.filter((image) => !imagesOfTheKit.includes(image))).toEqual([]);
  });

  test("no single file is mounted, and nothing but nginx in production is published beyond loopback", () => {
    for (const mount of services.flatMap(({ volumes }) => volumes ?? [])) {
      expect(mount.split(":")[0]).toMatch(/^(\.\/[a-z]+|[a-z]+)$/);
    }
    if (file === "production.yaml") return;
    for (const port of services.flatMap(({ ports }) => ports ?? [])) expect(port).toStartWith("127.0.0.1:");
  });
});
