"""Prometheus's parser and Stoa's beside each other: grammar.py PROMETHEUS STOA [COUNT].

Queries of the scripts, a few words of each changed by chance (from a seed), are laid out by both servers
(/api/v1/format_query). What Prometheus reads Stoa must read, and lay out alike, but for numbers (one writes
1.234e+07, the other 12340000). Stoa's language is newer: what it reads and Prometheus does not is counted
only, as are texts of errors."""

import collections
import glob
import json
import random
import re
import sys
import urllib.error
import urllib.parse
import urllib.request

THEIRS, OURS = sys.argv[1:3]
COUNT = int(sys.argv[3]) if len(sys.argv) > 3 else 3000
WORD = re.compile(
    r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|[A-Za-z_:][\w:]*|\d[\w.]*|[=!]~|[=!<>]=|\s+|.', re.S
)
NUMBER = re.compile(r"[-+]?(?:\d[\d.]*(?:e[-+]?\d+)?|Inf|NaN)", re.I)
WORDS = """bool on ignoring group_left group_right by without offset @ start() end() 5m [5m] [5m:1m] [5m:] ( )
{ } {a="b"} "" - + ^ % == != =~ !~ and unless or atan2 Inf NaN 0x1f 1e3 .5 5. 1h1h 0s -5m sum rate topk
count_values quantile vector scalar time() \\ `a` "\\x" "\\u00e9" $ ! ~ = a b:c __name__ , [ ] :""".split()


def queries():
    for path in sorted(glob.glob("crates/promql/testdata/*.test")):
        for line in open(path):
            found = re.match(
                r"eval(?:_\w+)?\s+(?:instant at \S+|range from \S+ to \S+ step \S+)\s+(.*)$", line
            )
            if found and len(found[1]) < 200:
                yield found[1]


def changed(rng, query, pool):
    words = WORD.findall(query)
    for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
        at, what = rng.randrange(len(words) + 1), rng.random()
        word = rng.choice(WORDS if rng.random() < 0.6 else pool)
        if what < 0.35 and at < len(words):
            del words[at]
        elif what < 0.7:
            words.insert(at, word)
        elif at < len(words):
            words[at] = word
    return "".join(words)


def asked(server, query):
    data = urllib.parse.urlencode({"query": query}).encode()
    try:
        with urllib.request.urlopen(f"{server}/api/v1/format_query", data=data) as answer:
            return json.load(answer)["data"], None
    except urllib.error.HTTPError as error:
        if error.code != 400:
            raise
        return None, json.load(error)["error"].removeprefix('invalid parameter "query": ')


def main():
    rng = random.Random(1)
    base = list(queries())
    pool = [word for query in base for word in WORD.findall(query) if not word.isspace()]
    seen = collections.Counter()
    for query in dict.fromkeys(changed(rng, rng.choice(base), pool) for _ in range(COUNT)):
        if not query.strip():
            continue
        (theirs, why), (ours, ours_why) = asked(THEIRS, query), asked(OURS, query)
        if theirs is None:
            alike = "refused in the same words" if why == ours_why else "refused in others"
            seen["newer" if ours is not None else alike] += 1
            continue
        if ours is None:
            sys.exit(f"refused is {query!r}: {ours_why}")
        numbers = NUMBER.findall(theirs)
        if any("e" in number.lower() or "n" in number.lower() for number in numbers):
            theirs, ours = ("".join(NUMBER.sub("0", text).split()) for text in (theirs, ours))
        if theirs != ours:
            sys.exit(f"{query!r} is laid out\n{ours}\nby prometheus\n{theirs}")
        seen["read"] += 1
    if seen["read"] < COUNT // 20 or seen["refused in the same words"] < COUNT // 4:
        sys.exit(f"too few are worth anything: {dict(seen)}")
    print(", ".join(f"{count} {what}" for what, count in seen.most_common()))


main()
