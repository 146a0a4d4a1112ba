// A certificate authority of one test's own, and a certificate that it has signed. The names are addresses or host names.
import { join } from "node:path";
import { run } from "../../scripts/lib/run.ts";
import { toolsEnvironment } from "./server/tools.ts";

export type Certificate = { caFile: string; certificateFile: string; keyFile: string };

/** As long as one from Let's Encrypt: a deploy warns of one that ends soon. */
const validDays = "90";

/** Writes the files into an existing folder; the keys are readable by their owner only. */
export async function makeCertificate(folder: string, names: readonly string[]): Promise<Certificate> {
  const environment = await toolsEnvironment();
  const file = (name: string) => join(folder, name);
  const [caFile, caKeyFile] = [file("ca.crt"), file("ca.key")];
  const [certificateFile, keyFile] = [file("server.crt"), file("server.key")];
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"];
  const alternatives = names.map((name) => `${/^[\d.]+$/.test(name) ? "IP" : "DNS"}:${name}`).join(",");
  await run({
    argv: [
      ...["openssl", "req", "-x509", ...key, "-keyout", caKeyFile, "-out", caFile, "-days", validDays],
      ...["-subj", "/CN=create-dbops lab authority"],
    ],
    environment,
  });
  await run({
    argv: [
      ...["openssl", "req", "-x509", ...key, "-keyout", keyFile, "-out", certificateFile, "-days", validDays],
      ...["-CA", caFile, "-CAkey", caKeyFile, "-subj", `/CN=${names[0]}`],
      ...["-addext", `subjectAltName=${alternatives}`, "-addext", "basicConstraints=critical,CA:FALSE"],
    ],
    environment,
  });
  return { caFile, certificateFile, keyFile };
}
