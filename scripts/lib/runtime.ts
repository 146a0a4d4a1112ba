// How a command of this kit is typed: all texts name Bun, and whoever runs Deno may not have it.

const current = "Deno" in globalThis ? "deno" : "bun";

/** The text with every `bun scripts/…` in it as the runtime needs it. */
export function asTyped(text: string, runtime: "bun" | "deno" = current): string {
  return runtime === "deno" ? text.replaceAll("bun scripts/", "deno run -A scripts/") : text;
}
