#!/usr/bin/env python3
"""Reads what a collector prints with the Prometheus client for Python. The argument is its address."""

import sys
import urllib.request

from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser


def get(path, accept):
    request = urllib.request.Request(sys.argv[1] + path, headers={"Accept": accept})
    with urllib.request.urlopen(request) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def families(read, text):
    return {family.name: family for family in read(text)}


kind, text = get("/metrics", "text/plain;version=0.0.4")
assert kind == "text/plain; version=0.0.4; charset=utf-8", kind
plain = families(parser.text_string_to_metric_families, text)
kind, text = get("/metrics", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
assert kind == "application/openmetrics-text; version=1.0.0; charset=utf-8", kind
# The strict one: families apart, bounds of buckets in order, an end.
strict = families(openmetrics_parser.text_string_to_metric_families, text)
assert len(plain) == len(strict) > 50, (len(plain), len(strict))
for name, family in plain.items():
    assert strict[name].type == family.type, (name, family.type, strict[name].type)
    labels = lambda samples: {(sample.name, tuple(sorted(sample.labels.items()))) for sample in samples}
    if family.type not in ("histogram", "summary"):
        assert labels(strict[name].samples) == labels(family.samples), name
_, text = get("/federate?match[]=%7Bjob=%22self%22%7D", "text/plain")
federated = families(parser.text_string_to_metric_families, text)
assert len(federated) > 100, len(federated)
assert all(sample.timestamp for family in federated.values() for sample in family.samples)
print(len(plain), "families in both formats,", len(federated), "federated")
