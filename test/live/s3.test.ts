// scripts/lib/s3.ts against Ceph's S3 gateway: whole objects or none, whatever the network, the storage or the body do meanwhile.
import { afterAll, afterEach, beforeAll, expect, setSystemTime, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { join } from "node:path";
import {
  CreateMultipartUploadCommand,
  GetObjectCommand,
  ListObjectVersionsCommand,
  PutBucketPolicyCommand,
  PutBucketVersioningCommand,
  PutObjectLockConfigurationCommand,
  type S3Client,
} from "@aws-sdk/client-s3";
import { parseConfig } from "../../scripts/lib/config.ts";
import { Failure } from "../../scripts/lib/failure.ts";
import { run } from "../../scripts/lib/run.ts";
import { openStore, type Store } from "../../scripts/lib/s3.ts";
import { usualPatience } from "../../scripts/lib/s3-client.ts";
import { poll } from "../../scripts/lib/wait.ts";
import { repository } from "../lab/repository.ts";
import { type S3, startS3 } from "../lab/s3.ts";
import { type S3Proxy, startS3Proxy } from "../lab/s3-proxy.ts";

let s3: S3;
let client: S3Client;
let proxy: S3Proxy;
/** Through the proxy. */
let store: Store;
const opened: Store[] = [];
const mebibyte = 2 ** 20;
const partBytes = 5 * mebibyte;
const noted: string[] = [];
const impatient = { ...usualPatience, waitSeconds: [0.01, 0.02, 0.05], note: (line: string) => void noted.push(line) };

type Where = { bucket?: string; endpoint?: string; prefix?: string };
type Keys = { accessKeyId: string; secretAccessKey: string };

async function open(where: Where = {}, keys: Keys = s3, patience: Partial<typeof impatient> = {}): Promise<Store> {
  const { backup } = parseConfig({
    name: "shop",
    database: "shop",
    app: { command: ["bun"], port: 3000 },
    schema: { criticalTables: [], extensions: [] },
    environments: { local: {} },
    backup: { bucket: "backups", endpoint: s3.endpoint, ...where },
  });
  const { accessKeyId, secretAccessKey } = keys;
  const one = await openStore(backup!, { accessKeyId, secretAccessKey }, { ...impatient, ...patience });
  opened.push(one);
  return one;
}

beforeAll(async () => {
  s3 = await startS3();
  client = s3.client({ maxAttempts: 1 });
  await s3.createBucket("backups");
  proxy = await startS3Proxy(s3.endpoint);
  store = await open({ endpoint: proxy.url, prefix: "acme" });
}, 300_000);
afterEach(() => proxy.clear());
afterAll(async () => {
  for (const one of opened) one.close();
  client?.destroy();
  await proxy?.stop();
  await s3?.stop();
});

/** A body of so many chunks of 1 MiB, and what it throws at the end, if anything. */
async function* chunks(count: number, error?: unknown) {
  const content = randomBytes(mebibyte);
  for (let number = 0; number < count; number++) yield Buffer.from(content);
  if (error) throw error;
}

const sha256 = (data: Uint8Array) => createHash("sha256").update(data).digest("hex");

async function hashOf(from: Store, key: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of from.get(key)) hash.update(chunk);
  return hash.digest("hex");
}

/** What an upload has left of itself: objects and unfinished uploads. */
async function traces(key: string): Promise<string[]> {
  const [objects, uploads] = await Promise.all([store.list(key), store.listUnfinished(key)]);
  return [...objects.map(({ key }) => key), ...uploads.map(({ key }) => `${key}, unfinished`)];
}

const failureOf = (promise: Promise<unknown>): Promise<Failure> =>
  promise.then(
    () => Promise.reject(new Error("it did not fail")),
    (error) => (error instanceof Failure ? error : Promise.reject(error)),
  );

const said = async (promise: Promise<unknown>) => {
  const { message, exitCode } = await failureOf(promise);
  return [message, exitCode] as const;
};

test.each([
  ["several parts", 12.5 * mebibyte],
  ["exactly two parts", 2 * partBytes],
  ["exactly one part", partBytes],
  ["less than a part", 1000],
  ["nothing", 0],
])("a stream of %s goes up and comes down as it was", async (name, bytes) => {
  const data = randomBytes(bytes);
  const pieces = async function* () {
    for (let at = 0; at < bytes; at += 100_003) yield Uint8Array.from(data.subarray(at, at + 100_003));
  };
  const seen: number[] = [];
  const sent = await store.put(`round/${name}`, pieces(), { partBytes, onBytes: (count) => seen.push(count) });
  expect(sent).toEqual({ bytes, sha256: sha256(data) });
  expect(await hashOf(store, `round/${name}`)).toBe(sent.sha256);
  expect([seen.at(-1), seen.toSorted((a, b) => a - b)]).toEqual([bytes, seen]);
  expect(await store.list(`round/${name}`)).toEqual([{ key: `round/${name}`, bytes, modified: expect.any(Date) }]);
});

test("keys are relative to the prefix, and texts come back as they were", async () => {
  await store.put("text/a.json", "größe\n");
  await store.put("text/b.json", Buffer.from("b"));
  expect([await store.getText("text/a.json"), await store.getText("text/b.json")]).toEqual(["größe\n", "b"]);
  const { Body } = await client.send(new GetObjectCommand({ Bucket: "backups", Key: "acme/text/a.json" }));
  expect(await Body!.transformToString()).toBe("größe\n");
  expect(store.name).toBe("s3://backups/acme");
});

test("every upload carries Content-MD5, and none of the checksums that other storages refuse", async () => {
  await store.put("headers", chunks(11), { partBytes });
  await store.put("headers-small", "small");
  const uploads = proxy.requests.filter(({ label }) => label.startsWith("PUT"));
  expect(uploads).toHaveLength(4);
  for (const { headers } of uploads) {
    expect(headers["content-md5"]).toHaveLength(24);
    expect(Object.keys(headers).filter((name) => /checksum|trailer|^expect$|content-encoding/.test(name))).toEqual([]);
  }
});

const part2 = /^PUT .*partNumber=2/;
const busy = { status: 503, code: "SlowDown" };

test.each([
  ["the storage is busy for a while", part2, [busy, { status: 500, code: "InternalError" }]],
  ["the connection breaks in the middle of a part", part2, [{ resetAfter: 2 * mebibyte }]],
  ["a byte arrives as another one", part2, ["damage" as const]],
  ["the answer to a part is lost", part2, ["lose the answer" as const]],
  ["it cannot be begun at once", /^POST .*uploads/, [busy]],
  ["it cannot be completed at once", /^POST .*uploadId/, [busy, { status: 500, code: "InternalError" }]],
  // As AWS does it: it has said 200 before it began.
  ["its completion fails after all", /^POST .*uploadId/, [{ page: "<Error><Code>InternalError</Code></Error>" }]],
  ["the answer to its completion is lost", /^POST .*uploadId/, ["lose the answer" as const]],
  ["a proxy's page answers instead", part2, [{ status: 502, code: "" }]],
])("an upload succeeds although %s", async (name, requests, faults) => {
  proxy.hit(requests, ...faults);
  const sent = await store.put(`healed/${name}`, chunks(12), { partBytes });
  expect(proxy.requests.filter(({ label }) => requests.test(label)).length).toBeGreaterThan(faults.length);
  expect([sent.bytes, await hashOf(store, `healed/${name}`)]).toEqual([12 * mebibyte, sent.sha256]);
  expect(await traces("healed/")).not.toContain(`healed/${name}, unfinished`);
});

test("a part that is not answered is sent again", async () => {
  const hasty = await open({ endpoint: proxy.url }, s3, { requestSeconds: 3, secondsPerMebibyte: 0 });
  proxy.hit(part2, "hang");
  const { bytes } = await hasty.put("hung", chunks(12), { partBytes });
  expect([bytes, (await hasty.list("hung"))[0]!.bytes]).toEqual([12 * mebibyte, 12 * mebibyte]);
});

const always = <T>(fault: T) => Array<T>(100).fill(fault);

test.each([
  ["still says, after several attempts, that there are too many requests", always(busy)],
  ["the connection to .* broke, more than once", always({ resetAfter: mebibyte })],
  ["answered 500 InternalError: said the proxy", always({ status: 500, code: "InternalError" })],
  ["has no room left", [{ status: 507, code: "InsufficientCapacity" }]],
])("an upload that does not get through says so, and leaves nothing: %s", async (sentence, faults) => {
  proxy.hit(part2, ...faults);
  let wasStopped = false;
  const body = (async function* () {
    try {
      yield* chunks(1000);
    } finally {
      wasStopped = true;
    }
  })();
  const failure = await failureOf(store.put("refused", body, { partBytes }));
  expect(failure.message).toMatch(new RegExp(`^Cannot write s3://backups/acme/refused: .*${sentence}`));
  expect([wasStopped, await traces("refused")]).toEqual([true, []]);
});

test("an upload that cannot be completed leaves nothing", async () => {
  proxy.hit(/^POST .*uploadId/, ...always({ status: 500, code: "InternalError" }));
  const failure = await failureOf(store.put("incomplete", chunks(12), { partBytes }));
  expect(failure.why).toContain("answered 500 InternalError");
  expect(await traces("incomplete")).toEqual([]);
});

test.each([0, 1, 5, 12])(
  "a body that fails after %d MiB is no object, and its error is what is thrown",
  async (count) => {
    const died = new Failure("pg_dump failed", "it exited with 3");
    await expect(store.put("half", chunks(count, died), { partBytes })).rejects.toBe(died);
    expect(await traces("half")).toEqual([]);
  },
);

test("an upload that is interrupted rejects only when nothing of it is left", async () => {
  const reason = new Failure("Interrupted", "by SIGINT", [], { exitCode: 130 });
  for (const parts of [0, 1, 3]) {
    const controller = new AbortController();
    const body = (async function* () {
      yield* chunks(parts * 5 + 1);
      controller.abort(reason);
      // A program that says nothing any more must not keep anybody waiting.
      await new Promise(() => {});
    })();
    const uploading = store.put(
      "interrupted",
      { [Symbol.asyncIterator]: () => ({ next: () => body.next() }) },
      {
        partBytes,
        interrupted: controller.signal,
      },
    );
    await expect(uploading).rejects.toBe(reason);
    expect(await traces("interrupted")).toEqual([]);
  }
  const unsent = store.put("interrupted", chunks(12), { partBytes, interrupted: AbortSignal.abort(reason) });
  await expect(unsent).rejects.toBe(reason);
});

test("an interruption does not wait for a storage that hangs", async () => {
  const reason = new Failure("Interrupted", "by SIGINT", [], { exitCode: 130 });
  const controller = new AbortController();
  proxy.hit(part2, "hang");
  const onBytes = () => controller.abort(reason);
  const hung = store.put("cut", chunks(12), { partBytes, onBytes, interrupted: controller.signal });
  await expect(hung).rejects.toBe(reason);
  expect(await traces("cut")).toEqual([]);
});

test.each([
  ["begun", /^POST .*uploads/],
  ["completed", /^POST .*uploadId/],
])("an upload that is interrupted while it is being %s is whole, or leaves nothing", async (_, request) => {
  const reason = new Failure("Interrupted", "by SIGINT", [], { exitCode: 130 });
  const controller = new AbortController();
  proxy.hit(request, { answerAfterSeconds: 0.5 });
  const uploading = store.put("between", chunks(12), { partBytes, interrupted: controller.signal });
  const outcome = uploading.catch((error) => error);
  await poll({ seconds: 20 }, async () => proxy.requests.find(({ label }) => request.test(label)));
  controller.abort(reason);
  const left = (await outcome) === reason ? [] : ["between"];
  expect(await traces("between")).toEqual(left);
  await store.remove(["between"]);
});

test("where the parts cannot be removed either, the failure says what is left, and it can be found and removed", async () => {
  proxy.hit(part2, { status: 507, code: "InsufficientCapacity" });
  proxy.hit(/^DELETE/, ...always({ status: 500, code: "InternalError" }));
  const { why, details } = await failureOf(store.put("left", chunks(12), { partBytes }));
  expect(why).toContain("has no room left");
  expect(details).toBe(
    "What was sent of s3://backups/acme/left is still in the bucket, as an unfinished upload; pruning removes it.",
  );
  proxy.clear();
  const [upload] = await store.listUnfinished("left");
  expect(upload).toEqual({ key: "left", uploadId: expect.any(String), begun: expect.any(Date) });
  await store.abortUnfinished(upload!.key, upload!.uploadId);
  await store.abortUnfinished(upload!.key, upload!.uploadId);
  expect(await traces("left")).toEqual([]);
});

test("two uploads at once do not disturb each other", async () => {
  const put = (key: string) => store.put(key, chunks(17), { partBytes });
  const [one, other] = await Promise.all([put("both/one"), put("both/other")]);
  expect([await hashOf(store, "both/one"), await hashOf(store, "both/other")]).toEqual([one.sha256, other.sha256]);
});

test("an object takes little memory on its way up, and on its way down, however large it is", async () => {
  const { endpoint, accessKeyId, secretAccessKey } = s3;
  for (const direction of ["up", "down"]) {
    const { stdout } = await run({
      argv: ["bun", join(repository, "test/lab/s3-memory.ts"), direction, "400"],
      stdin: JSON.stringify({ endpoint, accessKeyId, secretAccessKey }),
    });
    const { bytes, peakMebibytes } = JSON.parse(stdout);
    expect(bytes).toBe(400 * mebibyte);
    expect(peakMebibytes, direction).toBeLessThan(170);
  }
});

test.each([
  ["ends", { cutAnswerAfter: 3 * mebibyte }],
  ["stops", { stallAnswerAfter: 3 * mebibyte }],
])("a download that %s in the middle is taken up again there; and one that never goes on throws", async (_, fault) => {
  const { sha256 } = await store.put("down", chunks(12), { partBytes });
  const reader = await open({ endpoint: proxy.url, prefix: "acme" }, s3, { stallSeconds: 0.5, requestSeconds: 3 });
  const down = /^GET .*\/down/;
  const nothing = "cutAnswerAfter" in fault ? { cutAnswerAfter: 1 } : { stallAnswerAfter: 1 };
  proxy.hit(down, fault, fault, nothing);
  expect(await hashOf(reader, "down")).toBe(sha256);
  expect(proxy.requests.filter(({ label }) => down.test(label)).map(({ headers }) => headers.range)).toEqual([
    ...[undefined, `bytes=${3 * mebibyte}-`, `bytes=${6 * mebibyte}-`, `bytes=${6 * mebibyte + 1}-`],
  ]);
  proxy.hit(down, fault, ...always(nothing));
  expect((await failureOf(hashOf(reader, "down"))).why).toBe("the download broke off after 3145733 of 12582912 bytes");
  proxy.clear();
  // Somebody has put another one there meanwhile: the two must not become one.
  proxy.hit(down, fault);
  const changing = async () => {
    let wasChanged = false;
    for await (const _ of reader.get("down")) {
      if (!wasChanged) await store.put("down", chunks(12), { partBytes });
      wasChanged = true;
    }
  };
  expect((await failureOf(changing())).why).toContain("answered 412 PreconditionFailed");
  // Whoever leaves early, or is interrupted, gets no error of the connection.
  for await (const chunk of reader.get("down")) {
    expect(chunk.length).toBeGreaterThan(0);
    break;
  }
  const controller = new AbortController();
  const reason = new Failure("Interrupted", "by SIGINT");
  const interrupted = async () => {
    for await (const _ of reader.get("down", { interrupted: controller.signal })) controller.abort(reason);
  };
  await expect(interrupted()).rejects.toBe(reason);
});

test("a download that cannot begin at once begins a little later", async () => {
  await store.put("later", "now");
  proxy.hit(/^GET .*\/later/, busy, { resetAfter: 0 }, "lose the answer");
  expect(await store.getText("later")).toBe("now");
});

test("lists go on after the first thousand, of objects and of unfinished uploads", async () => {
  const many = await open({ prefix: "many" });
  const keys = Array.from({ length: 1200 }, (_, index) => `object-${String(index).padStart(4, "0")}`);
  const inTurn = async (work: (key: string) => Promise<unknown>) => {
    const left = [...keys];
    const worker = async () => {
      for (let key = left.pop(); key; key = left.pop()) await work(key);
    };
    await Promise.all(Array.from({ length: 8 }, worker));
  };
  await inTurn((key) => many.put(key, "x"));
  await inTurn((key) => client.send(new CreateMultipartUploadCommand({ Bucket: "backups", Key: `many/${key}` })));
  expect((await many.list("")).map(({ key }) => key)).toEqual(keys);
  expect((await many.list("object-11")).length).toBe(100);
  const unfinished = await many.listUnfinished("");
  expect(unfinished.map(({ key }) => key).toSorted()).toEqual(keys);
});

/** How many versions and delete markers there are, and what a list shows. */
async function remains(bucket: string, key: string) {
  const answer = await client.send(new ListObjectVersionsCommand({ Bucket: bucket, Prefix: key }));
  return { versions: answer.Versions?.length ?? 0, markers: answer.DeleteMarkers?.length ?? 0 };
}

test("remove() removes every version, and nothing else; and what is gone already is no error", async () => {
  await s3.createBucket("versioned");
  const enabled = { Bucket: "versioned", VersioningConfiguration: { Status: "Enabled" as const } };
  await client.send(new PutBucketVersioningCommand(enabled));
  const versioned = await open({ bucket: "versioned" });
  for (const key of ["a", "a", "a", "ab", "b"]) await versioned.put(key, key);
  await versioned.remove(["a", "b", "never-there"]);
  expect((await versioned.list("")).map(({ key }) => key)).toEqual(["ab"]);
  expect([await remains("versioned", "a"), await remains("versioned", "b")]).toEqual([
    { versions: 1, markers: 0 },
    { versions: 0, markers: 0 },
  ]);
  await store.put("plain", "x");
  await store.remove(["plain"]);
  await store.remove(["plain"]);
  expect(await traces("plain")).toEqual([]);
});

test("what object lock keeps is not even hidden, and nothing behind it is touched; uploads into a locked bucket work", async () => {
  await s3.createBucket("kept", { objectLock: true });
  const rule = { DefaultRetention: { Mode: "COMPLIANCE" as const, Days: 1 } };
  const configuration = { ObjectLockEnabled: "Enabled" as const, Rule: rule };
  await client.send(new PutObjectLockConfigurationCommand({ Bucket: "kept", ObjectLockConfiguration: configuration }));
  const kept = await open({ bucket: "kept" });
  await kept.put("manifest", "small");
  await kept.put("dump", chunks(12), { partBytes });
  const failure = await failureOf(kept.remove(["manifest", "dump"]));
  expect(failure.message).toMatch(/^Cannot remove s3:\/\/kept\/manifest: object lock keeps it until 20\d\d-.*Z$/);
  expect([failure.exitCode, failure.next]).toEqual([5, ["the same command again, after that"]]);
  expect((await kept.list("")).map(({ key }) => key)).toEqual(["dump", "manifest"]);
});

/** A bucket of the first user's, in which the stranger may do these things, and not read what he has written himself. */
async function bucketFor(bucket: string, ...actions: string[]): Promise<Store> {
  await s3.createBucket(bucket);
  const Resource = [`arn:aws:s3:::${bucket}`, `arn:aws:s3:::${bucket}/*`];
  const stranger = { Principal: { AWS: "arn:aws:iam:::user/stranger" }, Resource };
  const Statement = [
    { ...stranger, Effect: "Allow", Action: actions },
    { ...stranger, Effect: "Deny", Action: ["s3:GetObject", "s3:ListBucketVersions"] },
  ];
  const Policy = JSON.stringify({ Version: "2012-10-17", Statement });
  await client.send(new PutBucketPolicyCommand({ Bucket: bucket, Policy }));
  return open({ bucket }, s3.stranger);
}

test("a key that may write and nothing else is enough for an upload", async () => {
  const writer = await bucketFor("write-only", "s3:PutObject", "s3:AbortMultipartUpload");
  await writer.put("small", "x");
  const { bytes } = await writer.put("large", chunks(12), { partBytes });
  await expect(writer.put("half", chunks(12, new Error("died")), { partBytes })).rejects.toThrow("died");
  const owner = await open({ bucket: "write-only" });
  expect((await owner.list("")).map(({ key, bytes }) => [key, bytes])).toEqual([
    ["large", bytes],
    ["small", 1],
  ]);
  expect(await owner.listUnfinished("")).toEqual([]);
  expect(await said(writer.getText("small"))).toEqual([
    'Cannot read s3://write-only/small: the key in BACKUP_ACCESS_KEY_ID has no right to do that in the bucket "write-only"',
    2,
  ]);
});

test("where old versions cannot be seen, remove() says that the object is only hidden", async () => {
  const writer = await bucketFor("hiding", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket");
  await writer.put("a", "x");
  await writer.remove(["a"]);
  expect(await writer.list("")).toEqual([]);
  const enabled = { Bucket: "hiding", VersioningConfiguration: { Status: "Enabled" as const } };
  await client.send(new PutBucketVersioningCommand(enabled));
  await writer.put("b", "x");
  const failure = await failureOf(writer.remove(["b"]));
  expect([failure.message, failure.exitCode]).toEqual([
    "Cannot remove s3://hiding/b: it is hidden now, and still there: the bucket keeps versions, and the key in BACKUP_ACCESS_KEY_ID may not list them",
    2,
  ]);
});

test("wrong keys, a missing bucket and a stranger are told apart, and never a secret with them", async () => {
  const { accessKeyId } = s3;
  const secretAccessKey = "wrong-but-secret";
  const host = new URL(s3.endpoint).host;
  const list = async (where: Where, keys?: Keys) => said((await open(where, keys)).list("x"));
  expect(await list({}, { accessKeyId: "nobody", secretAccessKey })).toEqual([
    `Cannot list s3://backups/x: ${host} does not know the key id in BACKUP_ACCESS_KEY_ID`,
    2,
  ]);
  expect(await list({}, { accessKeyId, secretAccessKey })).toEqual([
    "Cannot list s3://backups/x: the secret in BACKUP_SECRET_ACCESS_KEY does not belong to the key id in BACKUP_ACCESS_KEY_ID",
    2,
  ]);
  const whole = await failureOf((await open({}, { accessKeyId, secretAccessKey })).list("x"));
  expect(Bun.inspect(whole, { depth: 20 })).not.toContain(secretAccessKey);
  expect(await list({}, s3.stranger)).toEqual([
    'Cannot list s3://backups/x: the key in BACKUP_ACCESS_KEY_ID has no right to do that in the bucket "backups"',
    2,
  ]);
  expect(await list({ bucket: "no-such-bucket" })).toEqual([
    `Cannot list s3://no-such-bucket/x: ${host} has no bucket "no-such-bucket"`,
    2,
  ]);
  const missing = await open({ bucket: "no-such-bucket" });
  expect(await said(missing.put("x", "x"))).toEqual([
    `Cannot write s3://no-such-bucket/x: ${host} has no bucket "no-such-bucket"`,
    2,
  ]);
  expect(await said(store.getText("absent"))).toEqual([
    "Cannot read s3://backups/acme/absent: there is no such object",
    1,
  ]);
});

test("a web page is no empty list", async () => {
  proxy.hit(/./, ...always({ page: "<html><body>Welcome</body></html>" }));
  expect(await said(store.list(""))).toEqual([
    "Cannot list s3://backups/acme/: what answers there does not speak S3: it may be a web page, or a proxy in between",
    2,
  ]);
  expect((await said(store.put("x", "x")))[1]).toBe(1);
});

test("nobody there: refused and unknown hosts are told apart, and an unknown one at once", async () => {
  const refused = await open({ endpoint: "http://127.0.0.1:1" });
  expect(await said(refused.list("x"))).toEqual(["Cannot list s3://backups/x: nothing listens at 127.0.0.1:1", 1]);
  const nowhere = await open({ endpoint: "https://storage.invalid" }, s3, { waitSeconds: [0.01, 600] });
  expect(await said(nowhere.list("x"))).toEqual([
    "Cannot list s3://backups/x: the host name storage.invalid cannot be resolved",
    1,
  ]);
});

test("a storage that is just being started is waited for, and people are told", async () => {
  const { port } = new URL(proxy.url);
  await proxy.stop();
  // Half of them at least: 8 s.
  const patient = await open({ endpoint: proxy.url, prefix: "acme" }, s3, { waitSeconds: [0.01, 4, 4, 4, 4] });
  noted.length = 0;
  await (await open({ prefix: "acme" })).put("started/a", "x");
  const listed = patient.list("started/");
  expect(await poll({ seconds: 10 }, async () => noted[0])).toBe(
    `         nothing listens at 127.0.0.1:${port}; tried again within 4 s`,
  );
  proxy = await startS3Proxy(s3.endpoint, Number(port));
  expect((await listed).map(({ key }) => key)).toEqual(["started/a"]);
  store = await open({ endpoint: proxy.url, prefix: "acme" });
});

test("a quota is told, and a clock that is an hour off does no harm", async () => {
  await s3.createBucket("small");
  const small = await open({ bucket: "small" });
  await s3.faults.limitSize(1000);
  const told = await said(small.put("x", "x".repeat(2000))).finally(s3.faults.unlimit);
  expect(told).toEqual([
    'Cannot write s3://small/x: the storage has no room left for the bucket "small": its quota is used up, or its disks are full',
    3,
  ]);
  const skewed = await open({ bucket: "small" });
  setSystemTime(new Date(Date.now() + 3_600_000));
  try {
    await skewed.put("y", "y");
  } finally {
    setSystemTime();
  }
  expect(await small.getText("y")).toBe("y");
});
