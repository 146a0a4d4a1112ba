// The template syntax of `op inject`, traps included: variables expand anywhere, and values go in raw.

type Lookup = (name: string) => string | undefined;

const variable = /\$(?:\{(\w+)(?::-([^}]*))?\}|(\w+))/g;

/** In this order, so that a template may hold op://$STAGE/…; what a reference stands for is never expanded. */
export function fillIn(template: string, lookup: Lookup, resolve: (reference: string) => string): string {
  const expanded = template.replace(
    variable,
    (_, braced, otherwise, plain) => lookup(braced ?? plain) ?? otherwise ?? "",
  );
  const any = /\{\{\s*(?:"([^"]*)"|(op:\/\/[^{}]*?))\s*\}\}|(?<![A-Za-z0-9+\\.-])(op:\/\/[A-Za-z0-9?_./-]*)/g;
  return expanded.replace(any, (_, escaped, enclosed, bare) => escaped ?? resolve(enclosed ?? bare));
}
