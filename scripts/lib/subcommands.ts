// Verbs that are several commands: one table says which flags and words each of them takes. What is none of its own is refused: ignored,
// it would let somebody believe that it was looked at another database than it was. The help is made of the same table.
import { type Arguments, type CommandLine, parseArguments, usage } from "./args.ts";

export type Subcommand<Flag extends string = string> = {
  /** What it does, for the help: a few words. */
  does: string;
  /** What may stand behind it, for instance "[FILE...]": any number where it ends in "...]". */
  word?: string;
  /** In the order of the help. */
  flags: readonly Flag[];
};

type Subcommands<Name extends string, Flag extends string = string> = Readonly<Record<Name, Subcommand<Flag>>>;

/** The same command line with what the table says of it: the subcommands, their words, and whose each flag is. */
export function withSubcommands<const C extends CommandLine, Name extends string>(
  line: C,
  subcommands: Subcommands<Name, keyof C["flags"] & string>,
): C & { words: readonly string[] } {
  const all = Object.entries<Subcommand>(subcommands);
  const left = all.map(([name, { word }]) => (word ? `${name} ${word}` : name));
  const width = Math.max(...left.map((text) => text.length));
  const flags = Object.entries(line.flags).map(([name, flag]) => {
    const owners = ownersOf(subcommands, name);
    const isForAll = owners.length === all.length;
    return [name, isForAll ? flag : { ...flag, help: `with ${owners.join(", ")}: ${flag.help}` }];
  });
  const bare = all.flatMap(([, { word }]) => (word ? [word.replace(/^\[(.*)\]$/, "$1")] : []));
  // Any number of words is what parseArguments() takes from the end of the last.
  const words = bare.sort((one, other) => Number(one.endsWith("...")) - Number(other.endsWith("...")));
  return {
    ...line,
    purpose: [line.purpose, "", ...all.map(([, { does }], at) => `  ${left[at]!.padEnd(width)}  ${does}`)].join("\n"),
    words: [`[${all.map(([name]) => name).join("|")}]`, ...(words.length > 0 ? [`[${words.join("|")}]`] : [])],
    flags: Object.fromEntries(flags),
  };
}

const ownersOf = (subcommands: Subcommands<string>, flag: string): string[] =>
  Object.entries(subcommands).flatMap(([name, { flags }]) => (flags.includes(flag) ? [name] : []));

/**
 * @param usual the one that is meant where none is named.
 * @throws {Failure} exit 2, with a sentence for each mistake.
 */
export function parseSubcommand<const C extends CommandLine, Name extends string>(
  argv: readonly string[],
  line: C,
  subcommands: Subcommands<Name>,
  usual?: NoInfer<Name>,
): { name: Name; words: string[]; flags: Arguments<C> } {
  const flags = parseArguments(argv, line);
  const [name = usual, ...words] = flags._ as [Name?, ...string[]];
  const names = Object.keys(subcommands).join(", ");
  if (name === undefined) throw usage(line, `say which of ${names}`);
  if (!Object.hasOwn(subcommands, name)) throw usage(line, `"${name}" is none of ${names}`);
  const { flags: own, word = "" } = subcommands[name];
  const other = flagsIn(argv).find((flag) => flag !== "help" && !own.includes(flag));
  if (other !== undefined) {
    throw usage(line, `--${other} is for ${listed(ownersOf(subcommands, other))}, not for ${name}`);
  }
  const surplus = word.endsWith("...]") ? undefined : words[word ? 1 : 0];
  if (surplus !== undefined) throw usage(line, `"${surplus}" is one word too many`);
  return { name, words, flags };
}

/** "up, down and rehearse" */
const listed = (names: readonly string[]) => names.join(", ").replace(/, (?=[^,]*$)/, " and ");

/** As they are typed, once parseArguments() has found no fault with them: a value never begins with a dash there. */
function flagsIn(argv: readonly string[]): string[] {
  const end = argv.includes("--") ? argv.indexOf("--") : argv.length;
  return argv.slice(0, end).flatMap((word) => /^--([^=]+)/.exec(word)?.[1] ?? []);
}
