// scripts/lib/cdn.ts: what Cloudflare is asked, a hundred URLs at once.
import { expect, test } from "bun:test";
import { requestsFor } from "../scripts/lib/cdn.ts";

const urls = (count: number) => Array.from({ length: count }, (_, index) => `https://shop.example/${index}`);

const rows: { purge: "everything" | string[]; requests: string[] }[] = [
  { purge: "everything", requests: ['{"purge_everything":true}'] },
  {
    purge: ["https://shop.example/", "https://shop.example/it's"],
    requests: ['{"files":["https://shop.example/","https://shop.example/it\'s"]}'],
  },
];
test.each(rows)("requestsFor() $purge", ({ purge, requests }) => {
  expect(requestsFor(purge)).toEqual(requests);
});

test.each([
  { count: 100, chunks: [100] },
  { count: 101, chunks: [100, 1] },
  { count: 250, chunks: [100, 100, 50] },
])("requestsFor() $count URLs", ({ count, chunks }) => {
  const files = requestsFor(urls(count)).map((body) => JSON.parse(body).files as string[]);
  expect(files.map(({ length }) => length)).toEqual([...chunks]);
  expect(files.flat()).toEqual(urls(count));
});
