#!/bin/sh
# Put a backup back: restore.sh ARTIFACTS BACKUPS NAME. Stop the tracking server first, start it afterwards.
#
# The database becomes that of the backup, in one transaction: all of it or nothing. Artifacts are added and written
# over, never deleted: what came after the backup is in no run of the database and harms nobody.
set -eu
artifacts=$1 backups=$2
if [ $# -lt 3 ] || [ ! -f "$backups/$3/mlflow.dump" ]; then
  echo "restore: name a backup of $backups:" >&2
  ls "$backups" >&2
  exit 2
fi
tar --extract --file="$backups/$3/artifacts.tar" --directory="$artifacts"
pg_restore --clean --if-exists --single-transaction --no-owner --dbname="${PGDATABASE:?}" "$backups/$3/mlflow.dump"
echo "restored $3"
