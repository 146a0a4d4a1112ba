// What people do who have the same stack and no slots: one service `app`, and nginx in front of it, which looks its name up
// again every two seconds. Each way replaces the image of the app.
import { poll } from "../../../scripts/lib/wait.ts";
import type { Stand } from "../../demo/server.ts";

export type Way = { name: string; script: string };

export const ways: readonly Way[] = [
  { name: "docker compose down && up -d --wait", script: "docker compose down && docker compose up -d --wait" },
  { name: "docker compose up -d, in place", script: "docker compose up -d" },
  {
    name: "scale to two behind one name, stop the old one",
    script: `old=$(docker compose ps --quiet app)
docker compose up -d --no-deps --no-recreate --scale app=2 --wait app
docker stop "$old"
docker rm "$old"`,
  },
];

const folder = "/opt/plain";

/** The kit's own stack as it is used locally, but with TLS and the server's ports, in the place of the one with slots. */
export async function startPlainStack({ server, project, interrupted }: Stand, image: string): Promise<void> {
  await server.ssh(`cd ${project.folder} && COMPOSE_PROFILES=blue,green docker compose down --volumes`, stepOptions);
  const copy = `install -d -o deploy -g deploy ${folder} && cp -Rp ${project.folder}/. ${folder}`;
  await server.ssh(copy, { user: "root" });
  const values = { COMPOSE_FILE: "compose.yaml:plain.yaml", COMPOSE_PROJECT_NAME: "plain", APP_IMAGE: image };
  const lines = Object.entries(values).map(([name, value]) => `${name}=${value}`);
  await server.ssh(
    `set -e
cd ${folder}
cp nginx/upstream/local.conf nginx/upstream/production.conf
sed -i -E '/^(COMPOSE_|IMAGE_|RELEASE_IMAGE)/d' .env
cat >>.env <<'END'
${lines.join("\n")}
END
cat >plain.yaml <<'END'
services:
  nginx:
    command: ["nginx", "-c", "/etc/nginx/dbops/production.conf", "-g", "daemon off;"]
    ports: !override ["0.0.0.0:443:8443"]
    volumes: ["./certificates:/etc/nginx/certificates:ro"]
END
docker compose up -d --wait`,
    stepOptions,
  );
  const answers = async () => ((await project.ask("/").catch(() => undefined))?.release ? true : undefined);
  if (!(await poll({ seconds: 20, interrupted }, answers))) throw new Error("the stack without slots does not answer");
}

export async function replaceImage({ server }: Stand, { script }: Way, image: string): Promise<void> {
  const setImage = `sed -i 's|^APP_IMAGE=.*|APP_IMAGE=${image}|' .env`;
  await server.ssh(`set -e\ncd ${folder}\n${setImage}\n${script}`, stepOptions);
}

const stepOptions = { timeoutSeconds: 180 };
