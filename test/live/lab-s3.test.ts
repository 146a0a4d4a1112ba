// The lab's S3 server behaves as the kit's backups need it: whole multipart uploads, conditional writes, locked objects, and
// every kind of refusal. Only the AWS SDK talks to it.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { createHash, randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type S3Client,
} from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import { poll } from "../../scripts/lib/wait.ts";
import { type S3, startS3 } from "../lab/s3.ts";

let s3: S3;
let client: S3Client;
const Bucket = "backups";
const mebibyte = 2 ** 20;

beforeAll(async () => {
  s3 = await startS3();
  client = s3.client({ maxAttempts: 1 });
  await s3.createBucket(Bucket);
}, 300_000);
afterAll(async () => {
  client?.destroy();
  await s3?.stop();
});

test("a stream goes up in concurrent parts and comes down as it was", async () => {
  const parts = Array.from({ length: 40 }, () => randomBytes(mebibyte));
  const upload = new Upload({
    client,
    params: { Bucket, Key: "large", Body: Readable.from(parts), Metadata: { rows: "7" } },
    queueSize: 4,
    partSize: 5 * mebibyte,
  });
  await upload.done();
  const { Body, Metadata, ETag } = await client.send(new GetObjectCommand({ Bucket, Key: "large" }));
  const received = createHash("sha256");
  for await (const chunk of Body as Readable) received.update(chunk);
  expect(received.digest("hex")).toBe(createHash("sha256").update(Buffer.concat(parts)).digest("hex"));
  expect([Metadata, ETag]).toEqual([{ rows: "7" }, expect.stringMatching(/-8"$/)]);
});

test("of eight writers of one new key exactly one wins, the others get 412", async () => {
  const write = (text: string) =>
    client.send(new PutObjectCommand({ Bucket, Key: "lock", Body: text, IfNoneMatch: "*" })).then(
      () => text,
      (error) => error.$metadata.httpStatusCode,
    );
  const outcomes = await Promise.all(Array.from({ length: 8 }, (_, index) => write(`writer ${index}`)));
  const winners = outcomes.filter((outcome) => typeof outcome === "string");
  expect(outcomes.filter((outcome) => outcome === 412)).toHaveLength(7);
  const { Body } = await client.send(new GetObjectCommand({ Bucket, Key: "lock" }));
  expect(winners).toEqual([await Body!.transformToString()]);
});

test("a locked object's version cannot be deleted before its time", async () => {
  await s3.createBucket("locked", { objectLock: true });
  const lock = { ObjectLockMode: "COMPLIANCE", ObjectLockRetainUntilDate: new Date(Date.now() + 60_000) } as const;
  const { VersionId } = await client.send(
    new PutObjectCommand({ Bucket: "locked", Key: "dump", Body: "kept", ...lock }),
  );
  const removal = new DeleteObjectCommand({ Bucket: "locked", Key: "dump", VersionId });
  expect(await refusal(client.send(removal))).toEqual([403, "AccessDenied"]);
  expect((await client.send(new HeadObjectCommand({ Bucket: "locked", Key: "dump", VersionId }))).ContentLength).toBe(
    4,
  );
});

test("wrong keys, another user and a missing bucket are refused, each in its own way", async () => {
  const { accessKeyId } = s3;
  const send = (credentials: { accessKeyId: string; secretAccessKey: string }, bucket: string) =>
    refusal(s3.client({ credentials, maxAttempts: 1 }).send(new ListObjectsV2Command({ Bucket: bucket })));
  expect(await send({ accessKeyId, secretAccessKey: "wrong" }, Bucket)).toEqual([403, "SignatureDoesNotMatch"]);
  expect(await send({ accessKeyId: "nobody", secretAccessKey: "wrong" }, Bucket)).toEqual([403, "InvalidAccessKeyId"]);
  expect(await send(s3.stranger, Bucket)).toEqual([403, "AccessDenied"]);
  expect(await send(s3, "no-such-bucket")).toEqual([404, "NoSuchBucket"]);
});

test("an upload whose source fails, or that is aborted, leaves nothing", async () => {
  async function* failing() {
    for (let part = 0; part < 12; part++) yield randomBytes(mebibyte);
    throw new Error("pg_dump died");
  }
  const upload = (Body: Readable) =>
    new Upload({ client, params: { Bucket, Key: "half", Body }, partSize: 5 * mebibyte, queueSize: 2 });
  await expect(upload(Readable.from(failing())).done()).rejects.toThrow("pg_dump died");
  const aborted = upload(Readable.from(Array.from({ length: 64 }, () => randomBytes(mebibyte))));
  aborted.once("httpUploadProgress", () => void aborted.abort());
  await expect(aborted.done()).rejects.toThrow("aborted");
  // After abort(), the SDK rejects first and removes the parts afterwards.
  const unfinished = async () => (await client.send(new ListMultipartUploadsCommand({ Bucket }))).Uploads ?? [];
  expect(await poll({ seconds: 10 }, async () => ((await unfinished()).length === 0 ? "none" : undefined))).toBe(
    "none",
  );
  const { Contents } = await client.send(new ListObjectsV2Command({ Bucket, Prefix: "half" }));
  expect(Contents).toBeUndefined();
});

test("a quota, a rate limit and a hanging gateway can be had, and healed", async () => {
  const put = (Key: string) => client.send(new PutObjectCommand({ Bucket: "limited", Key, Body: "x".repeat(1000) }));
  await s3.createBucket("limited");
  await s3.faults.limitSize(500);
  expect(await refusal(put("a"))).toEqual([403, "QuotaExceeded"]);
  await s3.faults.unlimit();
  await s3.faults.limitWrites(1);
  const answers = [await refusal(put("b")), await refusal(put("c")), await refusal(put("d"))];
  expect(answers).toContainEqual([503, "SlowDown"]);
  await s3.faults.unlimit();
  await s3.faults.hang();
  const impatient = { requestTimeout: 500, throwOnRequestTimeout: true };
  const hanging = s3.client({ maxAttempts: 1, requestHandler: impatient });
  await expect(hanging.send(new ListObjectsV2Command({ Bucket: "limited" }))).rejects.toThrow("500 ms");
  await s3.faults.proceed();
  await put("e");
});

/** Status and code of the error that S3 answered with, or "done". */
function refusal(sent: Promise<unknown>): Promise<[number, string] | "done"> {
  return sent.then(
    () => "done" as const,
    (error) => [error.$metadata.httpStatusCode, error.name] as [number, string],
  );
}
