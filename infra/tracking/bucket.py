"""Make the bucket of an ``s3://`` address, if it is not there: the store of ``COMPOSE_PROFILES=s3`` starts empty."""

import os
import sys
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import ClientError

bucket = urlsplit(sys.argv[1]).netloc or sys.exit(f"ARTIFACTS: found '{sys.argv[1]}', allowed s3://BUCKET or below it.")
store = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"], region_name="us-east-1")
try:
    store.create_bucket(Bucket=bucket)
except ClientError as error:
    if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
        raise
