#!/bin/sh
# A control plane on one small machine of Azure. It opens no port: see docs/how-to/control-plane.md.
#   azure.sh [--yes] RESOURCE_GROUP LOCATION SITE MLFLOW_SITE az://ACCOUNT/CONTAINER
# shellcheck disable=SC1091,SC2034  # common.sh is read, and reads yes
set -eu
yes=; [ "${1:-}" = --yes ] && { yes=1; shift; }
[ $# = 5 ] || { sed -n 2,3p "$0" >&2; exit 2; }
. "$(dirname "$0")/common.sh"
group=$1 location=$2 name=drillyard-control
plain "resource group" "$group" '[A-Za-z0-9._()-]+'
plain "location" "$location" '[a-z0-9]+'
first=$(first_start "$3" "$4" "$5")
trap 'rm -f "$first"' EXIT

# A group of its own, so that one command deletes everything and nothing else.
run az group create --name "$group" --location "$location" --tags drillyard=control-plane
run az identity create --resource-group "$group" --name "$name"
run az vm create --resource-group "$group" --name "$name" --location "$location" --size Standard_B2s \
  --image Canonical:ubuntu-24_04-lts:server:latest --os-disk-size-gb 50 --nsg "$name" --nsg-rule NONE \
  --public-ip-sku Standard --assign-identity "$name" --generate-ssh-keys --custom-data "@$first"
echo "its address, for $3 and $4:"
az vm show --resource-group "$group" --name "$name" --show-details --query publicIps --output tsv
echo "read the passwords: az vm run-command invoke --resource-group $group --name $name" \
  "--command-id RunShellScript --scripts 'cat /opt/drillyard/deployments/servers/.env'"
echo "delete all of it, and whatever else is in this group: az group delete --name $group"
