"""Is any series of node_exporter's page missing in what the agent prints? Values are not compared.

usage: present.py NODE_EXPORTER_PAGE AGENT_PAGE

EXPLAINED says what may be missing: beginnings of series as they stand on the page, and why.
"""

import re
import sys

EXPLAINED = {
    "go_": "of Go's runtime",
    "process_": "of the program itself, told by the running agent",
    "promhttp_": "of Go's HTTP server",
    "node_exporter_build_info": "of the program itself, told by the running agent",
    "node_scrape_collector_": "of each program's own sources",
    # Processes, sockets and connections that were there for one of the two only.
    "node_tcp_connection_states": "states that come and go",
    "node_processes_state": "states that come and go",
    "node_processes_threads_state": "states that come and go",
}


def series(path):
    found = set()
    for line in open(path, encoding="utf-8"):
        if line.startswith("#") or not line.strip():
            continue
        name, _, labels = line.rsplit(" ", 1)[0].partition("{")
        pairs = re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels)
        # An empty label is no label; `rotational` is newer than 1.5.
        pairs = sorted((k, v) for k, v in pairs if v and k not in ("rotational", "adminstate"))
        found.add(name + "{" + ",".join(f'{k}="{v}"' for k, v in pairs) + "}")
    return found


def main():
    theirs, ours = series(sys.argv[1]), series(sys.argv[2])
    missing = sorted(theirs - ours)
    unexplained = [one for one in missing if not any(one.startswith(part) for part in EXPLAINED)]
    families = {one.split("{")[0] for one in theirs}
    print(f"{len(theirs)} series of {len(families)} families on node_exporter's page, "
          f"{len(ours)} printed; {len(missing)} not printed, {len(unexplained)} of them unexplained")
    for one in unexplained[:60]:
        print("missing:", one)
    if len(theirs) < 500:
        raise SystemExit("too little was compared to mean anything")
    if unexplained:
        raise SystemExit(1)


main()
