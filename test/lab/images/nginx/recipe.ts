// Stand-in for the official nginx: see CONTRACT.md.
import { mkdirSync, readFileSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { imageNames } from "../names.ts";
import { makeFolder, type Recipe, writeFile } from "../root.ts";

const here = (name: string) => readFileSync(new URL(name, import.meta.url));

export const nginx: Recipe = {
  image: imageNames.nginx,
  packages: ["nginx", "gettext-base", "curl", "tzdata"],
  without: ["iproute2", "perl", "openssl", "procps"],
  programs: [],
  users: [{ name: "nginx", id: 101, home: "/var/cache/nginx", shell: "/sbin/nologin" }],
  finish(root) {
    useOfficialLayout(root);
    renameSync(join(root, "usr/bin/envsubst"), join(root, "usr/local/bin/envsubst"));
    writeFile(root, "docker-entrypoint.sh", here("docker-entrypoint.sh"), 0o755);
    for (const name of ["15-local-resolvers.envsh", "20-envsubst-on-templates.sh"]) {
      writeFile(root, `docker-entrypoint.d/${name}`, here(name), 0o755);
    }
  },
  installsPackages: false,
  instructions: [
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "STOPSIGNAL SIGQUIT",
    "EXPOSE 80",
    'ENTRYPOINT ["/docker-entrypoint.sh"]',
    'CMD ["nginx", "-g", "daemon off;"]',
  ],
};

/** Debian keeps sites, modules and temporary files elsewhere, and runs as www-data. */
function useOfficialLayout(root: string): void {
  const mimeTypes = readFileSync(join(root, "etc/nginx/mime.types"));
  rmSync(join(root, "etc/nginx"), { recursive: true });
  writeFile(root, "etc/nginx/mime.types", mimeTypes, 0o644);
  writeFile(root, "etc/nginx/nginx.conf", here("nginx.conf"), 0o644);
  writeFile(root, "etc/nginx/conf.d/default.conf", here("default.conf"), 0o644);
  writeFile(root, "usr/share/nginx/html/index.html", "<!doctype html><title>Welcome to nginx!</title>\n", 0o644);
  makeFolder(root, "var/cache/nginx", 101, 0o755);
  // Where the Debian build keeps request bodies and the like is compiled in: it leads to where the official build keeps them.
  rmSync(join(root, "var/lib/nginx"), { recursive: true, force: true });
  mkdirSync(join(root, "var/lib"), { recursive: true });
  symlinkSync("/var/cache/nginx", join(root, "var/lib/nginx"));
  mkdirSync(join(root, "var/log/nginx"), { recursive: true });
  for (const [name, target] of [
    ["access.log", "/dev/stdout"],
    ["error.log", "/dev/stderr"],
  ] as const) {
    symlinkSync(target, join(root, "var/log/nginx", name));
  }
}
