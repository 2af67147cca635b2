#!/usr/bin/env bash
# The metrics, read by a real Prometheus; every expression of the dashboard and of the alert rules asked of it.
# metrics.sh FREEMKVD FREEMKVCTL DIRECTORY: in that are Debian's prometheus and promtool. Needs no root.
set -euo pipefail

freemkvd=$1 freemkvctl=$2 tools=$3
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."
work=$(mktemp --directory)
jobs_of_ours=()
finish() {
    ((${#jobs_of_ours[@]} == 0)) || kill "${jobs_of_ours[@]}" 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap finish EXIT
fail() {
    echo "error: $*" >&2
    cat "$work"/*.log >&2
    exit 1
}
until_true() {
    local tries
    for ((tries = 150; tries > 0; tries--)); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.1
    done
    fail "in vain: $*"
}
ask() { curl --silent --show-error --fail --get --data-urlencode "query=$1" "http://127.0.0.1:$web/api/v1/query"; }

"$tools/promtool" check rules monitoring/alerts.yml

# The structure of the dashboard: panels with expressions, and a data source that is chosen.
jq --exit-status '(.templating.list | any(.name == "datasource" and .type == "datasource")) and (.panels | length > 0)
    and ([.panels[].id] | length == (unique | length))
    and all(.panels[]; .title != "" and .datasource.uid == "${datasource}" and (.targets | length > 0)
        and all(.targets[]; .expr != "" and .datasource.uid == "${datasource}"))' \
    monitoring/grafana-dashboard.json >/dev/null || fail "the dashboard is not one"

# The socket is passed, as by freemkvd-metrics.socket. It can't be asked for any free port: some are tried, of those that
# the system gives nobody by itself.
mkdir "$work/rips"
for ((tries = 20; tries > 0; tries--)); do
    port=$((20000 + RANDOM % 10000))
    rm -f "$work/socket"
    systemd-socket-activate --fdname=freemkvd:metrics --listen="$work/socket" --listen=127.0.0.1:$port \
        "$freemkvd" --root "$work/rips" >"$work/daemon.log" 2>&1 &
    jobs_of_ours+=($!)
    until_true grep -e "Listening on 127.0.0.1:$port" -e "Failed to" "$work/daemon.log"
    grep --quiet "Failed to" "$work/daemon.log" || break
done
((tries > 0)) || fail "no port is free"
until_true "$freemkvctl" --socket "$work/socket" status
head --bytes=30M /dev/zero | "$freemkvctl" --socket "$work/socket" write "$work/rips/film" >/dev/null
(sleep 40 | "$freemkvctl" --socket "$work/socket" write "$work/rips/open" >/dev/null 2>&1) &
jobs_of_ours+=($!)
until_true bash -c "'$freemkvctl' --socket '$work/socket' metrics | grep -q '^freemkvd_device_state'"

curl --silent --show-error --fail "http://127.0.0.1:$port/metrics" >"$work/text"
[[ $(tail --lines=1 "$work/text") == "# EOF" ]] || fail "no end mark"
"$freemkvctl" --socket "$work/socket" metrics >"$work/same"
names() { sed --regexp-extended -e '/^#/d' -e 's/[ {].*//' "$1" | sort --unique; }
diff <(names "$work/text") <(names "$work/same") || fail "the two ways tell different things"
"$tools/promtool" check metrics <"$work/same" || fail "promtool does not like the metrics"

cat >"$work/prometheus.yml" <<Y
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [$PWD/monitoring/alerts.yml]
scrape_configs:
  - job_name: freemkvd
    static_configs: [{targets: ["127.0.0.1:$port"]}]
Y
"$tools/prometheus" --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/data" \
    --web.listen-address=127.0.0.1:0 >"$work/prometheus.log" 2>&1 &
jobs_of_ours+=($!)
listening='s/.*msg="Listening on" address=127\.0\.0\.1:\([0-9]*\)$/\1/p'
is_there() { web=$(sed -n "$listening" "$work/prometheus.log") && [[ -n $web ]]; }
until_true is_there
is_scraped() { ask 'count_over_time(freemkvd_draining[1m]) > 2' | jq --exit-status '.data.result | length == 1'; }
until_true is_scraped

known=$(curl --silent --fail "http://127.0.0.1:$web/api/v1/label/__name__/values" | jq --raw-output '.data[]')
count=0
while IFS= read -r expression; do
    ask "$expression" | jq --exit-status '.status == "success"' >/dev/null || fail "refused: $expression"
    for name in $(grep --only-matching --extended-regexp 'freemkvd_[a-z_]+' <<<"$expression"); do
        grep --quiet --line-regexp "$name" <<<"$known" || fail "there is no $name, as in: $expression"
    done
    count=$((count + 1))
done < <(jq --raw-output '.panels[].targets[].expr' monitoring/grafana-dashboard.json
    curl --silent --fail "http://127.0.0.1:$web/api/v1/rules" | jq --raw-output '.data.groups[].rules[].query')
((count >= 25)) || fail "only $count expressions were found"
[[ $(ask 'up{job="freemkvd"}' | jq --raw-output '.data.result[0].value[1]') == 1 ]] || fail "the scrape is not up"
[[ $(ask freemkvd_accepted_bytes_total | jq --raw-output '.data.result[0].value[1]') == 31457280 ]] ||
    fail "30 MiB were written, and are not counted"
echo "$count expressions, all of metrics that there are"
