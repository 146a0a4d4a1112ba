// One request to object storage: how long it may take, when it is sent again, and how the SDK is told not to be clever.
import type { S3Client } from "@aws-sdk/client-s3";
import type { Settings } from "./config.ts";
import { printable } from "./printable.ts";
import { type Asked, codeOf, explainStorage, nameOf, statusOf } from "./s3-failure.ts";
import { poll } from "./wait.ts";

export type Credentials = { accessKeyId: string; secretAccessKey: string };

export type Storage = {
  sdk: typeof import("@aws-sdk/client-s3");
  client: S3Client;
  Bucket: string;
  /** The name of the variable that the key's id came from. */
  accessKeyFrom: string;
  /** "s3://bucket/prefix" */
  name: string;
  /** What stands in front of every key in the bucket: "prefix/", or nothing. */
  before: string;
  ask: Ask;
  patience: Patience;
};

/**
 * @param doing what a message says cannot be done: "list s3://bucket".
 * @param request is called again when that may help; it has to hand the signal to the SDK.
 * @throws {Failure} with the SDK's error as its cause; the reason of `interrupted` when that is aborted.
 */
type Ask = <T>(doing: string, request: (signal: AbortSignal) => Promise<T>, options?: AskOptions) => Promise<T>;

type AskOptions = {
  /** For one attempt. Default: Patience's requestSeconds. */
  seconds?: number;
  interrupted?: AbortSignal | undefined;
  /** An interruption lets a request that is on its way come to its end: what it does can be undone only once its answer is known. */
  uncut?: boolean;
};

export type Patience = {
  /** Before each further attempt, or half of it. */
  waitSeconds: readonly number[];
  /** For the answer to one attempt; those that move data have more. */
  requestSeconds: number;
  /** A part may take this much longer for each MiB that it has: 32 KiB/s, with two or three parts on their way at once. */
  secondsPerMebibyte: number;
  /** A download from which nothing comes for so long is given up. */
  stallSeconds: number;
  /** Gets a line for people before a wait that they would notice. */
  note(line: string): void;
};

/**
 * Half a minute of a storage that is restarted must not cost a dump of three hours; and a small request that never gets an
 * answer fails after four minutes at most.
 */
export const usualPatience: Patience = {
  waitSeconds: [0.25, 1, 4, 15, 30],
  requestSeconds: 30,
  secondsPerMebibyte: 32,
  stallSeconds: 60,
  note: (line) => console.error(line),
};

export function newClient(
  sdk: Storage["sdk"],
  { endpoint, region, pathStyle }: NonNullable<Settings["backup"]>,
  credentials: Credentials,
): S3Client {
  return new sdk.S3Client({
    ...(endpoint && { endpoint }),
    region: regionFor(endpoint, region),
    credentials,
    forcePathStyle: pathStyle ?? endpoint !== undefined,
    // By default the SDK adds checksums that other storages have refused, and asks for them in answers. We send Content-MD5.
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    // The SDK would open a new connection for every part, and wait on it before it sends anything.
    expectContinueHeader: false,
    // requester() sends again what may pass, and knows how long an answer may take; it can be interrupted meanwhile.
    maxAttempts: 1,
    // Otherwise it complains on the console about what is tried again.
    logger: { trace() {}, debug() {}, info() {}, warn() {}, error() {} },
    requestHandler: { connectionTimeout: 10_000, throwOnRequestTimeout: true },
  });
}

/** Most endpoints name their region: whoever copies one from a console need not write it a second time. */
export function regionFor(endpoint: string | undefined, region: string): string {
  const isDefault = region === "us-east-1";
  const named = endpoint && /^https?:\/\/s3[.-]([a-z]+-[a-z0-9-]+)\.[a-z]/.exec(endpoint)?.[1];
  return isDefault && named ? named : region;
}

const noticedSeconds = 4;

export function requester(asked: Asked, { waitSeconds, requestSeconds, note }: Patience): Ask {
  let hasAnswered = false;
  return async (doing, request, { seconds = requestSeconds, interrupted, uncut = false } = {}) => {
    for (let attempt = 0; ; attempt++) {
      try {
        interrupted?.throwIfAborted();
        const answer = await limited(request, seconds, uncut ? undefined : interrupted);
        hasAnswered = true;
        return answer;
      } catch (error) {
        interrupted?.throwIfAborted();
        hasAnswered ||= statusOf(error) !== undefined;
        const failure = explainStorage(error, doing, asked);
        // A host that nobody has ever heard of is a wrong address. One that does not answer yet may be starting.
        const isUnknown = !hasAnswered && codeOf(error) === "ENOTFOUND";
        const attempts = isUnknown ? Math.min(1, waitSeconds.length) : waitSeconds.length;
        if (attempt >= attempts || !mayPass(error)) throw failure;
        const seconds = waitSeconds[attempt]!;
        if (seconds >= noticedSeconds) note(`         ${printable(failure.why)}; tried again within ${seconds} s`);
        await pause(seconds, interrupted);
      }
    }
  };
}

const passingNames = new Set([
  ...["SlowDown", "RequestTimeout", "TimeoutError", "InternalError", "ServiceUnavailable", "OperationAborted"],
  // Damaged on the way.
  ...["BadDigest", "IncompleteBody"],
  // The SDK has read the storage's clock from the answer, and signs with that from then on.
  ...["RequestTimeTooSkewed", "RequestExpired"],
]);

/** Whether the same request may well succeed a little later. */
export function mayPass(error: unknown): boolean {
  const status = statusOf(error);
  if (passingNames.has(nameOf(error))) return true;
  // 501: it never can; 507: it is full.
  if (status !== undefined) {
    return status === 408 || status === 429 || (status >= 500 && status !== 501 && status !== 507);
  }
  return /^(ECONN|EPIPE|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|ENET|EHOST|ERR_STREAM_PREMATURE)/.test(codeOf(error) ?? "");
}

/** Settles in time, whatever the runtime makes of the signal. */
async function limited<T>(
  request: (signal: AbortSignal) => Promise<T>,
  seconds: number,
  interrupted: AbortSignal | undefined,
): Promise<T> {
  const controller = new AbortController();
  const stop = () => controller.abort(interrupted!.reason);
  interrupted?.addEventListener("abort", stop);
  const tooLong = Object.assign(new Error(`no answer within ${seconds} s`), { name: "TimeoutError" });
  const timer = setTimeout(() => controller.abort(tooLong), seconds * 1000);
  const aborted = new Promise<never>((_, reject) => {
    controller.signal.addEventListener("abort", () => reject(controller.signal.reason));
  });
  try {
    return await Promise.race([aborted, request(controller.signal)]);
  } finally {
    clearTimeout(timer);
    interrupted?.removeEventListener("abort", stop);
  }
}

/** Between the half and the whole of it: two uploads that were told to slow down do not come back together. */
async function pause(seconds: number, interrupted?: AbortSignal): Promise<void> {
  await poll(
    { seconds: seconds * (0.5 + Math.random() / 2), ...(interrupted && { interrupted }) },
    async () => undefined,
  );
}
