// What the bench prints.
import type { Deploy, FlipBack, Own } from "./kit.ts";
import { median, percentile, table } from "./numbers.ts";
import type { Switch } from "./switch.ts";

export function formatDeploys(deploys: readonly Deploy[], own: readonly Own[]): string {
  const boots = own.map(({ boot }) => boot);
  const ends = own.map(({ end }) => end);
  const all = deploys.map(({ seconds }) => seconds);
  const names = Object.keys(deploys[0]!.steps);
  const inSteps = ({ steps }: Deploy) => Object.values(steps).reduce((sum, value) => sum + value, 0);
  const row = (name: string, values: readonly number[], says = "") => [...timesRow(name, values), says];
  const ofStep = (name: string) => deploys.map(({ steps }) => steps[name] ?? 0);
  return [
    `${deploys.length} deploys, image present, nobody waits: bakeSeconds 0, no load`,
    table([
      ["seconds", "p50", "p90", ""],
      row("a deploy", all, "from the command to its end"),
      row("the app's boot", boots, `its container alone, from its start until it is healthy; ${boots.length} times`),
      row("the app's end", ends, "from SIGTERM until Docker says that it has stopped"),
      ["a deploy without both", (median(all) - median(boots) - median(ends)).toFixed(2), "", "what the kit takes"],
      ["", "", "", ""],
      ...names.map((name) => row(name, ofStep(name))),
      row(
        "all else",
        deploys.map((deploy) => deploy.seconds - inSteps(deploy)),
        "starting the verb, reading files, hanging up",
      ),
    ]),
    "",
  ].join("\n");
}

export function formatNothingToDo(
  rows: readonly { name: string; times: readonly number[]; trips: number }[],
  tripsOfAll: number,
): string {
  return [
    "deployed again, with nothing to do",
    table([
      ["seconds", "p50", "p90", "round trips"],
      ...rows.map(({ name, times, trips }) => [...timesRow(name, times), `${trips}`]),
      ["a deploy that has something to do", "", "", `${tripsOfAll}`],
    ]),
    "",
  ].join("\n");
}

export function formatFlipBacks(flips: readonly FlipBack[]): string {
  const row = (name: string, values: readonly number[], says: string) => [
    ...timesRow(name, values),
    Math.max(...values).toFixed(2),
    says,
  ];
  return [
    `${flips.length} broken releases, taken back under load`,
    table([
      ["seconds", "p50", "p90", "worst", ""],
      row(
        "switched back",
        flips.map(({ said }) => said),
        "says the verb: until nginx answers with the release before",
      ),
      row(
        "until the last error",
        flips.map(({ untilLastError }) => untilLastError),
        "at a client, from the verb's decision on; to 0.1 s",
      ),
      row(
        "errors",
        flips.map(({ errorsFor }) => errorsFor),
        `at clients, from the first to the last; to 0.1 s; ${median(flips.map(({ errors }) => errors))} requests`,
      ),
    ]),
    "",
  ].join("\n");
}

export function formatSwitches(
  results: readonly { name: string; switches: readonly Switch[] }[],
  requestsPerSecond: number,
): string {
  const sum = (switches: readonly Switch[], of: (one: Switch) => number) =>
    switches.reduce((total, one) => total + of(one), 0);
  return [
    `the app replaced under ${requestsPerSecond} requests a second, half of them POST, on kept connections`,
    table([
      ["", "times", "seconds", "requests", "failed", "each time", "as"],
      ...results.map(({ name, switches }) => {
        const failed = sum(switches, (one) => one.failed);
        return [
          name,
          `${switches.length}`,
          median(switches.map(({ seconds }) => seconds)).toFixed(1),
          `${sum(switches, ({ requests }) => requests)}`,
          `${failed}`,
          (failed / switches.length).toFixed(0),
          formatKinds(switches),
        ];
      }),
    ]),
    "",
  ].join("\n");
}

function formatKinds(switches: readonly Switch[]): string {
  const kinds = new Map<string, number>();
  for (const [kind, count] of switches.flatMap(({ failures }) => Object.entries(failures))) {
    kinds.set(kind, (kinds.get(kind) ?? 0) + count);
  }
  return [...kinds].map(([kind, count]) => `${kind}: ${count}`).join(", ");
}

const timesRow = (name: string, values: readonly number[]) => [
  name,
  percentile(values, 0.5).toFixed(2),
  percentile(values, 0.9).toFixed(2),
];
