// What the kit has to know about this project. The app may import it too: it has no imports of its own at run time.
// Checked on every start of a verb: an unknown or wrong key is exit 2, all problems at once, each with its path.
import type { Config } from "./scripts/lib/config.ts";

export default {
  // The Compose project, and the directory below /opt on a server.
  name: "dbops-app",
  database: "dbops_app",

  app: {
    // How `bun scripts/up.ts --engine embedded` starts the app; containers use the Dockerfile's CMD.
    command: ["bun", "app/main.ts"],
    port: 3000,
  },

  // What the database must offer before the app starts; see scripts/validator.ts.
  schema: {
    criticalTables: [
      { name: "accounts", privileges: ["select", "insert"] },
      "sessions",
      { name: "audit_log", privileges: ["insert"] },
    ],
    extensions: [],
  },

  environments: {
    local: {},
    production: {
      server: "deploy@app.example.com",
      directory: "/opt/dbops-app",
      domain: "app.example.com",
      image: "ghcr.io/example/dbops-app",
    },
  },

  // Who resolves the references in .env.tpl: op, env, sops, vault, doppler, infisical or aws; see docs/secrets.md.
  secrets: { provider: "op" },

  // How long errors are watched for after a switch, before the old release is stopped; docs/deploy.md lists the rest.
  deploy: { bakeSeconds: 5 },

  // Where backups go, encrypted: any S3-compatible storage; docs/backup.md says what else there is, and which secrets it needs.
  // backup: { bucket: "dbops-app-backups", endpoint: "https://s3.eu-central-003.backblazeb2.com", region: "eu-central-003" },
} satisfies Config;
