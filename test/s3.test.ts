// scripts/lib/s3*.ts, what can be told without a server: every failure as a sentence, what is tried again, sizes, regions, buffers.
import { expect, test } from "bun:test";
import type { Settings } from "../scripts/lib/config.ts";
import { Failure, formatFailure } from "../scripts/lib/failure.ts";
import { partBytesFor } from "../scripts/lib/s3.ts";
import { readerOf } from "../scripts/lib/s3-body.ts";
import { mayPass, regionFor } from "../scripts/lib/s3-client.ts";
import { explainStorage } from "../scripts/lib/s3-failure.ts";

const backup = {
  bucket: "acme-backups",
  endpoint: "https://s3.eu-central-003.backblazeb2.com",
  region: "eu-central-003",
  accessKeyFrom: "BACKUP_ACCESS_KEY_ID",
  secretKeyFrom: "BACKUP_SECRET_ACCESS_KEY",
} as NonNullable<Settings["backup"]>;
const credentials = { accessKeyId: "003f00dcafe", secretAccessKey: "K003verysecretvalue" };
const host = "s3.eu-central-003.backblazeb2.com";

/** As the SDK makes it of an answer. */
const answered = (status: number, name: string, message = "UnknownError", more: object = {}) =>
  Object.assign(new Error(message), { name, $metadata: { httpStatusCode: status }, ...more });

/** As the runtime makes it of a connection, alike on Bun, Deno and Node. */
const unanswered = (code: string, message: string, name = "Error") =>
  Object.assign(new Error(message), { name, code, $metadata: {} });

const timeout = Object.assign(new Error("no answer within 60 s"), { name: "TimeoutError" });

const sentences: [what: string, error: Error, mayPass: boolean, exitCode: number, text: string][] = [
  [
    "key id",
    answered(403, "InvalidAccessKeyId", "The key '003f00dcafe' is not valid"),
    false,
    2,
    `${host} does not know the key id in BACKUP_ACCESS_KEY_ID
  next: give BACKUP_ACCESS_KEY_ID and BACKUP_SECRET_ACCESS_KEY the values of a key of this storage, then run this again
  read: docs/runbook/bucket-gone.md`,
  ],
  [
    "secret",
    answered(403, "SignatureDoesNotMatch", "Signature validation failed"),
    false,
    2,
    `the secret in BACKUP_SECRET_ACCESS_KEY does not belong to the key id in BACKUP_ACCESS_KEY_ID
  next: give BACKUP_SECRET_ACCESS_KEY its right value, then run this again
  read: docs/runbook/bucket-gone.md`,
  ],
  [
    "rights",
    answered(403, "AccessDenied"),
    false,
    2,
    `the key in BACKUP_ACCESS_KEY_ID has no right to do that in the bucket "acme-backups"
  next: give the key this right at the storage, then run this again
  read: docs/runbook/bucket-gone.md`,
  ],
  [
    "rights, of a HEAD request",
    answered(403, "Unknown"),
    false,
    2,
    `the key in BACKUP_ACCESS_KEY_ID has no right to do that in the bucket "acme-backups"
  next: give the key this right at the storage, then run this again
  read: docs/runbook/bucket-gone.md`,
  ],
  [
    "bucket",
    answered(404, "NoSuchBucket", "The specified bucket does not exist"),
    false,
    2,
    `${host} has no bucket "acme-backups"
  next: create the bucket, or correct backup.bucket in dbops.config.ts, then run this again
  read: docs/runbook/bucket-gone.md`,
  ],
  ["object", answered(404, "NoSuchKey"), false, 1, "there is no such object"],
  [
    "region, 301",
    answered(301, "PermanentRedirect", "The bucket you are attempting to access must be addressed using …", {
      $response: { statusCode: 301, headers: { "x-amz-bucket-region": "eu-west-1" } },
    }),
    false,
    2,
    `the bucket "acme-backups" is in the region "eu-west-1", and not in "eu-central-003"
  next: correct backup.region and backup.endpoint in dbops.config.ts, then run this again`,
  ],
  [
    "region, 301 without a word",
    answered(301, "Unknown"),
    false,
    2,
    `the bucket "acme-backups" is not in the region "eu-central-003", or not at this endpoint
  next: correct backup.region and backup.endpoint in dbops.config.ts, then run this again`,
  ],
  [
    "region, signed for another",
    answered(400, "AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong; expecting 'eu-central-1'"),
    false,
    2,
    `the bucket "acme-backups" is in the region "eu-central-1", and not in "eu-central-003"
  next: correct backup.region and backup.endpoint in dbops.config.ts, then run this again`,
  ],
  [
    "clock",
    answered(403, "RequestTimeTooSkewed"),
    true,
    1,
    `the clock of this machine and that of ${host} are too far apart
  next: date --utc
  next: curl --silent --head https://${host} | grep -i ^date`,
  ],
  [
    "slow down",
    answered(503, "SlowDown"),
    true,
    1,
    `${host} still says, after several attempts, that there are too many requests
  next: wait a minute, then the same command again`,
  ],
  [
    "quota",
    answered(403, "QuotaExceeded"),
    false,
    3,
    `the storage has no room left for the bucket "acme-backups": its quota is used up, or its disks are full
  next: bun scripts/backup.ts prune
  next: raise the quota at the storage`,
  ],
  [
    "disks full",
    answered(507, "InsufficientCapacity"),
    false,
    3,
    `the storage has no room left for the bucket "acme-backups": its quota is used up, or its disks are full
  next: bun scripts/backup.ts prune
  next: raise the quota at the storage`,
  ],
  [
    "spending cap",
    answered(403, "AccessDenied", "Transaction cap exceeded, see the Caps & Alerts page"),
    false,
    3,
    `the storage's spending cap is reached: Transaction cap exceeded, see the Caps & Alerts page
  next: raise the cap at the storage`,
  ],
  [
    "refused",
    unanswered("ECONNREFUSED", "connect ECONNREFUSED 127.0.0.1:1"),
    true,
    1,
    `nothing listens at ${host}
  next: curl --verbose https://${host}
  read: docs/runbook/bucket-gone.md`,
  ],
  [
    "DNS",
    unanswered("ENOTFOUND", `getaddrinfo ENOTFOUND ${host}`, "DNSException"),
    true,
    1,
    `the host name ${host} cannot be resolved
  next: nslookup ${host}
  read: docs/runbook/bucket-gone.md`,
  ],
  [
    "TLS",
    unanswered("DEPTH_ZERO_SELF_SIGNED_CERT", "self-signed certificate"),
    false,
    2,
    `the certificate of ${host} is not trusted: self-signed certificate
  next: curl --verbose https://${host}
  next: NODE_EXTRA_CA_CERTS=FILE and the same command, if the authority is one of your own`,
  ],
  [
    "TLS with a server that has none",
    unanswered("ERR_SSL_WRONG_VERSION_NUMBER", "error:100000f7:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER"),
    false,
    2,
    `${host} does not speak TLS; an endpoint without TLS begins with "http://"
  next: correct backup.endpoint in dbops.config.ts, then run this again`,
  ],
  [
    "broken connection",
    // So the SDK calls it.
    unanswered("ECONNRESET", "read ECONNRESET", "TimeoutError"),
    true,
    1,
    `the connection to ${host} broke, more than once
  next: the same command again`,
  ],
  [
    "no answer",
    timeout,
    true,
    1,
    `${host} gives no answer within 60 s
  next: curl --verbose https://${host}
  read: docs/runbook/bucket-gone.md`,
  ],
  [
    "no route",
    unanswered("ENETUNREACH", "connect ENETUNREACH"),
    true,
    1,
    `there is no way to ${host} from here
  next: curl --verbose https://${host}
  read: docs/runbook/bucket-gone.md`,
  ],
  [
    "a proxy's page",
    answered(502, "Error", "@aws-sdk XML parse error: unexpected content.\n  Deserialization error: …"),
    true,
    1,
    `${host} answered 502
  next: the same command again`,
  ],
  [
    "anything else, without the secret",
    answered(400, "InvalidArgument", `bad: ${credentials.secretAccessKey} of ${credentials.accessKeyId}`),
    false,
    1,
    `${host} answered 400 InvalidArgument: bad: [secret] of [secret]
  next: the same command again`,
  ],
  [
    "a bug of ours",
    new TypeError("x is not a function"),
    false,
    1,
    "x is not a function\n  next: the same command again",
  ],
];

test.each(sentences)("%s: one sentence, and whether it is tried again", (_, error, passes, exitCode, text) => {
  const failure = explainStorage(error, "write s3://acme-backups/shop/1.dump", { backup, credentials });
  expect(formatFailure(failure)).toBe(`Cannot write s3://acme-backups/shop/1.dump: ${text}`);
  expect([failure.exitCode, mayPass(error)]).toEqual([exitCode, passes] as never);
  expect(JSON.stringify([failure.message, failure.next, failure.details])).not.toContain(credentials.secretAccessKey);
});

test("without an endpoint it is AWS, by its region", () => {
  const { endpoint: _, ...aws } = backup;
  const failure = explainStorage(unanswered("ENOTFOUND", "…"), "list s3://b", { backup: aws, credentials });
  expect(failure.why).toBe("the host name s3.eu-central-003.amazonaws.com cannot be resolved");
});

test.each([
  ["https://s3.eu-central-003.backblazeb2.com", "us-east-1", "eu-central-003"],
  ["https://s3.eu-west-1.amazonaws.com", "us-east-1", "eu-west-1"],
  ["https://s3-eu-west-1.amazonaws.com", "us-east-1", "eu-west-1"],
  ["https://s3.fr-par.scw.cloud", "us-east-1", "fr-par"],
  ["https://s3.eu-central-003.backblazeb2.com", "us-west-002", "us-west-002"],
  ["https://s3.amazonaws.com", "us-east-1", "us-east-1"],
  ["https://s3.example.com", "us-east-1", "us-east-1"],
  ["http://10.0.0.1:7480", "us-east-1", "us-east-1"],
  [undefined, "us-east-1", "us-east-1"],
])("regionFor(%p, %p) is %p", (endpoint, region, expected) => {
  expect(regionFor(endpoint, region)).toBe(expected);
});

test("partBytesFor() stays within 10,000 parts for a dump half as large again as its database", () => {
  const mebibyte = 2 ** 20;
  const gibibyte = 2 ** 30;
  const sizes = [0, 1, gibibyte, 52 * gibibyte, 104 * gibibyte, 1000 * gibibyte].map(partBytesFor);
  expect(sizes.map((bytes) => bytes / mebibyte)).toEqual([8, 8, 8, 8, 16, 154]);
  for (let bytes = 1; bytes < 3 * 2 ** 40; bytes *= 1.7) {
    expect((1.5 * bytes) / partBytesFor(bytes)).toBeLessThanOrEqual(10_000);
  }
});

test("readerOf() fills whole buffers out of chunks of any size, and the last one short", async () => {
  async function* chunks() {
    yield Buffer.from("abc");
    yield Buffer.alloc(0);
    yield Buffer.from("defghijk");
  }
  const read = async (body: Parameters<typeof readerOf>[0], partBytes: number) => {
    const reader = readerOf(body, partBytes, new AbortController().signal);
    const filled: string[] = [];
    do filled.push((await reader.fill(Buffer.alloc(reader.fillBytes))).toString());
    while (filled.at(-1)!.length === reader.fillBytes);
    return filled;
  };
  expect(await read(chunks(), 4)).toEqual(["abcd", "efgh", "ijk"]);
  expect(await read("abcdefgh", 4)).toEqual(["abcd", "efgh", ""]);
  // What is small takes a small buffer, and ends in it.
  expect(await read("abc", 2 ** 30)).toEqual(["abc"]);
  expect(await read(Buffer.alloc(0), 4)).toEqual([""]);
});

test("readerOf() throws what the body throws, and the signal's reason while the body is silent", async () => {
  const controller = new AbortController();
  const died = new Failure("pg_dump failed", "it exited with 3");
  const failing = (async function* () {
    yield Buffer.from("abc");
    throw died;
  })();
  const buffer = Buffer.alloc(10);
  await expect(readerOf(failing, 10, controller.signal).fill(buffer)).rejects.toBe(died);
  const silent = { [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => {}) }) };
  const filling = readerOf(silent, 10, controller.signal).fill(buffer);
  const interrupted = new Failure("Interrupted", "by SIGINT");
  controller.abort(interrupted);
  await expect(filling).rejects.toBe(interrupted);
});

test("a chunk that a body has given away is freed once it is copied; a piece of a larger one is not", async () => {
  const own = new Uint8Array(100_000).fill(97);
  const shared = new Uint8Array(200_000).fill(98);
  const piece = shared.subarray(0, 100_000);
  const body = (async function* () {
    yield own;
    yield piece;
  })();
  const filled = await readerOf(body, 1e6, new AbortController().signal).fill(Buffer.alloc(1e6));
  expect(filled.toString()).toBe("a".repeat(100_000) + "b".repeat(100_000));
  expect([own.length, piece.length]).toEqual([0, 100_000]);
});
