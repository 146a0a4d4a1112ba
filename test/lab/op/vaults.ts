// What the fake op knows, and how a reference finds its way: names in either case, or IDs.
import { createHash } from "node:crypto";

export type OpItem = {
  vault: string;
  title: string;
  /** Values by "field" or "section/field". */
  fields: Readonly<Record<string, string>>;
};

/** An error with the text of the real program. */
export class OpError extends Error {}

export type Field = { id: string; label: string; section?: string; value: string };

/** 26 lower case letters and digits, as real IDs are. */
export function idOf(...names: readonly string[]): string {
  const digest = createHash("sha256").update(names.join("\0")).digest("hex");
  return BigInt(`0x${digest}`).toString(36).slice(0, 26).padEnd(26, "a");
}

export const itemId = (items: readonly OpItem[], item: OpItem) =>
  idOf(item.vault, item.title, `${items.filter(({ title }) => title === item.title).indexOf(item)}`);

const same = (a: string, b: string) => a.toLowerCase() === b.toLowerCase();

/** @throws {OpError} as `op inject` says it, without what `op read` puts in front. */
export function resolve(items: readonly OpItem[], reference: string): string {
  const [path, query] = reference.slice("op://".length).split("?");
  const wrong = /[^\w ./-]/.exec(path!)?.[0];
  const invalid = (why: string) => new OpError(`invalid secret reference '${reference}': ${why}`);
  if (wrong) throw invalid(`invalid character in secret reference: '${wrong}'`);
  const parts = path!.split("/");
  if (parts.length < 3 || parts.includes("")) {
    throw invalid("too few '/': secret references should have at least vault, item and field specified");
  }
  if (parts.length > 4) throw invalid("too many '/'");
  const [vault, title] = parts as [string, string];
  const item = findItem(items, vault, title);
  const wanted = parts.slice(2).join("/");
  const field = fieldsOf(item).find(({ id, label, section }) =>
    [label, id].some((name) => same(section ? `${section}/${name}` : name, wanted)),
  );
  if (!field) throw new OpError(`item '${vault}/${title}' does not have a field '${wanted}'`);
  return query === "attribute=type" ? "CONCEALED" : field.value;
}

export function findItem(items: readonly OpItem[], vault: string, title: string): OpItem {
  const inVault = itemsIn(items, vault);
  const found = inVault.filter((item) => same(item.title, title) || itemId(items, item) === title);
  if (found.length === 0) {
    const where = idOf(inVault[0]!.vault);
    throw new OpError(`could not resolve item UUID for item ${title}: could not find item ${title} in vault ${where}`);
  }
  if (found.length > 1) {
    const lines = found.map((item) => `\n\t* for the item "${item.title}" in vault ${vault}: ${itemId(items, item)}`);
    const text = `More than one item matches "${title}". Try again and specify the item by its ID: ${lines.join("")}`;
    throw new OpError(`could not get item ${vault}/${title}: ${text}`);
  }
  return found[0]!;
}

export function itemsIn(items: readonly OpItem[], vault: string): OpItem[] {
  const inVault = items.filter((item) => same(item.vault, vault) || idOf(item.vault) === vault);
  if (inVault.length > 0) return inVault;
  throw new OpError(`"${vault}" isn't a vault in this account. Specify the vault with its ID or name.`);
}

export function fieldsOf(item: OpItem): Field[] {
  return Object.entries(item.fields).map(([path, value]) => {
    const [label, section] = path.split("/").reverse() as [string, string?];
    return { id: idOf(item.title, path).slice(0, 12), label, value, ...(section && { section }) };
  });
}
