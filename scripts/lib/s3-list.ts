// What there is in the bucket, page by page until the last.
import type { ListMultipartUploadsCommandOutput, ListObjectVersionsCommandOutput } from "@aws-sdk/client-s3";
import { exitCodes, Failure } from "./failure.ts";
import type { Storage } from "./s3-client.ts";

export async function listObjects(storage: Storage, prefix: string) {
  const { sdk, client, ask, Bucket, before } = storage;
  const address = `${storage.name}/${prefix}`;
  const objects: { key: string; bytes: number; modified: Date }[] = [];
  let token: string | undefined;
  do {
    const page = new sdk.ListObjectsV2Command({ Bucket, Prefix: `${before}${prefix}`, ContinuationToken: token });
    const answer = await ask(`list ${address}`, (abortSignal) => client.send(page, { abortSignal }));
    refuseOtherServers(answer.Name, address);
    for (const { Key, Size, LastModified } of answer.Contents ?? []) {
      objects.push({ key: Key!.slice(before.length), bytes: Size!, modified: LastModified! });
    }
    token = answer.IsTruncated ? answer.NextContinuationToken : undefined;
  } while (token);
  return objects;
}

type UploadPage = { KeyMarker?: string | undefined; UploadIdMarker?: string | undefined };

export async function listUnfinished(storage: Storage, prefix: string) {
  const { sdk, client, ask, Bucket, before } = storage;
  const address = `${storage.name}/${prefix}`;
  const uploads: { key: string; uploadId: string; begun: Date }[] = [];
  for (let from: UploadPage | undefined = {}; from; ) {
    const page = new sdk.ListMultipartUploadsCommand({ Bucket, Prefix: `${before}${prefix}`, ...from });
    const send = (abortSignal: AbortSignal) => client.send(page, { abortSignal });
    const answer: ListMultipartUploadsCommandOutput = await ask(`list the unfinished uploads below ${address}`, send);
    refuseOtherServers(answer.Bucket, address);
    for (const { Key, UploadId, Initiated } of answer.Uploads ?? []) {
      uploads.push({ key: Key!.slice(before.length), uploadId: UploadId!, begun: Initiated! });
    }
    const { IsTruncated, NextKeyMarker: KeyMarker, NextUploadIdMarker: UploadIdMarker } = answer;
    from = IsTruncated ? { KeyMarker, UploadIdMarker } : undefined;
  }
  return uploads;
}

type VersionPage = { KeyMarker?: string | undefined; VersionIdMarker?: string | undefined };

/** Ids of an object's versions and delete markers, the oldest first. */
export async function listVersions(storage: Storage, key: string): Promise<string[]> {
  const { sdk, client, ask, Bucket, before } = storage;
  const address = `${storage.name}/${key}`;
  const Prefix = `${before}${key}`;
  const found: { id: string; at: number }[] = [];
  for (let from: VersionPage | undefined = {}; from; ) {
    const page = new sdk.ListObjectVersionsCommand({ Bucket, Prefix, ...from });
    const send = (abortSignal: AbortSignal) => client.send(page, { abortSignal });
    const answer: ListObjectVersionsCommandOutput = await ask(`list the versions of ${address}`, send);
    refuseOtherServers(answer.Name, address);
    for (const { Key, VersionId, LastModified } of [...(answer.Versions ?? []), ...(answer.DeleteMarkers ?? [])]) {
      if (Key === Prefix) found.push({ id: VersionId!, at: LastModified!.getTime() });
    }
    const { IsTruncated, NextKeyMarker: KeyMarker, NextVersionIdMarker: VersionIdMarker } = answer;
    from = IsTruncated ? { KeyMarker, VersionIdMarker } : undefined;
  }
  return found.sort((a, b) => a.at - b.at).map(({ id }) => id);
}

/** Any web server's page would be taken for an empty list, and that for a bucket without backups. */
function refuseOtherServers(bucketInAnswer: string | undefined, address: string): void {
  if (bucketInAnswer !== undefined) return;
  const next = ["correct backup.endpoint in dbops.config.ts, then run this again"];
  const why = "what answers there does not speak S3: it may be a web page, or a proxy in between";
  throw new Failure(`Cannot list ${address}`, why, next, { exitCode: exitCodes.usage });
}
