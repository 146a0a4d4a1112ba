// For `bun test FILE` by hand: 5 s, Bun's default, is too short for tests against real servers, [test] timeout in
// bunfig.toml is ignored, and this holds for the first file only. npm run ok and npm test pass --timeout.
import { setDefaultTimeout } from "bun:test";

setDefaultTimeout(300_000);
