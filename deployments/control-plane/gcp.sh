#!/bin/sh
# A control plane on one small machine of Google Cloud. It opens no port: see docs/how-to/control-plane.md.
#   gcp.sh [--yes] PROJECT ZONE SITE MLFLOW_SITE gs://BUCKET/FOLDER
# shellcheck disable=SC1091,SC2034  # common.sh is read, and reads yes
set -eu
yes=; [ "${1:-}" = --yes ] && { yes=1; shift; }
[ $# = 5 ] || { sed -n 2,3p "$0" >&2; exit 2; }
. "$(dirname "$0")/common.sh"
project=$1 zone=$2 region=${2%-*} name=drillyard-control
plain "project" "$project" '[a-z][a-z0-9-]+'
plain "zone" "$zone" '[a-z]+-[a-z]+[0-9]+-[a-z]'
first=$(first_start "$3" "$4" "$5")
trap 'rm -f "$first"' EXIT

run gcloud iam service-accounts create "$name" --project "$project" --display-name "drillyard control plane"
run gcloud compute addresses create "$name" --project "$project" --region "$region"
run gcloud compute instances create "$name" --project "$project" --zone "$zone" --machine-type e2-medium \
  --image-family ubuntu-2404-lts-amd64 --image-project ubuntu-os-cloud --boot-disk-size 50GB \
  --address "$name" --tags "$name" --shielded-secure-boot \
  --service-account "$name@$project.iam.gserviceaccount.com" --scopes cloud-platform \
  --metadata enable-oslogin=TRUE,block-project-ssh-keys=TRUE --metadata-from-file "user-data=$first"
echo "its address, for $3 and $4:"
gcloud compute addresses describe "$name" --project "$project" --region "$region" --format 'value(address)'
echo "sign in: gcloud compute ssh $name --project $project --zone $zone --tunnel-through-iap"
echo "delete all of it: gcloud compute instances delete $name --project $project --zone $zone;" \
  "gcloud compute addresses delete $name --project $project --region $region;" \
  "gcloud iam service-accounts delete $name@$project.iam.gserviceaccount.com --project $project"
