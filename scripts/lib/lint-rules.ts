// What `migrate lint` looks for: every rule with its severity. docs/migrations.md has the same list with the reason of each.

type Severity = "error" | "warning";

type Rule = {
  severity: Severity;
  /**
   *   file     dbmate would not read the file, or otherwise than it looks: nothing can allow it, and every file is judged
   *   section  what is applied is not what is written: every file is judged
   *   safety   it stops the app, or breaks the version that still runs: files that may have been applied long ago are spared
   */
  about: "file" | "section" | "safety";
  /** What to do about it, unless the finding says it better. */
  advice: string;
};

export const rules = {
  "version-missing": {
    ...{ severity: "error", about: "file" },
    advice: "name it as `bun scripts/migrate.ts new NAME` does, or put it elsewhere",
  },
  "version-twice": {
    ...{ severity: "error", about: "file" },
    advice: "give the one that is applied nowhere a new time in front of its name",
  },
  "version-order": {
    ...{ severity: "error", about: "file" },
    advice: "write the numbers with as many digits as the longest, or times",
  },
  "version-not-a-time": {
    ...{ severity: "warning", about: "section" },
    advice: "`bun scripts/migrate.ts new NAME` writes a good one; leave those that are applied already",
  },
  "version-in-the-future": {
    ...{ severity: "error", about: "section" },
    advice: "correct the time in its name, unless it is applied already",
  },
  encoding: {
    ...{ severity: "error", about: "file" },
    advice: "convert it, for instance: iconv -f WINDOWS-1252 -t UTF-8",
  },
  "up-missing": {
    ...{ severity: "error", about: "file" },
    advice: "begin with a line `-- migrate:up`: two dashes, one space, in lower case",
  },
  "down-missing": {
    ...{ severity: "error", about: "file" },
    advice: "write a line `-- migrate:down` behind the statements, even where nothing can follow it",
  },
  "statement-before-up": {
    ...{ severity: "error", about: "file" },
    advice: "only comments of whole lines, with two dashes, may stand in front of `-- migrate:up`",
  },
  "several-sections": {
    ...{ severity: "error", about: "file" },
    advice: "one `-- migrate:up` and one `-- migrate:down`; what else there is goes into a file of its own",
  },
  "directive-misspelled": {
    ...{ severity: "error", about: "file" },
    advice: "write it as `-- migrate:up` or `-- migrate:down`, at the beginning of the line",
  },
  "option-unknown": {
    ...{ severity: "error", about: "file" },
    advice: "`transaction:false`, without a space, is the only one that changes anything",
  },
  syntax: {
    ...{ severity: "error", about: "file" },
    advice:
      "correct it; psql's own commands, \\copy for instance, are no SQL, and neither are rows behind COPY … FROM stdin",
  },
  "up-empty": {
    ...{ severity: "error", about: "section" },
    advice: "write the statements, or remove the file; where nothing is meant to happen: select 1;",
  },
  "down-empty": {
    ...{ severity: "warning", about: "section" },
    advice: "write what takes it back, or say why nothing can: -- dbops:allow down-empty REASON",
  },
  "several-without-transaction": {
    ...{ severity: "error", about: "section" },
    advice: "one statement for each file with transaction:false",
  },
  "needs-no-transaction": {
    ...{ severity: "error", about: "section" },
    advice: "put it into a file of its own, behind `-- migrate:up transaction:false`",
  },
  "transaction-control": {
    ...{ severity: "error", about: "section" },
    advice: "leave it out: dbmate begins and ends the transaction, and takes down in it that the file is applied",
  },
  "concurrently-if-not-exists": {
    ...{ severity: "error", about: "section" },
    advice: "leave out `if not exists`; after a failure: drop index concurrently NAME; and migrate again",
  },
  "records-itself": {
    ...{ severity: "error", about: "section" },
    advice: "leave it out: dbmate writes the version down itself",
  },
  "setting-outlives-file": {
    ...{ severity: "warning", about: "section" },
    advice: "write `set local`, or set_config(…, true): it ends with the file then",
  },
  "allow-unusable": {
    ...{ severity: "error", about: "file" },
    advice: "write it as: -- dbops:allow RULE REASON",
  },
  "allow-unused": {
    ...{ severity: "warning", about: "file" },
    advice: "remove the comment, or move it: it counts for its own line, or for what begins on the next one",
  },
  "drop-without-deprecation": {
    ...{ severity: "error", about: "safety" },
    advice: "deprecate it in an earlier deploy",
  },
  truncate: {
    ...{ severity: "error", about: "safety" },
    advice:
      "delete the rows that nobody needs any more, in batches; or say why the line is right: -- dbops:allow truncate REASON",
  },
  "foreign-key-without-index": {
    ...{ severity: "warning", about: "safety" },
    advice: "create an index that begins with these columns, in this file or in another one",
  },
  "adding-field-with-default": {
    ...{ severity: "error", about: "safety" },
    advice: "add the column without it, set the default in a second statement, and fill the old rows in batches",
  },
  "adding-foreign-key-constraint": {
    ...{ severity: "error", about: "safety" },
    advice: "add it as a constraint with NOT VALID, and validate it in a later file",
  },
  "adding-not-nullable-field": {
    ...{ severity: "error", about: "safety" },
    advice: "add constraint NAME not null COLUMN not valid; validate it in a later file (before Postgres 18: a check)",
  },
  "adding-required-field": {
    ...{ severity: "error", about: "safety" },
    advice: "give it a default, or let it be null until every version of the app writes it",
  },
  "adding-serial-primary-key-field": {
    ...{ severity: "error", about: "safety" },
    advice: "create a unique index concurrently, then: add constraint NAME primary key using index INDEX",
  },
  "ban-alter-domain-with-add-constraint": {
    ...{ severity: "error", about: "safety" },
    advice: "add it with NOT VALID, validate it in a later file, and allow the line: squawk sees no difference",
  },
  "ban-drop-database": { severity: "error", about: "safety", advice: "leave it out" },
  "ban-drop-not-null": {
    ...{ severity: "warning", about: "safety" },
    advice: "see that every version that runs can read a null, then allow the line",
  },
  "changing-column-type": {
    ...{ severity: "error", about: "safety" },
    advice: "add a new column of the other type, and change over as the guide shows",
  },
  "constraint-missing-not-valid": {
    ...{ severity: "error", about: "safety" },
    advice: "add a check with NOT VALID, and validate it in a later file",
  },
  "disallowed-unique-constraint": {
    ...{ severity: "error", about: "safety" },
    advice: "create a unique index concurrently, then: add constraint NAME unique using index INDEX",
  },
  "identifier-too-long": { severity: "warning", about: "safety", advice: "use a name of at most 63 bytes" },
  "require-concurrent-index-creation": {
    ...{ severity: "error", about: "safety" },
    advice: "create index concurrently, in a file of its own with transaction:false",
  },
  "require-concurrent-index-deletion": {
    ...{ severity: "error", about: "safety" },
    advice: "drop index concurrently, in a file of its own with transaction:false",
  },
  "require-concurrent-partition-detach": {
    ...{ severity: "error", about: "safety" },
    advice: "detach partition NAME concurrently, in a file of its own with transaction:false",
  },
  "require-concurrent-reindex": {
    ...{ severity: "error", about: "safety" },
    advice: "reindex … concurrently, in a file of its own with transaction:false",
  },
  "squawk-cannot-read": {
    ...{ severity: "warning", about: "safety" },
    advice: "look at what this file locks yourself; `bun scripts/migrate.ts rehearse` measures it",
  },
} as const satisfies Readonly<Record<string, Rule>>;

export type RuleName = keyof typeof rules;

export const isRule = (name: string): name is RuleName => Object.hasOwn(rules, name);

export const ruleOf = (name: RuleName): Rule => rules[name];

/** In the file; the first line and the first column are 1, and columns are characters. */
export type Position = { line: number; column: number };

export type Finding = Position & {
  file: string;
  rule: RuleName;
  severity: Severity;
  message: string;
  advice: string;
};

export function finding(file: string, at: Position, rule: RuleName, message: string, advice?: string): Finding {
  const { severity, advice: usual } = ruleOf(rule);
  return { file, line: at.line, column: at.column, rule, severity, message, advice: advice ?? usual };
}
