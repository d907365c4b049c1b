"""compare.py PROMETHEUS STOA: the same targets, series and values.

Every series Prometheus has now stands in Stoa under the same labels but for `host`, and the other way
round. Values that do not move are equal; of those that do only the presence is compared, as both ask at
moments of their own.
"""
import json
import sys
import time
import urllib.parse
import urllib.request

prom, stoa = sys.argv[1:]
JOBS = '{job=~"prometheus|exporter|files|hangs|endless|rubbish|limited|own"}'
# Known when the server tells of itself, which it does not at the same moment twice; what it takes to
# scrape is either's own.
OWN = ("scrape_duration_seconds", "scrape_body_size_bytes", "scrape_timeout_seconds")
# Appear once a certain request came, such as the very question asked here.
OF_QUESTIONS = ("prometheus_http_", "prometheus_engine_", "promhttp_", "net_conntrack_", "go_", "prometheus_sd_")

# Of who scrapes: its own connection, its own appender; and what a limit cut off counts as added at each scrape
# here, and once there.
OF_SCRAPERS = ("process_open_fds", "prometheus_tsdb_head_active_appenders")


def is_of_scraper(labels):
    cut = labels["job"] == "limited" and labels["__name__"] == "scrape_series_added"
    return cut or labels["__name__"] in OF_SCRAPERS


def ask(server, query, at):
    form = urllib.parse.urlencode({"query": query, "time": at}).encode()
    with urllib.request.urlopen(server + "/api/v1/query", form) as answer:
        result = json.load(answer)["data"]["result"]
    found = {}
    for series in result:
        labels = {k: v for k, v in series["metric"].items() if k != "host"}
        found[tuple(sorted(labels.items()))] = series.get("values") or [series["value"]]
    return found


def main():
    at = time.time() - 3
    theirs, ours = (ask(server, JOBS, at) for server in (prom, stoa))
    windows = [ask(server, JOBS + "[15s]", at) for server in (prom, stoa)]
    wrong = []
    skipped = lambda key: dict(key)["__name__"].startswith(OF_QUESTIONS + OWN)
    for name, some, other in (("only prometheus", theirs, ours), ("only stoa", ours, theirs)):
        for key in some:
            if key not in other and not skipped(key):
                wrong.append(f"{name}: {dict(key)}")
    equal = 0
    for key in theirs.keys() & ours.keys():
        values = [{value for _, value in window.get(key, [])} for window in windows]
        if skipped(key) or is_of_scraper(dict(key)) or len(values[0]) != 1 or len(values[1]) != 1:
            continue
        if float(*values[0]) != float(*values[1]) and "NaN" not in values[0] | values[1]:
            wrong.append(f"differ: {dict(key)} {values}")
        equal += 1
    for line in wrong[:40]:
        print(line)
    up = {dict(key)["job"]: value[0][1] for key, value in ours.items() if dict(key)["__name__"] == "up"}
    print(f"{len(theirs)} series of prometheus, {len(ours)} of stoa, {equal} that stand still are equal; up: {up}")
    sys.exit(bool(wrong) or equal < 100 or len(up) != 7)


main()
