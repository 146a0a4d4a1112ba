// What went wrong between us and object storage, in sentences. The SDK's errors have the storage's own name for it where that
// has answered, and the operating system's code where nobody has; a HEAD request gets a status and nothing else.
import type { Settings } from "./config.ts";
import { exitCodes, Failure } from "./failure.ts";
import { redact } from "./redact.ts";

/** What was asked of whom, with which key. */
export type Asked = {
  backup: NonNullable<Settings["backup"]>;
  credentials: { accessKeyId: string; secretAccessKey: string };
};

type StorageError = Error & {
  code?: string;
  $metadata?: { httpStatusCode?: number };
  $response?: { statusCode?: number; headers?: Record<string, string> };
  Region?: string;
};

type Backup = Asked["backup"];

type Reason = {
  /** Matches the storage's name for it or the runtime's code, or its status: "NoSuchBucket", "ECONNREFUSED", "403". */
  is: RegExp;
  /** Matches its message as well. */
  says?: RegExp;
  why: (backup: Backup, error: StorageError) => string;
  next?: (backup: Backup, error: StorageError) => string[];
  /** Default 1: it may be gone the next time. */
  exitCode?: 1 | 2 | 3;
  /** What a missing bucket, a revoked key and a provider that is down have in common: there are no backups any more. */
  read?: string;
};

const bucketGone = { read: "docs/runbook/bucket-gone.md" };

const endpointOf = ({ endpoint, region }: Backup) => endpoint ?? `https://s3.${region}.amazonaws.com`;
const hostOf = (backup: Backup) => new URL(endpointOf(backup)).host;
const again = () => ["the same command again"];
const look = (backup: Backup) => [`curl --verbose ${endpointOf(backup)}`];
const correct = (what: string) => `correct ${what} in dbops.config.ts, then run this again`;
const regionWanted = ({ Region, message, $response }: StorageError) =>
  Region ?? $response?.headers?.["x-amz-bucket-region"] ?? /expecting '([\w-]+)'/.exec(message)?.[1];

/** The first one that matches counts. */
const reasons: readonly Reason[] = [
  {
    ...bucketGone,
    is: /^(InvalidAccessKeyId|Unauthorized|InvalidToken)$/,
    why: (backup) => `${hostOf(backup)} does not know the key id in ${backup.accessKeyFrom}`,
    next: ({ accessKeyFrom, secretKeyFrom }) => [
      `give ${accessKeyFrom} and ${secretKeyFrom} the values of a key of this storage, then run this again`,
    ],
    exitCode: exitCodes.usage,
  },
  {
    ...bucketGone,
    is: /^SignatureDoesNotMatch$/,
    why: ({ accessKeyFrom, secretKeyFrom }) =>
      `the secret in ${secretKeyFrom} does not belong to the key id in ${accessKeyFrom}`,
    next: ({ secretKeyFrom }) => [`give ${secretKeyFrom} its right value, then run this again`],
    exitCode: exitCodes.usage,
  },
  {
    is: /^(RequestTimeTooSkewed|RequestExpired)$/,
    why: (backup) => `the clock of this machine and that of ${hostOf(backup)} are too far apart`,
    next: (backup) => ["date --utc", `curl --silent --head ${endpointOf(backup)} | grep -i ^date`],
  },
  {
    ...bucketGone,
    is: /^NoSuchBucket$/,
    why: ({ bucket, ...backup }) => `${hostOf({ bucket, ...backup })} has no bucket "${bucket}"`,
    next: () => [`create the bucket, or ${correct("backup.bucket")}`],
    exitCode: exitCodes.usage,
  },
  {
    is: /^(PermanentRedirect|TemporaryRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraintException|30[1278])$/,
    why: ({ bucket, region }, error) => {
      const wanted = regionWanted(error);
      return wanted
        ? `the bucket "${bucket}" is in the region "${wanted}", and not in "${region}"`
        : `the bucket "${bucket}" is not in the region "${region}", or not at this endpoint`;
    },
    next: () => [correct("backup.region and backup.endpoint")],
    exitCode: exitCodes.usage,
  },
  {
    is: /^(QuotaExceeded|InsufficientCapacity|XMinioStorageFull|XMinioAdminBucketQuotaExceeded|ServiceQuotaExceeded|507)$/,
    why: ({ bucket }) =>
      `the storage has no room left for the bucket "${bucket}": its quota is used up, or its disks are full`,
    next: () => ["bun scripts/backup.ts prune", "raise the quota at the storage"],
    exitCode: exitCodes.saidNo,
  },
  {
    // Backblaze B2 calls it AccessDenied.
    is: /^403$/,
    says: /\bcap exceeded\b/i,
    why: (_, { message }) => `the storage's spending cap is reached: ${message}`,
    next: () => ["raise the cap at the storage"],
    exitCode: exitCodes.saidNo,
  },
  {
    ...bucketGone,
    is: /^(AccessDenied|Forbidden|AllAccessDisabled|403|401)$/,
    why: ({ accessKeyFrom, bucket }) => `the key in ${accessKeyFrom} has no right to do that in the bucket "${bucket}"`,
    next: () => ["give the key this right at the storage, then run this again"],
    exitCode: exitCodes.usage,
  },
  { is: /^(NoSuchKey|NotFound|404)$/, why: () => "there is no such object" },
  {
    is: /^(SlowDown|429)$/,
    why: (backup) => `${hostOf(backup)} still says, after several attempts, that there are too many requests`,
    next: () => ["wait a minute, then the same command again"],
  },
  {
    ...bucketGone,
    is: /^ECONNREFUSED$/,
    why: (backup) => `nothing listens at ${hostOf(backup)}`,
    next: look,
  },
  {
    ...bucketGone,
    is: /^(ENOTFOUND|EAI_\w+)$/,
    why: (backup) => `the host name ${new URL(endpointOf(backup)).hostname} cannot be resolved`,
    next: (backup) => [`nslookup ${new URL(endpointOf(backup)).hostname}`],
  },
  {
    is: /WRONG_VERSION_NUMBER|^EPROTO$/,
    why: (backup) => `${hostOf(backup)} does not speak TLS; an endpoint without TLS begins with "http://"`,
    next: () => [correct("backup.endpoint")],
    exitCode: exitCodes.usage,
  },
  {
    is: /CERT|SELF_SIGNED|TLS|SSL/,
    why: (backup, { message }) => `the certificate of ${hostOf(backup)} is not trusted: ${message}`,
    next: (backup) => [
      ...look(backup),
      "NODE_EXTRA_CA_CERTS=FILE and the same command, if the authority is one of your own",
    ],
    exitCode: exitCodes.usage,
  },
  {
    is: /^(ECONNRESET|EPIPE|ERR_STREAM_PREMATURE_CLOSE)$/,
    why: (backup) => `the connection to ${hostOf(backup)} broke, more than once`,
    next: again,
  },
  {
    ...bucketGone,
    is: /^(ETIMEDOUT|TimeoutError|RequestTimeout)$/,
    why: (backup, { message }) =>
      `${hostOf(backup)} gives ${/no answer within [\d.]+ s/.exec(message)?.[0] ?? "no answer in time"}`,
    next: look,
  },
  {
    ...bucketGone,
    is: /^E(NETUNREACH|HOSTUNREACH|NETDOWN|HOSTDOWN)$/,
    why: (backup) => `there is no way to ${hostOf(backup)} from here`,
    next: look,
  },
];

/** @param doing "list s3://bucket/prefix" */
export function explainStorage(error: unknown, doing: string, { backup, credentials }: Asked): Failure {
  const told = error as StorageError;
  const words = [codeOf(told) ?? "", nameOf(told), String(statusOf(told) ?? "")];
  const reason =
    reasons.find(({ is, says }) => words.some((word) => is.test(word)) && (says?.test(told.message) ?? true)) ??
    unknownReason;
  const { why, next, exitCode, read } = reason;
  // Some storages repeat the key's id.
  const clean = redact(why(backup, told), [credentials.secretAccessKey, credentials.accessKeyId]);
  return new Failure(`Cannot ${doing}`, clean, next?.(backup, told) ?? [], {
    ...(exitCode && { exitCode }),
    ...(read && { read }),
    cause: error,
  });
}

const unknownReason: Omit<Reason, "is"> = { why: unknown, next: again };

function unknown(backup: Backup, error: StorageError): string {
  const status = statusOf(error);
  if (status === undefined) return error.message;
  const name = error.name === "Error" || error.name === "Unknown" ? "" : ` ${error.name}`;
  const said = meaningless.test(error.message) ? "" : `: ${error.message}`;
  return `${hostOf(backup)} answered ${status}${name}${said}`;
}

/** What the SDK says when it has nothing to say. */
const meaningless = /^UnknownError$|^@aws-sdk XML parse error/;

/** Of the SDK's error, or of a Failure that it has caused. */
export function statusOf(error: unknown): number | undefined {
  const { $metadata, $response } = rootOf(error);
  return $metadata?.httpStatusCode ?? $response?.statusCode;
}

/** The storage's name for it. Where nobody answered, the SDK calls every broken connection a TimeoutError; the code is right then. */
export const nameOf = (error: unknown): string => rootOf(error).name;

/** The runtime's, where nobody answered. */
export const codeOf = (error: unknown): string | undefined => rootOf(error).code;

const rootOf = (error: unknown): StorageError => ((error instanceof Failure && error.cause) || error) as StorageError;
