#!/usr/bin/env python3
"""Serves counters as native histograms, as a client library does, in the protobuf that a scraper asks
for: exponential buckets with gaps that grow, negative ones, and one that starts anew now and then.
The argument is the port."""

import http.server
import struct
import sys
import time

STARTED = time.time()


def varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def zigzag(number):
    return varint(((number << 1) ^ (number >> 63)) & (1 << 64) - 1)


def number(field, value):
    return varint(field << 3) + value


def double(field, value):
    return varint(field << 3 | 1) + struct.pack("<d", value)


def message(field, body):
    return varint(field << 3 | 2) + varint(len(body)) + body


def side(spans_field, deltas_field, buckets):
    """Spans and differences of buckets, given as {index: count}."""
    out, run, last, end = b"", [], 0, None
    deltas = b""
    for index in sorted(buckets):
        if end is None or index != end:
            run.append([index - (end or 0), 0])
        run[-1][1] += 1
        end = index + 1
        deltas += zigzag(buckets[index] - last)
        last = buckets[index]
    for offset, length in run:
        out += message(spans_field, number(1, zigzag(offset)) + number(2, varint(length)))
    return out + (message(deltas_field, deltas) if deltas else b"")


def histogram(label, schema, zero, positive, negative, total):
    count = zero + sum(positive.values()) + sum(negative.values())
    body = number(1, varint(count)) + double(2, total) + number(5, zigzag(schema))
    body += double(6, 1e-3) + number(7, varint(zero))
    body += side(9, 10, negative) + side(12, 13, positive)
    pair = message(1, b"kind") + message(2, label)
    return message(4, message(1, pair) + message(7, body))


def page():
    n = int((time.time() - STARTED) * 10) + 5
    growing = {index: n // (abs(index - 3) + 1) for index in range(-4, 12) if n // (abs(index - 3) + 1)}
    growing.pop(0, None)
    below = {index: n // 7 for index in (1, 2, 9) if n // 7}
    again = {index: n % 60 + index for index in range(1, 5)}
    body = message(1, b"made_seconds") + message(2, b"Made up.") + number(3, varint(4))
    body += histogram(b"growing", 3, n // 5, growing, {}, n * 1.5)
    body += histogram(b"negative", 0, 1, growing, below, n * -0.5)
    body += histogram(b"again", 2, 0, again, {}, n % 60 * 2.0)
    return varint(len(body)) + body


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = page()
        kind = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
