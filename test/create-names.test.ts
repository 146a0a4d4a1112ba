// What the scaffolder accepts as an answer, and what it derives. No server, no files.
import { expect, test } from "bun:test";
import { settleAnswers } from "../create/answers.ts";
import {
  checkDatabase,
  checkDomain,
  checkImage,
  checkName,
  checkServer,
  databaseFrom,
  nameFrom,
} from "../create/names.ts";

const sixtyThree = "a".repeat(63);

const checks: { check: (value: string) => string | undefined; good: string[]; bad: string[] }[] = [
  {
    check: checkName,
    good: ["app", "my-app", "my_app", "a--b", "a__b", "app2", sixtyThree, "user", "postgres"],
    bad: [
      "",
      "My-App",
      "2048",
      "1e3",
      "-app",
      "app-",
      "app_",
      "a_-b",
      "a___b",
      "a b",
      "../x",
      "a/b",
      "$(id)",
      "a;b",
    ].concat(["no", "true", "null", "größe", `${sixtyThree}a`, "a\nb", "app\n", 'a"b', "a'b", "a.b"]),
  },
  {
    check: checkDatabase,
    good: ["app", "my_app", "_app", "app2", "accounts", sixtyThree],
    bad: ["", "My_App", "my-app", "2app", "a b", 'a"b', "a;b", "a\n", `${sixtyThree}a`, "größe"].concat([
      "user",
      "select",
      "table",
      "postgres",
      "template0",
      "template1",
      "public",
      "pg_app",
    ]),
  },
  {
    check: checkDomain,
    good: ["app.example.com", "localhost", "a-b.example", "xn--bcher-kva.example", "10.0.0.1", "1.example"],
    bad: ["", "https://app.example.com", "app.example.com:443", "App.example.com", "-a.example", "a..b", ".a", "a."]
      .concat(["a_b.example", "bücher.example", "a b", "a\n", "a;b", "*.example.com", `${sixtyThree}a.example`])
      .concat(Array(5).fill(sixtyThree).join(".")),
  },
  {
    check: checkImage,
    good: [
      "app",
      "ghcr.io/example/app",
      "localhost:5000/app",
      "registry.example:5000/a/b-c_d",
      "example/app",
      "a/b/c/d",
    ],
    bad: [
      "",
      "ghcr.io/Example/app",
      "app:latest",
      "ghcr.io/a/b:1",
      "a@sha256:00",
      "/app",
      "app/",
      "a//b",
      "a b",
      "a_-b",
    ].concat(["ghcr.io:port/app", "-a/b", "https://ghcr.io/a", "ghcr.io/a\n", "$(id)/a"]),
  },
  {
    check: checkServer,
    good: ["deploy@app.example.com", "root@10.0.0.1", "a_b-c@host", "deploy@2001:db8::1"],
    bad: [
      "",
      "host",
      "@host",
      "deploy@",
      "-oProxyCommand=x@host",
      "deploy@-oProxyCommand=x",
      "a b@host",
      "a@b@c",
    ].concat(["deploy@host:22", "ssh://deploy@host", "Deploy@host", "deploy@host\n", "deploy@host;id"]),
  },
];

for (const { check, good, bad } of checks) {
  test.each(good)(`${check.name}() accepts %p`, (value) => expect(check(value)).toBeUndefined());
  test.each(bad)(`${check.name}() refuses %p, and repeats it`, (value) => {
    expect(check(value)).toStartWith(`--${check.name.replace("check", "").toLowerCase()} "${value}" `);
  });
}

test.each([
  ["my-app", "my-app"],
  ["My App", "my-app"],
  ["Größe 2", "grosse-2"],
  ["my_app", "my-app"],
  ["2048", "app-2048"],
  ["no", "app-no"],
  ["日本語", ""],
  ["---", ""],
  ["a".repeat(70), sixtyThree],
  [`${"a".repeat(62)}-b`, "a".repeat(62)],
])("nameFrom(%p) is %p", (directory, name) => {
  expect(nameFrom(directory)).toBe(name);
  if (name !== "") expect(checkName(name)).toBeUndefined();
});

test.each([
  ["my-app", "my_app"],
  ["user", "user_app"],
  ["postgres", "postgres_app"],
  ["template1", "template1_app"],
  [`pg-${"a".repeat(60)}`, `pg_${"a".repeat(56)}_app`],
])("databaseFrom(%p) is %p", (name, database) => {
  // "pg_…_app" would still belong to Postgres: the flag is named instead of guessing further.
  expect(databaseFrom(name)).toBe(database);
});

const kit = { version: "1.2.3", files: [{ path: "templates/ecs/task.json", text: "{}", executable: false }] };
const nothingSaid = { noApp: false, with: [] };
const around = { directory: "/srv/shop", empty: true, userAgent: "npm/11" };

test("settleAnswers() derives everything from the folder", () => {
  expect(settleAnswers(nothingSaid, around, kit)).toEqual({
    answers: {
      name: "shop",
      database: "shop",
      domain: "app.example.com",
      image: "ghcr.io/example/shop",
      server: "deploy@app.example.com",
      runtime: "bun",
      app: true,
      with: [],
    },
    problems: [],
  });
});

test("settleAnswers() prefers what was said to the manifest, and the manifest to what would be derived", () => {
  const recorded = settleAnswers({ ...nothingSaid, name: "old", runtime: "deno" }, around, kit).answers;
  const { answers } = settleAnswers({ ...nothingSaid, domain: "new.example" }, { ...around, recorded }, kit);
  expect(answers).toEqual({ ...recorded, domain: "new.example" });
});

test("settleAnswers() takes the starter app only into an empty folder", () => {
  expect(settleAnswers(nothingSaid, { ...around, empty: false }, kit).answers.app).toBe(false);
  expect(settleAnswers({ ...nothingSaid, noApp: true }, around, kit).answers.app).toBe(false);
});

test("settleAnswers() makes Deno the default of who came with Deno", () => {
  expect(settleAnswers(nothingSaid, { ...around, userAgent: "deno/2.9.6 npm/?" }, kit).answers.runtime).toBe("deno");
});

test("settleAnswers() lists all problems, each once", () => {
  const said = { noApp: false, with: ["ecs", "kubernetes", "moon"], name: "A B", domain: "x y", server: "nobody" };
  expect(settleAnswers(said, around, kit).problems).toEqual([
    '--name "A B" must begin with a lower case letter, end with a letter or digit, and hold only lower case letters, digits, - and _',
    '--domain "x y" must be a host name in lower case, for instance "app.example.com", without https:// and without a port',
    '--server "nobody" must be user@host, for instance "deploy@app.example.com"; a port belongs into ~/.ssh/config',
    '--with "kubernetes" is not in this version (1.2.3); there is: ecs',
    '--with "moon" is unknown; there is: ecs',
  ]);
});

test("settleAnswers() names the flag when no name can be made", () => {
  expect(settleAnswers(nothingSaid, { ...around, directory: "/srv/日本語" }, kit).problems).toEqual([
    'no name can be made from "日本語": say --name NAME',
  ]);
});
