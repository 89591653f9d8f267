#!/bin/sh
# Back up a tracking server while it runs: backup.sh ARTIFACTS BACKUPS makes BACKUPS/<time>/{mlflow.dump,artifacts.tar}.
# The database is found by PGHOST, PGUSER, PGDATABASE and PGPASSWORD, as PostgreSQL's own tools find it.
#
# The database first: what it mentions was stored before, so it is in the artifacts copied after it.
set -eu
artifacts=$1 backups=$2
name=$(date -u +%Y-%m-%dT%H-%M-%SZ)
part="$backups/.$name.part"
mkdir -p "$part"
pg_dump --format=custom --file="$part/mlflow.dump"
pg_restore --list "$part/mlflow.dump" >"$part/contents.txt" # fails on a dump that is not whole
tar --create --file="$part/artifacts.tar" --directory="$artifacts" .
mv "$part" "$backups/$name"
echo "$name"
