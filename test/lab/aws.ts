// AWS' own command line program, from Debian, and the one call of Secrets Manager that the kit makes of it.
//   const aws = await startAws({ "shop/production": '{"KEY":"value"}' });   …   aws.environment   …   await aws.stop();
import { chmodSync, existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "../../scripts/lib/run.ts";
import { cacheFolder, hashOf, step, whole } from "./cache.ts";
import { fetchPackages, unpack } from "./debian.ts";

export type Aws = {
  /** PATH with `aws` in front, credentials, and where the service is. */
  environment: Readonly<Record<string, string>>;
  /** The names that were asked for, oldest first. */
  asked: readonly string[];
  stop(): Promise<void>;
};

export async function startAws(secrets: Readonly<Record<string, string>>): Promise<Aws> {
  const asked: string[] = [];
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request) {
      const { SecretId } = (await request.json()) as { SecretId: string };
      asked.push(SecretId);
      if (request.headers.get("x-amz-target") !== "secretsmanager.GetSecretValue")
        return fault("UnknownOperation", "?");
      const SecretString = secrets[SecretId];
      if (SecretString !== undefined) return Response.json({ Name: SecretId, SecretString });
      return fault("ResourceNotFoundException", "Secrets Manager can't find the specified secret.");
    },
  });
  return {
    environment: {
      PATH: `${join(await awsProgram(), "bin")}:${process.env.PATH}`,
      HOME: "/root",
      AWS_ACCESS_KEY_ID: "AKIALAB",
      AWS_SECRET_ACCESS_KEY: "a-key-of-the-lab",
      AWS_EC2_METADATA_DISABLED: "true",
      AWS_ENDPOINT_URL: `http://127.0.0.1:${server.port}`,
    },
    asked,
    stop: () => server.stop(true),
  };
}

const fault = (type: string, message: string) => Response.json({ __type: type, message }, { status: 400 });

/** sid's, because it is the one that can be sent to another address by its environment. Its libraries are of sid as well: it runs in a root of its own. */
async function awsProgram(): Promise<string> {
  const set = { suite: "sid", packages: ["awscli"], installed: ["groff-base", "perl", "media-types"] } as const;
  const folder = cacheFolder("aws", hashOf(JSON.stringify(set)).slice(0, 12));
  if (existsSync(folder)) return folder;
  return await step("the AWS command line program unpacked from packages", () =>
    whole(folder, async (temporary) => {
      const root = join(temporary, "root");
      await unpack(await fetchPackages(set), root);
      rmSync(join(root, "usr/lib/python3/dist-packages/awscli/examples"), { recursive: true, force: true });
      for (const name of ["dev", "tmp", "bin"]) mkdirSync(join(root, name), { recursive: true });
      // Its TLS library looks for randomness here, although it is not used.
      await run({ argv: ["mknod", "-m", "666", join(root, "dev/urandom"), "c", "1", "9"] });
      mkdirSync(join(temporary, "bin"));
      const wrapper = join(temporary, "bin/aws");
      writeFileSync(wrapper, '#!/bin/sh\nexec chroot "$(dirname "$(readlink -f "$0")")/../root" /usr/bin/aws "$@"\n');
      chmodSync(wrapper, 0o755);
    }),
  );
}
