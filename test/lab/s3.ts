// A real S3 server for live tests: Ceph's gateway in one container of the lab's engine, data in memory.
//   const s3 = await startS3();   await s3.createBucket("backups");   …   await s3.stop();
import { CreateBucketCommand, S3Client, type S3ClientConfig } from "@aws-sdk/client-s3";
import { Failure } from "../../scripts/lib/failure.ts";
import { type Result, run } from "../../scripts/lib/run.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { startEngine } from "./engine.ts";
import { ensureS3Image } from "./images/s3/image.ts";
import { describeSlot, type Owner, rememberContainer } from "./server/record.ts";
import { claimSlot, listenHere, releaseSlot } from "./server/slot.ts";

type Credentials = { accessKeyId: string; secretAccessKey: string };

export type S3 = Credentials & {
  /** "http://10.x.y.z:7480", from this machine and from every lab server. */
  endpoint: string;
  region: string;
  /** Another user, who may do nothing with the first one's buckets. */
  stranger: Credentials;
  /** A client of the AWS SDK as the kit uses it: checksums only where S3 wants them, a hanging server is an error. */
  client(options?: S3ClientConfig): S3Client;
  /** A name has at least 3 characters. Locked objects need a bucket that was made for them. */
  createBucket(name: string, options?: { objectLock?: boolean }): Promise<void>;
  faults: {
    /** No bucket of the user may become larger: QuotaExceeded, 403. */
    limitSize(bytes: number): Promise<void>;
    /** More writes in a minute get SlowDown, 503. */
    limitWrites(perMinute: number): Promise<void>;
    unlimit(): Promise<void>;
    /** Whatever the user asks for is refused: UserSuspended, 403. */
    suspend(): Promise<void>;
    resume(): Promise<void>;
    /** The gateway takes connections and never answers. */
    hang(): Promise<void>;
    proceed(): Promise<void>;
  };
  /** Removes the server and every trace. Harmless on repetition. */
  stop(): Promise<void>;
};

const port = 7480;
const startWithinSeconds = 60;

export async function startS3({ owner = "process" }: { owner?: Owner } = {}): Promise<S3> {
  const engine = await startEngine();
  const { environment } = engine;
  const image = await ensureS3Image(engine);
  const slot = await claimSlot("s3", owner);
  const docker = (...argv: string[]) => run({ argv: ["docker", ...argv], environment });
  const admin = (...argv: string[]) => docker("exec", slot.name, "radosgw-admin", "--name=client.rgw", ...argv);
  const stop = () => releaseSlot(slot);
  try {
    await listenHere(slot);
    rememberContainer(slot, slot.name, environment);
    const limits = ["--memory=3g", "--pids-limit=4096"];
    await docker(
      "run",
      "--detach",
      "--name",
      slot.name,
      ...limits,
      "--publish",
      `${slot.address}:${port}:${port}`,
      image,
    );
    const endpoint = `http://${slot.address}:${port}`;
    const answers = await poll({ seconds: startWithinSeconds }, async () => {
      const reply = await fetch(endpoint, { signal: AbortSignal.timeout(2000) }).catch(() => undefined);
      return reply?.status === 200 || (await hasEnded(slot.name, docker)) || undefined;
    });
    if (answers !== true) throw await startFailed(slot.name, docker);
    const credentials = keysIn(await admin("user", "info", "--uid=lab"));
    const stranger = keysIn(await admin("user", "create", "--uid=stranger", "--display-name=stranger"));
    const region = "us-east-1";
    const client = (options: S3ClientConfig = {}) =>
      new S3Client({
        ...{ endpoint, region, credentials, forcePathStyle: true },
        ...{ requestChecksumCalculation: "WHEN_REQUIRED", responseChecksumValidation: "WHEN_REQUIRED" },
        requestHandler: { connectionTimeout: 2000, requestTimeout: 20_000, throwOnRequestTimeout: true },
        ...options,
      });
    describeSlot(slot, { endpoint, region, keys: `docker exec ${slot.name} radosgw-admin user info --uid=lab` });
    return {
      ...{ endpoint, region, ...credentials, stranger, client, stop },
      async createBucket(name, { objectLock = false } = {}) {
        const sender = client();
        await sender.send(new CreateBucketCommand({ Bucket: name, ObjectLockEnabledForBucket: objectLock }));
        sender.destroy();
      },
      faults: {
        async limitSize(bytes) {
          await admin("quota", "set", "--quota-scope=bucket", "--uid=lab", `--max-size=${bytes}B`);
          await admin("quota", "enable", "--quota-scope=bucket", "--uid=lab");
        },
        async limitWrites(perMinute) {
          await admin("ratelimit", "set", "--ratelimit-scope=user", "--uid=lab", `--max-write-ops=${perMinute}`);
          await admin("ratelimit", "enable", "--ratelimit-scope=user", "--uid=lab");
        },
        async unlimit() {
          await admin("quota", "disable", "--quota-scope=bucket", "--uid=lab");
          await admin("ratelimit", "disable", "--ratelimit-scope=user", "--uid=lab");
        },
        suspend: async () => void (await admin("user", "suspend", "--uid=lab")),
        resume: async () => void (await admin("user", "enable", "--uid=lab")),
        hang: async () => void (await docker("kill", "--signal=STOP", slot.name)),
        proceed: async () => void (await docker("kill", "--signal=CONT", slot.name)),
      },
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

type Docker = (...argv: string[]) => Promise<Result>;

async function hasEnded(name: string, docker: Docker): Promise<"ended" | undefined> {
  const { stdout } = await docker("inspect", "--format", "{{.State.Running}}", name);
  return stdout.trim() === "true" ? undefined : "ended";
}

async function startFailed(name: string, docker: Docker): Promise<Failure> {
  const { stdout, stderr } = await docker("logs", "--tail=30", name);
  const details = `${stdout}${stderr}`.trimEnd();
  return new Failure("Cannot start an S3 server", "it does not answer", ["free -h    # has it 1 GB?"], { details });
}

function keysIn({ stdout }: Result): Credentials {
  const [key] = (JSON.parse(stdout) as { keys: { access_key: string; secret_key: string }[] }).keys;
  return { accessKeyId: key!.access_key, secretAccessKey: key!.secret_key };
}
