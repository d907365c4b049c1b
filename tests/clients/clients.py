"""OpenTelemetry's Python SDK sends metrics of every kind, over HTTP and gRPC, cumulative and as deltas;
Prometheus's Python client reads what Stoa hands out. `clients.py URL` of a `stoa up`."""

import json
import sys
import urllib.error
import urllib.parse
import urllib.request

import grpc
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as OverGrpc
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as OverHttp
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, UpDownCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import (
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client.parser import text_string_to_metric_families

URL = sys.argv[1]
ADDRESS = URL.removeprefix("http://")
NEVER_MS = 3_600_000
VIEWS = [
    View(instrument_name="clients.latency", aggregation=ExplicitBucketHistogramAggregation((1, 10))),
    View(instrument_name="clients.size", aggregation=ExponentialBucketHistogramAggregation()),
]


def exporter(protocol, temporality):
    preferred = {kind: temporality for kind in (Counter, UpDownCounter, Histogram)}
    if protocol == "http":
        return OverHttp(
            endpoint=f"{URL}/v1/metrics",
            preferred_temporality=preferred,
            compression=Compression.Gzip,
        )
    return OverGrpc(
        endpoint=ADDRESS,
        insecure=True,
        preferred_temporality=preferred,
        compression=grpc.Compression.Gzip,
    )


def send(protocol, temporality, instance):
    """Three rounds, each exported and in a trace of its own, of which it says the numbers."""
    reader = PeriodicExportingMetricReader(exporter(protocol, temporality), NEVER_MS)
    resource = Resource.create(
        {"service.name": "clients", "service.namespace": "test", "service.instance.id": instance}
    )
    provider = MeterProvider([reader], resource=resource, views=VIEWS)
    meter = provider.get_meter("clients", "1.0")
    counter = meter.create_counter("clients.requests", unit="{request}", description="Requests.")
    open_now = meter.create_up_down_counter("clients.open")
    temperature = meter.create_gauge("clients.temperature", unit="Cel")
    latency = meter.create_histogram("clients.latency", unit="s")
    size = meter.create_histogram("clients.size", unit="By")
    attributes = {"http.method": "GET", "name": "ü \"quoted\""}
    tracer = TracerProvider().get_tracer("clients")
    traces = set()
    for round_ in (1, 2, 3):
        with tracer.start_as_current_span("round") as span:
            traces.add(f"{span.get_span_context().trace_id:032x}")
            counter.add(round_, attributes)
            open_now.add(5 if round_ == 1 else -2, attributes)
            temperature.set(round_ + 0.5, attributes)
            for value in (0.5, 3.0, 30.0):
                latency.record(value, attributes)
            for value in (1, 2, 4):
                size.record(value, attributes)
        assert provider.force_flush(), f"{instance}: an export failed"
    provider.shutdown()
    return traces


def ask(path, **parameters):
    query = urllib.parse.urlencode(parameters, doseq=True)
    with urllib.request.urlopen(f"{URL}{path}?{query}") as answer:
        return answer.read().decode()


def value(query):
    result = json.loads(ask("/api/v1/query", query=query))["data"]["result"]
    assert len(result) == 1, f"{query}: {result}"
    return float(result[0]["value"][1])


def check_exemplars(instance, traces):
    """The traces of each kind of metric that has exemplars."""
    for name, of in (
        ("clients_requests_total", "counter"),
        ("clients_latency_seconds_bucket", "histogram"),
        ("clients_size_bytes", "exponential histogram"),
    ):
        query = f'{name}{{instance="{instance}"}}'
        found = json.loads(ask("/api/v1/query_exemplars", query=query, start=0))["data"]
        labels = [exemplar["labels"] for series in found for exemplar in series["exemplars"]]
        assert {each["trace_id"] for each in labels} == traces, f"{of}: {labels}, not of {traces}"
        assert all(len(each["span_id"]) == 16 for each in labels), f"{of}: {labels}"


def check(instance):
    labels = f'{{job="test/clients",instance="{instance}",http_method="GET"}}'
    bucket = f'clients_latency_seconds_bucket{{instance="{instance}",le="%s"}}'
    for query, expected in (
        (f"clients_requests_total{labels}", 6),
        (f"clients_open{labels}", 1),
        (f"clients_temperature_celsius{labels}", 3.5),
        (f"clients_latency_seconds_count{labels}", 9),
        (f"clients_latency_seconds_sum{labels}", 100.5),
        (bucket % "1", 3),
        (bucket % "10", 6),
        (bucket % "+Inf", 9),
        (f"histogram_count(clients_size_bytes{labels})", 9),
        (f"histogram_sum(clients_size_bytes{labels})", 21),
        (f"histogram_quantile(1, clients_size_bytes{labels}) <= bool 4.1", 1),
        (f'target_info{{instance="{instance}",telemetry_sdk_language="python"}}', 1),
    ):
        found = value(query)
        assert found == expected, f"{query}: {found}, not {expected}"


def read_as_prometheus():
    """What Prometheus's own client reads of `/metrics` and `/federate`."""
    families = {family.name: family for family in text_string_to_metric_families(ask("/metrics"))}
    requests = families["stoa_collector_otlp_requests"]
    assert requests.type == "counter", requests
    outcomes = {sample.labels["outcome"]: sample.value for sample in requests.samples}
    assert outcomes["accepted"] >= 12 and outcomes["partial"] == 0, outcomes
    deltas = families["stoa_collector_otlp_deltas"].samples
    deltas = {sample.labels["outcome"]: sample.value for sample in deltas}
    # Of each round a counter, an up-down counter and two histograms, twice.
    assert deltas["added"] == 24 and deltas["out_of_order"] == 0, deltas
    selector = '{__name__=~"clients_(requests_total|latency_seconds_bucket)"}'
    text = ask("/federate", **{"match[]": selector})
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    # Four instances, of each one counter and three buckets.
    assert len(samples) == 16, samples
    assert {s.labels["name"] for s in samples} == {"ü \"quoted\""}, samples
    counted = {s.labels["instance"]: s.value for s in samples if s.name.endswith("_total")}
    assert set(counted.values()) == {6.0}, counted


def refused():
    """Logs and traces are not taken."""
    for path in ("/v1/logs", "/v1/traces"):
        request = urllib.request.Request(f"{URL}{path}", b"{}", {"content-type": "application/json"})
        try:
            urllib.request.urlopen(request)
            raise AssertionError(f"{path} was taken")
        except urllib.error.HTTPError as error:
            assert error.code == 501, f"{path}: {error}"
    with grpc.insecure_channel(ADDRESS) as channel:
        for service in ("logs.v1.LogsService", "trace.v1.TraceService"):
            call = channel.unary_unary(f"/opentelemetry.proto.collector.{service}/Export")
            try:
                call(b"", timeout=10)
                raise AssertionError(f"{service} was taken")
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.UNIMPLEMENTED, f"{service}: {error}"


def main():
    for protocol in ("http", "grpc"):
        for temporality in (AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA):
            instance = f"{protocol}-{temporality.name.lower()}"
            traces = send(protocol, temporality, instance)
            check(instance)
            check_exemplars(instance, traces)
            print(f"clients: {instance} is stored as it was sent")
    read_as_prometheus()
    print("clients: /metrics and /federate are read by prometheus-client")
    refused()
    print("clients: logs and traces are not taken")


main()
