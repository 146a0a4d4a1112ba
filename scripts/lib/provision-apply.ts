// Carries out the steps of a plan, one after the other, and proves that the result can be used.
import { exitCodes, Failure } from "./failure.ts";
import type { Step } from "./provision-plan.ts";
import { run } from "./run.ts";
import type { Session } from "./session.ts";
import { type Server, sshArguments } from "./ssh.ts";
import { poll } from "./wait.ts";

/** A step runs apt-get twice at most, and the server ends each after 15 minutes. */
const stepSeconds = 2000;
/** A new server installs updates for some minutes before anybody else gets at its packages. */
const aptBusySeconds = 300;
/** What lib/server/provision.sh answers while another program uses apt. */
const aptIsBusy = 75;

/** @throws {Failure} naming the step, with the last lines that it printed; exit 130 when interrupted. */
export async function applySteps(session: Session, steps: readonly Step[], interrupted: AbortSignal): Promise<void> {
  for (const step of steps) {
    const started = performance.now();
    const line = (state: string) => {
      const seconds = ((performance.now() - started) / 1000).toFixed(1).padStart(6);
      return `${process.stderr.isTTY ? "\r" : ""}  ${state} ${seconds} s  ${step.text}\n`;
    };
    // On a terminal the line stands there, without its time, while the step lasts.
    if (process.stderr.isTTY) process.stderr.write(`  …               ${step.text}`.slice(0, process.stderr.columns));
    await applyStep(session, step, interrupted).catch((error) => {
      process.stderr.write(line("FAILED"));
      throw stepFailed(step, error);
    });
    process.stderr.write(line("done  "));
  }
}

async function applyStep(session: Session, { call, stdin = "" }: Step, interrupted: AbortSignal): Promise<void> {
  const options = { stdin, interrupted, timeoutSeconds: stepSeconds, accept: [0, aptIsBusy] };
  let holder: string | undefined;
  const done = await poll({ seconds: aptBusySeconds, everyMilliseconds: 2000, interrupted }, async () => {
    const { exitCode, stderr } = await session.call(call, options);
    if (exitCode === 0) return true;
    if (!holder) console.error(`          waiting for another program to let go of apt: ${stderr.trim()}`);
    holder = stderr.trim() || "it does not say which";
    return undefined;
  });
  if (!done)
    throw new Failure("Cannot use apt", `another program has not let go of it for ${aptBusySeconds} s: ${holder}`);
}

function stepFailed({ text }: Step, error: unknown): unknown {
  if (!(error instanceof Failure)) return error;
  const { exitCode, why, details, cause } = error;
  if (exitCode === exitCodes.interrupted) {
    const rest = `${why}; what the server is at, it finishes: ${text}`;
    return new Failure("Interrupted", rest, ["the same command again"], { exitCode });
  }
  if (exitCode !== exitCodes.failed) return error;
  const next = ["the same command again: it goes on with this step"];
  return new Failure(`Cannot ${text}`, why, next, { cause, ...(details && { details }) });
}

/**
 * Whether the deploy user can work there, asked on the server itself.
 * @returns the version of Compose.
 * @throws {Failure} exit 3 when it cannot.
 */
export async function checkUser(session: Session, user: string, directory: string): Promise<string> {
  const { exitCode, stdout, stderr } = await session.call(["check_user", user, directory], {
    accept: [0, 1, 125, 126, 127],
  });
  if (exitCode === 0) return stdout.trim();
  throw new Failure(
    `"${user}" cannot deploy on this server`,
    `it cannot use Docker, or not write to ${directory}`,
    [],
    {
      exitCode: exitCodes.saidNo,
      details: stderr,
      read: "docs/provision.md",
    },
  );
}

/**
 * Logs in as a deploy will.
 * @returns undefined when it worked, else the last that ssh said: perhaps only because the private key is not on this machine.
 */
export async function tryLogin(deployer: Server): Promise<string | undefined> {
  const argv = [...sshArguments(deployer), "docker compose version --short"];
  const { exitCode, stderr } = await run({ argv, accept: [0, 1, 126, 127, 255], timeoutSeconds: 60 });
  return exitCode === 0 ? undefined : stderr.trim().split("\n").at(-1);
}

/** Its key was let in, and can be used here: what keeps it out is on the server, and would keep out a deploy. */
export function cannotLogIn({ host }: Server, { user }: Server, refusal: string): Failure {
  const sshd = `/usr/sbin/sshd -T -C user=${user},host=localhost,addr=127.0.0.1 | grep -iE '^(allow|deny)(users|groups)|^authorizedkeysfile'`;
  const isRefused = /Permission denied/i.test(refusal);
  const why = isRefused
    ? "sshd refuses the key that is in its authorized_keys: AllowUsers or AllowGroups leaves it out, or others may write to its home"
    : refusal;
  const next = [
    ...(isRefused ? [`on the server, as root: ${sshd}; ls -ld ~${user} ~${user}/.ssh`] : []),
    "on the server: journalctl --unit ssh --lines 20   # sshd says why",
    "then the same command again",
  ];
  return new Failure(`${host} is set up, but "${user}" cannot log in`, why, next, {
    exitCode: exitCodes.saidNo,
    ...(isRefused && { details: refusal }),
    read: "docs/provision.md",
  });
}
