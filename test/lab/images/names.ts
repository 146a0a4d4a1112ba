// The images of the whole kit by their official names. The Compose files and Dockerfiles use exactly these.
export const imageNames = {
  postgres: "postgres:18-alpine",
  nginx: "nginx:1.30-alpine",
  dbmate: "ghcr.io/amacneil/dbmate:2.36.0",
  bun: "oven/bun:1.4.5-alpine",
  deno: "denoland/deno:alpine-2.9.6",
} as const;

export type ImageName = (typeof imageNames)[keyof typeof imageNames];

/** "oven/bun:1.4.5-alpine" → "1.4.5": the version of a program that is the image's own. */
export function versionIn(image: ImageName): string {
  return /\d+\.\d+\.\d+/.exec(image)![0];
}
