// Merging into files of the user: what is missing is added, not a byte of theirs changes.
import { expect, test } from "bun:test";
import { mergeFile } from "../create/merge.ts";

const ours = JSON.stringify({
  name: "shop",
  private: true,
  scripts: { up: "bun scripts/up.ts", status: "bun scripts/status.ts" },
  dependencies: { postgres: "3.4.9" },
  devDependencies: { zod: "4.6.7", zx: "8.8.5" },
});

const rows: { name: string; theirs: string; text: string; conflicts?: string[] }[] = [
  {
    name: "adds whole sections to an object of one line",
    theirs: '{"name":"theirs"}',
    text: '{"name":"theirs", "scripts": {"up":"bun scripts/up.ts","status":"bun scripts/status.ts"}, "dependencies": {"postgres":"3.4.9"}, "devDependencies": {"zod":"4.6.7","zx":"8.8.5"}}',
  },
  {
    name: "fills an empty object",
    theirs: "{}\n",
    text: '{\n  "scripts": {\n    "up": "bun scripts/up.ts",\n    "status": "bun scripts/status.ts"\n  },\n  "dependencies": {\n    "postgres": "3.4.9"\n  },\n  "devDependencies": {\n    "zod": "4.6.7",\n    "zx": "8.8.5"\n  }\n}\n',
  },
  {
    name: "keeps order, tabs, one-line arrays, odd spacing and the missing newline at the end",
    theirs:
      '{\n\t"scripts": {\n\t\t"up":   "docker compose up",\n\t\t"z": "{\\"}"\n\t},\n\t"files": ["a", "b"],\n\t"devDependencies": {},\n\t"dependencies": { "zx": "7.0.0" },\n\t"10": 1\n}',
    text: '{\n\t"scripts": {\n\t\t"up":   "docker compose up",\n\t\t"z": "{\\"}",\n\t\t"status": "bun scripts/status.ts"\n\t},\n\t"files": ["a", "b"],\n\t"devDependencies": {\n\t\t"zod": "4.6.7"\n\t},\n\t"dependencies": { "zx": "7.0.0", "postgres": "3.4.9" },\n\t"10": 1\n}',
    conflicts: [
      'package.json: scripts.up stays "docker compose up", the kit has "bun scripts/up.ts"',
      'package.json: dependencies.zx stays "7.0.0", the kit has "8.8.5"',
    ],
  },
  {
    name: "keeps Windows line ends and a byte order mark",
    theirs:
      '\uFEFF{\r\n    "scripts": {\r\n        "up": "bun scripts/up.ts"\r\n    },\r\n    "dependencies": {"postgres": "3.4.9"},\r\n    "devDependencies": {"zod": "4.6.7", "zx": "8.8.5"}\r\n}\r\n',
    text: '\uFEFF{\r\n    "scripts": {\r\n        "up": "bun scripts/up.ts",\r\n        "status": "bun scripts/status.ts"\r\n    },\r\n    "dependencies": {"postgres": "3.4.9"},\r\n    "devDependencies": {"zod": "4.6.7", "zx": "8.8.5"}\r\n}\r\n',
  },
  {
    name: "adds nothing to a section that is no object",
    theirs:
      '{\n  "scripts": [],\n  "dependencies": {"postgres": "3.4.9"},\n  "peerDependencies": {"zod": "4.6.7", "zx": "8.8.5"}\n}\n',
    text: '{\n  "scripts": [],\n  "dependencies": {"postgres": "3.4.9"},\n  "peerDependencies": {"zod": "4.6.7", "zx": "8.8.5"}\n}\n',
    conflicts: ['package.json: "scripts" is no object, nothing was added to it'],
  },
];

test.each(rows)("mergeFile() into package.json $name", ({ theirs, text, conflicts }) => {
  const merged = mergeFile("package.json", theirs, ours);
  expect(merged).toEqual({ text, conflicts: conflicts ?? [] });
  // Twice adds nothing, and everything of theirs is in it as it was.
  expect(mergeFile("package.json", text, ours)!.text).toBe(text);
  const before = JSON.parse(theirs.replace("\uFEFF", ""));
  const after = JSON.parse(text.replace("\uFEFF", ""));
  expect(Object.keys(after).slice(0, Object.keys(before).length)).toEqual(Object.keys(before));
  expect(after).toMatchObject(before);
});

const lines = "# a comment of ours\n\nnode_modules/\n.env\n.env.*\n!.env.tpl\n";

test.each([
  { theirs: "", text: "# create-dbops\nnode_modules/\n.env\n.env.*\n!.env.tpl\n" },
  { theirs: "dist\n.env\n", text: "dist\n.env\n\n# create-dbops\nnode_modules/\n.env.*\n!.env.tpl\n" },
  { theirs: "dist", text: "dist\n\n# create-dbops\nnode_modules/\n.env\n.env.*\n!.env.tpl\n" },
  {
    theirs: "dist\r\n.env\r\n",
    text: "dist\r\n.env\r\n\r\n# create-dbops\r\nnode_modules/\r\n.env.*\r\n!.env.tpl\r\n",
  },
  { theirs: "node_modules/\n.env\n.env.*\n!.env.tpl", text: "node_modules/\n.env\n.env.*\n!.env.tpl" },
])("mergeFile() into .gitignore %j", ({ theirs, text }) => {
  expect(mergeFile(".gitignore", theirs, lines)).toEqual({ text, conflicts: [] });
  expect(mergeFile(".dockerignore", text, lines)).toEqual({ text, conflicts: [] });
});

test.each([
  { path: "deno.json", theirs: '{ // a comment\n "tasks": {} }', why: "comments would be lost" },
  { path: "deno.jsonc", theirs: '{ "tasks": {} }', why: "it may have comments" },
  { path: "compose.yaml", theirs: "services: {}\n", why: "YAML cannot be merged without harm" },
  { path: ".gitignore", theirs: "caf\uFFFD\n", why: "it is not UTF-8" },
])("mergeFile() leaves $path alone: $why", ({ path, theirs }) => {
  expect(mergeFile(path, theirs, path.endsWith("ignore") ? lines : "{}")).toBeUndefined();
});
