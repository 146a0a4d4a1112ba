// Where Debian packages come from: wherever this machine's own apt gets them. Only the suite is ours, so no address of a
// mirror is written down anywhere in this repository.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { exitCodes, Failure } from "../../scripts/lib/failure.ts";

/** "machine" is the release that this machine runs. */
export type Suite = "machine" | "sid" | "forky";

/** @throws {Failure} exit 2, unless this is root on a Debian machine. */
export function requireDebian(): void {
  const isDebian = /^ID=debian$/m.test(read("/etc/os-release")) && existsSync("/usr/bin/apt-get");
  if (isDebian && process.getuid?.() === 0) return;
  const found = isDebian ? "this is Debian, but not root" : "this is not Debian";
  throw new Failure(
    "Cannot bring up the lab",
    `without Docker and a container registry it takes root on Debian with apt-get; ${found}`,
    ["docker compose version    # start Docker, or set DOCKER_HOST to an engine that answers and can pull"],
    { exitCode: exitCodes.usage },
  );
}

/** The text of a .sources file for the suite. */
export function sourcesOf(suite: Suite): string {
  const folder = "/etc/apt/sources.list.d";
  const names = existsSync(folder) ? readdirSync(folder).sort() : [];
  const contentOf = (ending: string) =>
    names.filter((name) => name.endsWith(ending)).map((name) => read(join(folder, name)));
  const codename = /^VERSION_CODENAME=(\S+)/m.exec(read("/etc/os-release"))?.[1] ?? "stable";
  const stanza = findStanza(contentOf(".sources"), [read("/etc/apt/sources.list"), ...contentOf(".list")], codename);
  if (!stanza) {
    throw new Failure(
      "Cannot download Debian packages",
      `apt has no source for Debian ${codename}`,
      ["apt-cache policy"],
      {
        exitCode: exitCodes.usage,
      },
    );
  }
  return `${suite === "machine" ? stanza : stanza.replace(/^Suites:.*$/m, `Suites: ${suite}`)}\n`;
}

/**
 * The first stanza for the release itself, not for its security updates. One-line entries are turned into stanzas.
 * @param sources contents of .sources files. @param lists contents of .list files.
 */
export function findStanza(sources: readonly string[], lists: readonly string[], codename: string): string | undefined {
  const uncommented = (text: string) => text.replace(/^#.*\n?/gm, "");
  const stanzas = sources.flatMap((text) => uncommented(text).split(/\n\s*\n/));
  const isForRelease = (stanza: string) => {
    const field = (name: string) => new RegExp(`^${name}:(.*)$`, "m").exec(stanza)?.[1]?.trim().split(/\s+/) ?? [];
    return field("Types").includes("deb") && field("Suites").includes(codename) && field("Components").includes("main");
  };
  return [...stanzas, ...lists.flatMap((text) => stanzasOf(uncommented(text)))]
    .map((text) => text.trim())
    .find(isForRelease);
}

/** "deb [signed-by=KEY] ADDRESS SUITE COMPONENTS" lines as stanzas. */
function stanzasOf(list: string): string[] {
  const lines = list.matchAll(/^deb\s+(?:\[(.*)\]\s+)?(\S+)\s+(\S+)\s+(.+)$/gm);
  return [...lines].map(([, options, address, suite, components]) => {
    const key = /signed-by=(\S+)/.exec(options ?? "")?.[1];
    return `Types: deb\nURIs: ${address}\nSuites: ${suite}\nComponents: ${components}${key ? `\nSigned-By: ${key}` : ""}`;
  });
}

function read(file: string): string {
  return existsSync(file) ? readFileSync(file, "utf8") : "";
}
