// The databases that a restore makes, by their names: NAME_restore_20261121T030000 while it works, NAME_before_20261121T030000 for
// what was live until then; and NAME_rehearse_20261121T030000, in which `migrate rehearse` tries pending files. All say in their names
// when, so that whoever finds one knows what it is.

/** Postgres cuts a longer name off, silently. */
const nameBytesMaximum = 63;

export type Kind = "restore" | "before" | "rehearse";

/** @param at the time that is written into it, in UTC. */
export function databaseName(live: string, kind: Kind, at: Date): string {
  const suffix = `_${kind}_${at.toISOString().slice(0, 19).replaceAll(/[-:]/g, "")}`;
  let base = live;
  while (Buffer.byteLength(base + suffix) > nameBytesMaximum) base = base.slice(0, -1);
  return base + suffix;
}

/** The same for a moment later where there is one of that name already: two swaps within a second. */
export function freeName(live: string, kind: Kind, at: Date, databases: readonly string[]): string {
  const name = databaseName(live, kind, at);
  return databases.includes(name) ? freeName(live, kind, new Date(at.getTime() + 1000), databases) : name;
}

export type Leftover = { name: string; kind: Kind; at: Date };

/** Those of a live database among all names, newest first. */
export function leftoversOf(live: string, all: readonly string[]): Leftover[] {
  const found = all.flatMap((name): Leftover[] => {
    const [, base, kind, day, time] = /^(.+)_(restore|before|rehearse)_(\d{8})T(\d{6})$/.exec(name) ?? [];
    if (!base || !kind || !day || !time) return [];
    const at = new Date(
      `${day.slice(0, 4)}-${day.slice(4, 6)}-${day.slice(6)}T${time.slice(0, 2)}:${time.slice(2, 4)}:${time.slice(4)}Z`,
    );
    if (Number.isNaN(at.getTime())) return [];
    // A long name was cut off in front of it.
    return databaseName(live, kind as Kind, at) === name ? [{ name, kind: kind as Kind, at }] : [];
  });
  return found.sort((one, other) => other.at.getTime() - one.at.getTime() || one.name.localeCompare(other.name));
}
