// Where this repository is, and its tools.
import { join } from "node:path";

export const repository = join(import.meta.dirname, "..", "..");

/** The programs that npm has installed, for when they are not on PATH. */
export const programs = join(repository, "node_modules", ".bin");
