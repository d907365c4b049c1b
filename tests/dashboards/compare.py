"""Asks every expression of dashboards and rules of three engines and compares the answers.

prometheus  scrapes the agent's page
written     a Stoa that holds what that prometheus wrote into it: the same samples, so
            1. all samples of the last minute must be the same, times and values to the last digit;
            2. every expression has the same series and the same values, at one time and over a range;
               a difference of the last digits (NOISE) is counted, as Debian's prometheus 2.42 adds up
               in another order than 3.x.
streamed    a Stoa the same agent streams to, read at other moments, so
            3. every expression has the same series at one time;
            4. what does not move over the minute has the same value;
            5. every expression of Node Exporter Full and of the node mixin has an answer, but where
               this machine lacks what it asks for: LACKED says what may be lacked, and why.

The time asked for lies half way between two scrapes, so that no sample lies on the edge of a range:
there 2.x and 3.x differ (the range was closed on the left and is open). EXPLAINED lists what else
differs and why; docs/operating/scraped.md says the same.
"""

import json
import pathlib
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import yaml

NOISE = 1e-9
RANGE_S, STEP_S = 40, 5

# Part of an expression, or the beginning of a series' name: why its answers differ.
EXPLAINED_WRITTEN = {}
EXPLAINED_STREAMED = {
    "scrape_": "prometheus says how long its scrape took, the agent how long it read",
    "up": "each tells what it heard itself",
}


# What these answer with series on a machine that has it.
HOST = ("node-exporter-full-1860.json", "node_alerts.yaml", "node_rules.yaml")

# Beginnings of metrics' names that a machine may lack, and why.
LACKED = {
    "node_bonding_": "no bonded network devices",
    "node_cooling_device_": "no thermal zones (a guest)",
    "node_cpu_scaling_": "no frequency scaling (a guest)",
    "node_cpu_frequency_": "no frequency scaling (a guest)",
    "node_disk_discard": "a kernel without discards",
    "node_disk_flush": "a kernel without flushes",
    "node_edac_": "no memory with ECC in sight",
    "node_hwmon_": "no sensors (a guest)",
    "node_kernel_hung": "a kernel before 6.16, or without the watch for hung tasks",
    "node_md_": "no RAID arrays",
    "node_memory_": "a field this kernel does not tell",
    "node_network_speed_": "no network device with a speed (a guest)",
    "node_nf_conntrack_": "the firewall tracks no connections",
    "node_power_supply_": "no batteries or mains in sight",
    "node_pressure_": "a kernel without pressure stall information",
    "node_schedstat_": "a kernel without scheduler statistics",
    "node_systemd_": "no systemd",
    "node_textfile_mtime_": "no textfiles",
    "node_thermal_zone_": "no thermal zones (a guest)",
    "node_timex_pps_": "no pulse per second",
    "node_zfs_": "no ZFS",
    "node_netstat_": "a protocol this kernel does not have",
    "windows_": "another system's",
}


def ask(base, path, **form):
    body = urllib.parse.urlencode(form).encode()
    try:
        with urllib.request.urlopen(base + "/api/v1/" + path, body, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


def series(answer):
    """What an answer says, by labels."""
    data = answer["data"]
    if data["resultType"] in ("scalar", "string"):
        return {data["resultType"]: [data["result"]]}
    found = {}
    for item in data["result"]:
        key = json.dumps(item["metric"], sort_keys=True)
        found[key] = item.get("values") or [item["value"]]
    return found


def expressions(data, variables):
    """(where, expression) of everything there is."""

    def of_panels(node):
        if isinstance(node, dict):
            for target in node.get("targets") or []:
                if isinstance(target, dict) and target.get("expr"):
                    yield target["expr"]
            for value in node.values():
                yield from of_panels(value)
        elif isinstance(node, list):
            for value in node:
                yield from of_panels(value)

    for path in sorted((data / "dashboards").glob("*.json")):
        if path.name.endswith(".metric-types.json"):
            continue
        for expr in of_panels(json.loads(path.read_text())):
            yield path.name, filled(expr, variables)
    for path in sorted((data / "rules").glob("*.yaml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                yield path.name, str(rule["expr"])


def filled(expr, variables):
    def value(match):
        name = match.group(1) or match.group(2)
        if name not in variables:
            raise SystemExit(f"no value for ${name} in {expr!r}")
        return variables[name]

    return re.sub(r"\$\{(\w+)(?::\w+)?\}|\$(\w+)", value, expr)


def same(a, b):
    """Whether two lists of samples are the same; 'noise' when their last digits differ."""
    if a == b:
        return True
    if len(a) != len(b):
        return False
    for (t, v), (u, w) in zip(a, b):
        if t != u:
            return False
        if v == w:
            continue
        try:
            v, w = float(v), float(w)
        except ValueError:
            return False
        if not abs(v - w) <= NOISE * max(abs(v), abs(w)):
            return False
    return "noise"


def explained(expr, table):
    return next((why for part, why in table.items() if expr == part or (part.endswith("_") and part in expr)), None)


def main():
    prometheus, written, streamed, data = sys.argv[1:5]
    data = pathlib.Path(data)
    wrong, explanations = [], {}

    newest = ask(prometheus, "query", query="node_load1[20s]")["data"]["result"][0]["values"][-1][0]
    at = newest - 4 + 0.5
    info = ask(prometheus, "query", query="node_uname_info", time=at)["data"]["result"][0]["metric"]
    # Not the collectors' own series: each has those of itself.
    everything = '{__name__=~".+",job="%s"}[%ds]' % (info["job"], RANGE_S)
    # What was scraped is written within seconds.
    for _ in range(30):
        theirs = series(ask(prometheus, "query", query=everything, time=at))
        ours = series(ask(written, "query", query=everything, time=at))
        if theirs == ours:
            break
        time.sleep(1)
    samples = sum(map(len, theirs.values()))
    print(f"{len(theirs)} series, {samples} samples in prometheus and written into stoa")
    for key in sorted(theirs.keys() | ours.keys()):
        if theirs.get(key) != ours.get(key):
            wrong.append(f"samples: {key}: {theirs.get(key)} but {ours.get(key)}")
    if samples < 500 * (RANGE_S - 5):
        wrong.append(f"only {samples} samples: nothing was scraped?")

    variables = {
        "job": info["job"], "node": info["instance"], "nodename": info["nodename"],
        "instance": ".*", "gpu": ".*",
        "__rate_interval": "10s", "__interval": "5s", "__range": f"{RANGE_S}s",
    }
    asked = sorted(set(expressions(data, variables)))
    counts = dict.fromkeys(["asked", "series", "equal", "noise", "refused", "still", "empty"], 0)
    for where, expr in asked:
        counts["asked"] += 1
        for path, form in [
            ("query", {"time": at}),
            ("query_range", {"start": at - RANGE_S, "end": at, "step": STEP_S}),
        ]:
            theirs = ask(prometheus, path, query=expr, **form)
            ours = ask(written, path, query=expr, **form)
            if theirs["status"] != ours["status"]:
                why = explained(expr, EXPLAINED_WRITTEN)
                if why:
                    explanations.setdefault(why, set()).add(expr)
                    continue
                wrong.append(f"{where}: {path} {expr!r}: {theirs.get('error')} but {ours.get('error')}")
                continue
            if theirs["status"] == "error":
                counts["refused"] += 1
                continue
            theirs, ours = series(theirs), series(ours)
            counts["empty"] += not theirs
            for key in sorted(theirs.keys() | ours.keys()):
                counts["series"] += 1
                verdict = same(theirs.get(key, []), ours.get(key, []))
                if verdict == "noise":
                    counts["noise"] += 1
                elif verdict:
                    counts["equal"] += 1
                else:
                    why = explained(expr, EXPLAINED_WRITTEN)
                    if why:
                        explanations.setdefault(why, set()).add(expr)
                        continue
                    wrong.append(f"{where}: {path} {expr!r}: {key}: {theirs.get(key)} but {ours.get(key)}")

    # The stream: the same series; the same values where nothing moves.
    theirs = series(ask(prometheus, "query", query=everything, time=at))
    ours = series(ask(streamed, "query", query=everything, time=at))
    named = lambda key: json.loads(key)["__name__"]
    for key in sorted(theirs.keys() | ours.keys()):
        why = explained(named(key), EXPLAINED_STREAMED)
        if key not in theirs or key not in ours:
            if why:
                explanations.setdefault(why, set()).add(named(key))
            else:
                wrong.append(f"only {'streamed' if key in ours else 'scraped'}: {key}")
            continue
        their_values = {value for _, value in theirs[key]}
        our_values = {value for _, value in ours[key]}
        if len(their_values) == len(our_values) == 1:
            counts["still"] += 1
            if their_values != our_values and not why:
                wrong.append(f"streamed: {key}: {their_values} but {our_values}")
    for where, expr in asked:
        theirs = ask(prometheus, "query", query=expr, time=at)
        ours = ask(streamed, "query", query=expr, time=at)
        if theirs["status"] == ours["status"] == "success":
            if filtered(expr):
                continue
            theirs, ours = set(series(theirs)), set(series(ours))
            for key in sorted(theirs ^ ours):
                why = explained(expr, EXPLAINED_STREAMED)
                if why:
                    explanations.setdefault(why, set()).add(expr)
                else:
                    side = "streamed" if key in ours else "scraped"
                    wrong.append(f"{where}: {expr!r}: only {side}: {key}")
        elif theirs["status"] != ours["status"]:
            wrong.append(f"{where}: {expr!r}: {theirs.get('error')} but {ours.get('error')}")

    told = ask(streamed, "query", query='group by (__name__) ({__name__=~".+"})', time=at)
    names = {item["metric"]["__name__"] for item in told["data"]["result"]}
    lacked, answered, quiet = {}, 0, 0
    for where, expr in asked:
        if where not in HOST:
            continue
        answer = ask(streamed, "query", query=expr, time=at)
        if answer["status"] == "success" and series(answer):
            answered += 1
            continue
        text = re.sub(r'"[^"]*"', '""', expr)
        missing = {name for name in re.findall(r"(?<![:\w])(?:node|process|windows)_\w+", text) if name not in names}
        for name in sorted(missing):
            why = next((why for part, why in LACKED.items() if name.startswith(part)), None)
            if why:
                lacked.setdefault(why, set()).add(name)
            else:
                wrong.append(f"{where}: {expr!r}: nothing tells {name}")
        quiet += not missing
    print(f"host expressions: {answered} answered, {quiet} have all they ask for and select nothing now (alerts, states, recorded series)")
    if answered < 200:
        wrong.append(f"only {answered} expressions of the host are answered")
    for why, what in sorted(lacked.items()):
        print(f"lacked here: {why}: {', '.join(sorted(what))}")
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    for why, what in sorted(explanations.items()):
        print(f"explained: {why}: {len(what)}, such as {sorted(what)[0]!r}")
    for line in wrong[:40]:
        print("wrong:", line[:600])
    if wrong:
        raise SystemExit(f"{len(wrong)} differences that nothing explains")
    if counts["equal"] < 500 or counts["still"] < 200:
        raise SystemExit("too little was compared to mean anything")


def filtered(expr):
    """Whether a comparison leaves series out by their values, which differ between moments."""
    return re.search(r"(?<![=!~<>])(==|!=|>=|<=|<|>)(?!~)(?!\s*bool)", re.sub(r'"[^"]*"', '""', expr)) is not None


main()
