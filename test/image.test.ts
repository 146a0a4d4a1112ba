// scripts/lib/image.ts: image references, and what a server says about an image. Held against Docker's own rules.
import { describe, expect, test } from "bun:test";
import type { Settings } from "../scripts/lib/config.ts";
import { type Failure, formatFailure } from "../scripts/lib/failure.ts";
import { parseImage, parseReference, prepareImage, type Reference } from "../scripts/lib/image.ts";
import { createProgress } from "../scripts/lib/progress.ts";

const digest = `sha256:${"d".repeat(64)}`;

describe("parseReference()", () => {
  test.each<{ text: string; parts: Reference }>([
    { text: "shop", parts: { name: "shop", registry: "docker.io" } },
    { text: "shop:1", parts: { name: "shop", registry: "docker.io", tag: "1" } },
    { text: "me/shop:4f2c1ab", parts: { name: "me/shop", registry: "docker.io", tag: "4f2c1ab" } },
    { text: "ghcr.io/me/shop", parts: { name: "ghcr.io/me/shop", registry: "ghcr.io" } },
    { text: `ghcr.io/me/shop@${digest}`, parts: { name: "ghcr.io/me/shop", registry: "ghcr.io", digest } },
    {
      text: `ghcr.io/me/shop:v1.2_3-x@${digest}`,
      parts: { name: "ghcr.io/me/shop", registry: "ghcr.io", tag: "v1.2_3-x", digest },
    },
    { text: "10.0.0.1:5000/shop:1", parts: { name: "10.0.0.1:5000/shop", registry: "10.0.0.1:5000", tag: "1" } },
    { text: "localhost/shop", parts: { name: "localhost/shop", registry: "localhost" } },
    { text: "localhost:5000/a/b/c", parts: { name: "localhost:5000/a/b/c", registry: "localhost:5000" } },
    { text: "host:5000/shop", parts: { name: "host:5000/shop", registry: "host:5000" } },
    {
      text: "Registry.Example.COM/a__b/c-d.e",
      parts: { name: "Registry.Example.COM/a__b/c-d.e", registry: "Registry.Example.COM" },
    },
  ])("$text", ({ text, parts }) => {
    expect(parseReference(text)).toEqual(parts);
  });

  test.each([
    "",
    "Shop",
    "me/Shop:1",
    "shop:",
    "shop:-1",
    `shop:${"x".repeat(129)}`,
    "shop@sha256:abc",
    `shop@${digest}:1`,
    "shop@latest",
    "https://ghcr.io/me/shop",
    "ghcr.io/me//shop",
    "ghcr.io/",
    "/shop",
    "a___b",
    "shop 1",
    " shop",
    "shop\n",
    "--help",
    "shop;reboot",
    "$(reboot)",
  ])("refuses %p", (text) => {
    expect(parseReference(text)).toBeUndefined();
  });
});

test("prepareImage() refuses what is no reference, before anything is asked", async () => {
  const preparation = {
    settings: {} as Settings,
    directory: ".",
    flags: { image: "ghcr.io/me/Shop", build: false, plan: false },
    progress: createProgress(),
    interrupted: new AbortController().signal,
  };
  const failure: Failure = await prepareImage(preparation).then(
    () => expect.unreachable(),
    (error) => error,
  );
  expect(
    `${formatFailure(failure)}\nexit ${failure.exitCode}`,
  ).toBe(`Cannot deploy "ghcr.io/me/Shop": it is no image reference
  next: name:tag or name@sha256:…, for instance ghcr.io/me/app:4f2c1ab
exit 2`);
});

describe("parseImage()", () => {
  const name = "ghcr.io/me/shop";
  const digests = `ghcr.io/other/shop@sha256:${"e".repeat(64)} ${name}@${digest}`;
  test.each([
    {
      name: "a tag becomes the digest of its own repository",
      text: `sha256:1d amd64 4f2c1ab|${digests} \n`,
      wanted: { name, registry: "ghcr.io", tag: "1" },
      image: { reference: `${name}@${digest}`, id: "sha256:1d", architecture: "amd64", release: "4f2c1ab" },
    },
    {
      name: "a digest stays the one that was asked for",
      text: `sha256:1d arm64 |${digests} \n`,
      wanted: { name, registry: "ghcr.io", digest: `sha256:${"f".repeat(64)}` },
      image: { reference: `${name}@sha256:${"f".repeat(64)}`, id: "sha256:1d", architecture: "arm64", release: "" },
    },
    {
      name: "without a digest of that repository its id has to do",
      text: "sha256:1d amd64 r1|\n",
      wanted: { name: "shop", registry: "docker.io", tag: "1" },
      image: { reference: "sha256:1d", id: "sha256:1d", architecture: "amd64", release: "r1" },
    },
  ])("$name", ({ text, wanted, image }) => {
    expect(parseImage(text, wanted)).toEqual(image);
  });
});
