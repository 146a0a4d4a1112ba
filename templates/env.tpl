# What a server needs in its .env. Safe to commit: it holds references to secrets, never a secret.
#   op inject --in-file .env.tpl --out-file .env.production      (1Password; the file it writes is git-ignored)
# No dollar signs in this file: op replaces what follows one, even in a comment.

COMPOSE_PATH_SEPARATOR=:
COMPOSE_FILE=compose.yaml:compose/production.yaml

POSTGRES_DB=dbops_app
POSTGRES_USER=dbops_app
# Single quotes: every reader takes the value literally then, as long as it holds no single quote itself.
POSTGRES_PASSWORD='op://production/dbops-app/postgres-password'

DOMAIN=app.example.com
# Health routes show details only to requests that carry it.
HEALTH_TOKEN='op://production/dbops-app/health-token'

# The slot that serves, and its image with the tag that you pushed. The other slot is for the next release.
COMPOSE_PROFILES=blue
IMAGE_BLUE=ghcr.io/example/dbops-app:1
