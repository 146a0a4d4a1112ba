// Command lines: strict flags, generated help, and one sentence for each mistake.
import { parseArgs as parseStrictly } from "node:util";
import { exitCodes, Failure } from "./failure.ts";
import { asTyped } from "./runtime.ts";

type Flag = {
  help: string;
  /** The name of its value in the help, for instance "SECONDS". Without one the flag is a switch. */
  value?: string;
  /** May be given several times, or once with commas; the result is a list. */
  many?: boolean;
  /** The values that are accepted, if not any. */
  oneOf?: readonly string[];
  /** Used when the flag is absent; shown in the help. */
  default?: string;
};

export type CommandLine = {
  /** The command as typed, for instance "bun scripts/up.ts". */
  command: string;
  /** One sentence. */
  purpose: string;
  /** Words without dashes, for instance "[dir]"; at most as many as listed are accepted, or any number where the last ends in "...]". */
  words?: readonly string[];
  /** The name of what may follow `--`, for instance "COMMAND". It comes as "--", and nothing in it is a flag of ours. */
  rest?: string;
  flags: Readonly<Record<string, Flag>>;
  /** Worked commands, each a line. */
  examples?: readonly string[];
  /** What else the help says, for instance the exit codes. */
  notes?: string;
};

type Value<F extends Flag> = F extends { many: true }
  ? string[]
  : F extends { value: string; default: string }
    ? string
    : F extends { value: string }
      ? string | undefined
      : boolean;

export type Arguments<C extends CommandLine> = { [K in keyof C["flags"]]: Value<C["flags"][K]> } & {
  _: string[];
} & (C extends { rest: string } ? { "--": string[] } : unknown);

/**
 * Parses a verb's arguments. `--help` prints the help and exits 0.
 * @throws {Failure} exit 2: unknown flag, missing value, value not accepted, too many words.
 */
export function parseArguments<const C extends CommandLine>(argv: readonly string[], line: C): Arguments<C> {
  const flags = Object.entries(line.flags);
  const parsed = orUsage(line, () =>
    parseArgs(argv, {
      boolean: ["help", ...flags.filter(([, flag]) => !flag.value).map(([name]) => name)],
      string: flags.filter(([, flag]) => flag.value).map(([name]) => name),
      collect: flags.filter(([, flag]) => flag.many).map(([name]) => name),
      default: Object.fromEntries(flags.flatMap(([name, flag]) => (flag.default ? [[name, flag.default]] : []))),
      "--": line.rest !== undefined,
    }),
  );
  if (parsed.help) {
    console.log(formatHelp(line));
    process.exit(exitCodes.done);
  }
  const words = line.words ?? [];
  const surplus = words.at(-1)?.endsWith("...]") ? undefined : parsed._[words.length];
  if (surplus !== undefined) throw usage(line, `"${surplus}" is one word too many`);
  for (const [name, flag] of flags) {
    if (flag.many) parsed[name] = ((parsed[name] ?? []) as string[]).flatMap((item) => item.split(",")).filter(Boolean);
    for (const value of [parsed[name]].flat()) {
      if (flag.oneOf && typeof value === "string" && !flag.oneOf.includes(value)) {
        throw usage(line, `--${name} takes ${flag.oneOf.join(" or ")}, not "${value}"`);
      }
    }
  }
  return parsed as Arguments<C>;
}

type ParseOptions = {
  boolean: string[];
  string: string[];
  collect: string[];
  default: Record<string, string>;
  "--": boolean;
};
type Parsed = { _: string[]; [name: string]: unknown };

/**
 * The shape of @std/cli's parseArgs, on node:util: that one accepts unknown flags, and `--dry-rum` must never deploy.
 * Whoever runs only Deno can import @std/cli's here instead, with `unknown` set.
 */
function parseArgs(argv: readonly string[], options: ParseOptions): Parsed {
  const end = options["--"] && argv.includes("--") ? argv.indexOf("--") : argv.length;
  const { values, positionals } = parseStrictly({
    args: argv.slice(0, end),
    allowPositionals: true,
    options: Object.fromEntries([
      ...options.boolean.map((name) => [name, { type: "boolean", default: false }] as const),
      ...options.string.map((name) => [name, { type: "string", multiple: options.collect.includes(name) }] as const),
    ]),
  });
  return { ...options.default, ...values, _: positionals, ...(options["--"] && { "--": argv.slice(end + 1) }) };
}

function orUsage<T>(line: CommandLine, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    const message = (error as Error).message;
    const unknown = /^Unknown option '(--?[^']+)'/.exec(message)?.[1];
    throw usage(
      line,
      unknown ? `${unknown} is not a flag of this command` : message.split("\n")[0]!.replace(/\.?$/, ""),
    );
  }
}

export function usage(line: Pick<CommandLine, "command">, why: string): Failure {
  return new Failure(`Cannot run "${line.command}"`, why, [`${line.command} --help`], { exitCode: exitCodes.usage });
}

/** The text of --help: everything that a flag accepts, generated, so that it cannot be out of date. */
export function formatHelp(line: CommandLine): string {
  const flags = { ...line.flags, help: { help: "print this" } satisfies Flag };
  const rows = Object.entries<Flag>(flags).map(([name, flag]) => {
    const left = flag.value ? `--${name} ${flag.oneOf?.join("|") ?? flag.value}` : `--${name}`;
    return { left, right: flag.default ? `${flag.help} (default: ${flag.default})` : flag.help };
  });
  const width = Math.min(34, Math.max(...rows.map(({ left }) => left.length)));
  const text = [
    `${[line.command, ...(line.words ?? [])].join(" ")} [flags]${line.rest ? ` [-- ${line.rest}]` : ""}`,
    "",
    line.purpose,
    "",
    ...rows.map(({ left, right }) => `  ${left.padEnd(width)}  ${right}`),
    ...(line.examples ? ["", "Examples:", ...line.examples.map((example) => `  ${example}`)] : []),
    ...(line.notes ? ["", line.notes] : []),
  ].join("\n");
  return asTyped(text);
}
