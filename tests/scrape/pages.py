"""Pages for tests/scrape/run: a good one, one that hangs, one without an end, one that is none."""
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"""# HELP shop_visits_total Visits.
# TYPE shop_visits_total counter
shop_visits_total{door="left"} 7
shop_visits_total{door="right",job="own"} 8
# TYPE shop_wait_seconds histogram
shop_wait_seconds_bucket{le="0.5"} 1
shop_wait_seconds_bucket{le="+Inf"} 3
shop_wait_seconds_sum 2.5
shop_wait_seconds_count 3
shop_name{text="a \\"b\\" \\\\ c\\nd"} -1.5e-7
"""


class Pages(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path.startswith("/hang"):
            time.sleep(5)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        try:
            if self.path.startswith("/endless"):
                for n in range(10**9):
                    self.wfile.write(b'endless{n="%d"} 1\n' % n)
            elif self.path.startswith("/rubbish"):
                self.wfile.write(b"<html>it works!</html>\n")
            else:
                self.wfile.write(PAGE)
        except OSError:
            pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Pages).serve_forever()
