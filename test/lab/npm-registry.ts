// A package registry on loopback that knows the given tarballs and nothing else: what npx, bunx, pnpm, yarn and deno ask
// of a registry is one metadata document and one download.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { run } from "../../scripts/lib/run.ts";

export type Registry = { url: string; stop(): Promise<void> };

export async function startRegistry(tarballs: readonly string[]): Promise<Registry> {
  const packages = new Map<string, { metadata: (origin: string) => object; bytes: Buffer }>();
  for (const tarball of tarballs) {
    const packed = await run({ argv: ["tar", "-xzOf", tarball, "package/package.json"] });
    const manifest = JSON.parse(packed.stdout);
    const bytes = readFileSync(tarball);
    packages.set(manifest.name, { bytes, metadata: (origin) => metadataOf(manifest, bytes, origin) });
  }
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch(request) {
      const { pathname, origin } = new URL(request.url);
      const [, name = "", isDownload] = /^\/([^/]+)(\/-\/.+\.tgz)?$/.exec(decodeURIComponent(pathname)) ?? [];
      const found = packages.get(name);
      if (!found) return Response.json({ error: "Not found" }, { status: 404 });
      return isDownload ? new Response(new Uint8Array(found.bytes)) : Response.json(found.metadata(origin));
    },
  });
  return { url: `http://127.0.0.1:${server.port}/`, stop: () => server.stop(true) };
}

function metadataOf(manifest: { name: string; version: string }, bytes: Buffer, origin: string): object {
  const { name, version } = manifest;
  const dist = {
    tarball: `${origin}/${name}/-/${name}-${version}.tgz`,
    shasum: createHash("sha1").update(bytes).digest("hex"),
    integrity: `sha512-${createHash("sha512").update(bytes).digest("base64")}`,
  };
  return { name, "dist-tags": { latest: version }, versions: { [version]: { ...manifest, dist } } };
}
