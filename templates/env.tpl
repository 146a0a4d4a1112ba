# What a server's .env holds. Safe to commit: a secret stands here as a reference to it, never as itself.
#   bun scripts/secrets.ts check        which of the values a server could have
# A deploy asks for all of them at once, and writes .env on the server. Whom it asks is `secrets` in dbops.config.ts;
# docs/secrets.md has the form of a reference for each. Nothing else is expanded here: a dollar sign is a dollar sign.

COMPOSE_PATH_SEPARATOR=:
COMPOSE_FILE=compose.yaml:compose/production.yaml

POSTGRES_DB=dbops_app
POSTGRES_USER=dbops_app
POSTGRES_PASSWORD=op://production/dbops-app/postgres-password

DOMAIN=app.example.com
# Health routes show details only to requests that carry it.
HEALTH_TOKEN=op://production/dbops-app/health-token

# For bun scripts/backup.ts, see docs/backup.md. A deploy does not write these to the server, unless COMPOSE_PROFILES has "backup".
# BACKUP_ACCESS_KEY_ID=op://production/dbops-app/backup-key-id
# BACKUP_SECRET_ACCESS_KEY=op://production/dbops-app/backup-secret-key
# BACKUP_PASSPHRASE=op://production/dbops-app/backup-passphrase
# The server makes backups by itself:
# COMPOSE_PROFILES=backup
# BACKUP_IMAGE=ghcr.io/example/dbops-app-backup:1

# Not here: DATABASE_URL, which is made from the above; IMAGE_BLUE, IMAGE_GREEN and the slot in COMPOSE_PROFILES, which a
# deploy sets, because it alone knows which slot is live.
