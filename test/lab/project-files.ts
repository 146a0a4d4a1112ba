// A project's files as the scaffolder writes them, in a folder of their own. What runs there is the caller's.
import { chmod, mkdir, mkdtemp, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { Answers } from "../../create/answers.ts";
import { readKit } from "../../create/kit.ts";
import { renderProject } from "../../create/render.ts";
import { repository } from "./repository.ts";

export type ProjectFiles = {
  directory: string;
  /** Adds or replaces a file. */
  write(path: string, text: string, mode?: number): Promise<void>;
};

/** The kit's placeholders as they are, and its starter app on Bun. */
const answers: Answers = {
  name: "dbops-app",
  database: "dbops_app",
  domain: "app.example.com",
  image: "ghcr.io/example/dbops-app",
  server: "deploy@app.example.com",
  runtime: "bun",
  app: true,
  with: [],
};

export async function writeProjectFiles(changes: Partial<Answers> = {}): Promise<ProjectFiles> {
  const directory = await mkdtemp(join(tmpdir(), "dbops-project-"));
  // nginx in its container reads the files as uid 101.
  await chmod(directory, 0o755);
  const write = async (path: string, text: string, mode = 0o644) => {
    await mkdir(dirname(join(directory, path)), { recursive: true });
    await writeFile(join(directory, path), text, { mode });
  };
  const files = renderProject(readKit(repository), { ...answers, ...changes });
  for (const { path, text, mode } of files) await write(path, text, mode);
  return { directory, write };
}

/** Instead of an installation: the packages that this repository has, the project's own among them. */
export async function linkPackages(directory: string): Promise<void> {
  await symlink(join(repository, "node_modules"), join(directory, "node_modules"));
}
