// Loaded before every test file. Bun ignores [test] timeout in bunfig.toml, so the default is set here.
import { setDefaultTimeout } from "bun:test";

setDefaultTimeout(60_000);
