// The name under which the app is served stands in three files, each read by another program. A deploy compares them: who
// changes only one of them would get a certificate for the old name, or 421 for the new one.
import { exitCodes, Failure } from "./failure.ts";

export type Names = {
  /** environments.production.domain */
  domain: string;
  /** What nginx answers to. */
  serverNames: readonly string[];
  /** DOMAIN of .env.tpl, for which certbot asks. */
  certificateName: string;
};

/** @throws {Failure} exit 2, with what stands where. */
export function requireOneName({ domain, serverNames, certificateName }: Names): void {
  const isServed = serverNames.some((name) => answersTo(name.toLowerCase(), domain.toLowerCase()));
  const isCertified = certificateName.toLowerCase() === domain.toLowerCase();
  if (isServed && isCertified) return;
  const why = isServed
    ? "environments.production.domain in dbops.config.ts is not DOMAIN in .env.tpl, for which the certificate is"
    : "environments.production.domain in dbops.config.ts is no server_name in nginx/production.conf";
  const details = [
    `dbops.config.ts        domain: "${domain}"`,
    `nginx/production.conf  server_name ${serverNames.join(" ") || "(none)"}`,
    `.env.tpl               DOMAIN=${certificateName}`,
  ].join("\n");
  throw new Failure(`Cannot serve ${domain}`, why, ["write the same name into all three, then deploy again"], {
    exitCode: exitCodes.usage,
    details,
    read: "docs/nginx.md",
  });
}

/** The names in a file of nginx. */
export function serverNamesIn(text: string): string[] {
  const directives = text.replaceAll(/#.*$/gm, "").matchAll(/(?<=(?:^|[;{}])\s*)server_name\s+([^;]+);/gm);
  return [...directives].flatMap(([, names]) => names!.trim().replaceAll(/["']/g, "").split(/\s+/));
}

/** As nginx compares them. A regular expression, and `_` for whatever comes, are not for us to judge. */
function answersTo(name: string, domain: string): boolean {
  if (name.startsWith("~") || name === "_") return true;
  if (name.startsWith("*.")) return domain.endsWith(name.slice(1));
  if (name.startsWith(".")) return `.${domain}`.endsWith(name);
  if (name.endsWith(".*")) return domain.startsWith(name.slice(0, -1));
  return name === domain;
}
