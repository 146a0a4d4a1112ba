// Adds members to a JSON text without touching a byte of what is there: order, indent, line ends and spacing stay.
// The text must have passed JSON.parse: this only finds places in it.

type Member = { key: string; valueStart: number; valueEnd: number };

/** Adds `key: value` at the end of the object at the path ("" keys never occur), which must exist. */
export function addMember(text: string, path: readonly string[], key: string, value: unknown): string {
  const open = openingBrace(text, path);
  const members = membersOf(text, open);
  const style = styleOf(text);
  const depth = path.length + 1;
  const last = members.at(-1);
  const onOneLine = last !== undefined && !text.slice(open, last.valueEnd).includes("\n");
  if (onOneLine) {
    return insert(text, last.valueEnd, `, ${JSON.stringify(key)}: ${JSON.stringify(value)}`);
  }
  const body = JSON.stringify(value, null, style.indent).replaceAll("\n", style.newline + style.indent.repeat(depth));
  const line = `${style.newline}${style.indent.repeat(depth)}${JSON.stringify(key)}: ${body}`;
  if (last) return insert(text, last.valueEnd, `,${line}`);
  const close = text.indexOf("}", open);
  return `${text.slice(0, open + 1)}${line}${style.newline}${style.indent.repeat(depth - 1)}${text.slice(close)}`;
}

function insert(text: string, at: number, addition: string): string {
  return text.slice(0, at) + addition + text.slice(at);
}

/** How this file is written: its first indented line and its first line end decide. */
function styleOf(text: string): { indent: string; newline: string } {
  return { indent: /\n([ \t]+)"/.exec(text)?.[1] ?? "  ", newline: text.includes("\r\n") ? "\r\n" : "\n" };
}

function openingBrace(text: string, path: readonly string[]): number {
  let open = text.indexOf("{");
  // Of a doubled key the last one counts, as for JSON.parse.
  for (const key of path) open = membersOf(text, open).findLast((member) => member.key === key)!.valueStart;
  return open;
}

function membersOf(text: string, open: number): Member[] {
  const members: Member[] = [];
  let at = skipBlank(text, open + 1);
  while (text[at] !== "}") {
    const keyEnd = endOfString(text, at);
    const valueStart = skipBlank(text, skipBlank(text, keyEnd) + 1);
    const valueEnd = endOfValue(text, valueStart);
    members.push({ key: JSON.parse(text.slice(at, keyEnd)), valueStart, valueEnd });
    at = skipBlank(text, valueEnd);
    if (text[at] === ",") at = skipBlank(text, at + 1);
  }
  return members;
}

function skipBlank(text: string, from: number): number {
  let at = from;
  while (/\s/.test(text[at]!)) at++;
  return at;
}

function endOfString(text: string, quote: number): number {
  let at = quote + 1;
  while (text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
  return at + 1;
}

function endOfValue(text: string, start: number): number {
  if (text[start] === '"') return endOfString(text, start);
  let depth = 0;
  let at = start;
  for (;;) {
    const character = text[at]!;
    if (depth === 0 && /[\s,}\]]/.test(character)) return at;
    if (/[{[]/.test(character)) depth++;
    if (/[}\]]/.test(character)) depth--;
    at = character === '"' ? endOfString(text, at) : at + 1;
    if (depth === 0 && /[}\]]/.test(character)) return at;
  }
}
