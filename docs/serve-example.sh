#!/bin/sh
# Find photos like one, say that the most alike show a species, and write all photos that are verified to show it.
# Usage: sh serve-example.sh URL PHOTO SPECIES OUT.csv      (the service's token, if it has one, in BIRDSEARCH_TOKEN)
set -eu
url=$1 photo=$2 species=$3 out=$4
ask() { curl --silent --show-error --fail-with-body ${BIRDSEARCH_TOKEN:+--oauth2-bearer "$BIRDSEARCH_TOKEN"} "$@"; }
from() { printf '%s\n' "$1" | jq --raw-output --arg species "$species" "$2"; }

# Search: the photo is sent, what looks like it comes back.
found=$(ask --form "photo=@\"$photo\"" --form-string 'request={"k": 10}' "$url/api/search")
from "$found" '.hits[] | [.rank, .similarity, .label, .path] | @tsv'

# Label: what is nearly the same; the number of the run takes it back.
labels=$(from "$found" '{items: [.hits[] | select(.similarity > 0.95) | {photo_id, taxon: $species}]}')
recorded=$(ask --json "$labels" "$url/api/annotations")
from "$recorded" '"run \(.run_id): \(.recorded) recorded, \(.unchanged) known before"'

# Export: page by page, until there is no next one.
echo '"id","path","captured_at","species"' > "$out"
next=
while :; do
  page=$(ask --get --data-urlencode "taxon=$species" ${next:+--data-urlencode "cursor=$next"} "$url/api/photos")
  from "$page" '.photos[] | [.id, .path, .captured_at, .verified[0].taxon] | @csv' >> "$out"
  next=$(from "$page" '.next // empty')
  [ -n "$next" ] || break
done
