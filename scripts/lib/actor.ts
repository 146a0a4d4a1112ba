// Who does it, for the lock and the records.
import { hostname, userInfo } from "node:os";

/** "octocat in GitHub Actions", or "anna@laptop". */
export function actor(environment: Readonly<Record<string, string | undefined>> = process.env): string {
  if (environment.GITHUB_ACTIONS === "true") return `${environment.GITHUB_ACTOR ?? "somebody"} in GitHub Actions`;
  return `${userInfo().username}@${hostname()}`;
}
