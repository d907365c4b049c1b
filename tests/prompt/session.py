"""Types into `stoa query` on a terminal and reads what it shows."""

import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
import time
import urllib.request

STOA = sys.argv[1]
SERVER = os.environ["STOA_SERVER"]


def store():
    """Three series: two of a metric that is easy to complete, and one of a native histogram."""
    now = int(time.time())
    lines = ""
    for t in range(now - 600, now + 1, 10):
        lines += f'zebra_stripes_total{{herd="north",keeper="ann"}} {t - now + 1000} {t * 1000}\n'
        lines += f'zebra_stripes_total{{herd="south",keeper="bob"}} {t - now + 2000} {t * 1000}\n'
    request = urllib.request.Request(
        SERVER + "/api/v1/import/prometheus", lines.encode(), {"Content-Type": "text/plain"})
    urllib.request.urlopen(request, timeout=30).read()


class Terminal:
    def __init__(self, *arguments):
        pid, self.fd = pty.fork()
        if pid == 0:
            os.execv(STOA, ["stoa", *arguments])
        self.pid, self.seen, self.all = pid, "", ""

    def type(self, text):
        os.write(self.fd, text.encode())

    def expect(self, pattern, seconds=15):
        """Waits until the screen has shown something that was not there at the last expect."""
        until = time.time() + seconds
        while not (found := re.search(pattern, self.plain(), re.S)):
            ready, _, _ = select.select([self.fd], [], [], max(0, until - time.time()))
            if not ready:
                raise SystemExit(f"never saw {pattern!r}; the screen: {self.plain()!r}")
            try:
                more = os.read(self.fd, 65536).decode(errors="replace")
            except OSError:
                raise SystemExit(f"ended before {pattern!r}; the screen: {self.plain()!r}")
            self.seen += more
            self.all += more
        self.seen = ""
        return found

    def plain(self):
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.seen)

    def ended(self, seconds=10):
        until = time.time() + seconds
        while time.time() < until:
            ready, _, _ = select.select([self.fd], [], [], 0.1)
            try:
                if ready and not os.read(self.fd, 65536):
                    break
            except OSError:
                break
        else:
            os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


def check(condition, what):
    if not condition:
        raise SystemExit(f"not so: {what}")


def prompt():
    terminal = Terminal("query")
    terminal.expect("stoa> ")
    # A metric, a label and a value are completed; the answer is a table with a bold header.
    terminal.type("zebra_s\t")
    terminal.expect("zebra_stripes_total")
    terminal.type("{her\t")
    terminal.expect('herd="')
    terminal.type("nor\t")
    terminal.expect('north"')
    terminal.type("}\r")
    terminal.expect(r"herd\s+keeper\s+value.*zebra_stripes_total\s+north\s+ann\s+\d+.*stoa> ")
    check("\x1b[1m" in terminal.all, "the header is bold on a terminal")
    # Functions and keywords.
    terminal.type("histogram_qua\t")
    terminal.expect(r"histogram_quantile")
    terminal.type("\x03")
    terminal.expect("stoa> ")
    # What is open goes on in the next line.
    terminal.type("sum by (herd) (\rzebra_stripes_total\r)\r")
    terminal.expect(r"herd\s+value.*north\s+\d+.*south\s+\d+.*stoa> ")
    # A mistake is pointed at, and costs nothing.
    terminal.type("zebra_stripes_total + )\r")
    terminal.expect(r"error:.*parse error.*zebra_stripes_total \+ \)\r?\n +\^.*stoa> ")
    # Ctrl-C ends a question, not the prompt.
    terminal.type("quantile_over_time(0.5, quantile_over_time(0.5, vector(1)[10h:1s])[200h:1s])\r")
    time.sleep(1.5)
    terminal.type("\x03")
    terminal.expect(r"stopped.*stoa> ")
    # The terminal forgets what is typed until it has taken the signal.
    time.sleep(0.5)
    # A range is a chart; the format can be said.
    terminal.type("\\range 5m\r")
    terminal.expect(r"the 5m before now.*stoa> ")
    terminal.type("zebra_stripes_total\r")
    terminal.expect(r"┤.*└─.*● zebra_stripes_total\{.*stoa> ")
    terminal.type("\\format csv\r")
    terminal.expect("shown: csv.*stoa> ")
    terminal.type("\\step 1m\r")
    terminal.expect("every 1m.*stoa> ")
    terminal.type("zebra_stripes_total\r")
    terminal.expect(r"time,__name__,herd,keeper,value.*,zebra_stripes_total,north,ann,\d+.*stoa> ")
    terminal.type("\\nonsense\r")
    terminal.expect(r"there is no .nonsense.*stoa> ")
    # What was asked is found again, now and in the next prompt.
    terminal.type("\x1b[A\x1b[A\x1b[A")
    terminal.expect("zebra_stripes_total")
    terminal.type("\x03")
    terminal.expect("stoa> ")
    time.sleep(0.5)
    terminal.type("\x04")
    check(terminal.ended() == 0, "Ctrl-D ends it well")
    history = os.environ["STOA_HISTORY"]
    check(stat.S_IMODE(os.stat(history).st_mode) == 0o600, "the history is the person's own")
    check("zebra_stripes_total{herd=" in open(history).read(), "what was asked is kept")
    again = Terminal("query")
    again.expect("stoa> ")
    again.type("\x1b[A\x1b[A")
    again.expect("zebra_stripes_total|step")
    again.type("\x03")
    again.expect("stoa> ")
    time.sleep(0.5)
    again.type("\\quit\r")
    check(again.ended() == 0, r"\quit ends it well")


def commands():
    def run(*arguments, stdin=None):
        return subprocess.run([STOA, *arguments], input=stdin, capture_output=True, text=True, timeout=60)

    piped = run("query", stdin="count(zebra_stripes_total)\n")
    check(piped.returncode == 0 and piped.stdout.split() == ["value", "2"], f"standard input is asked: {piped}")
    check("\x1b" not in piped.stdout, "no colours without a terminal")
    bad = run("query", "zebra_stripes_total + )")
    check(bad.returncode == 2 and "\n                         ^" in bad.stderr, f"a caret: {bad}")
    bars = run("query", "zebra_stripes_total", "--format", "chart", "--time", "5 minutes ago")
    check(bars.stdout.count("█") > 10, f"bars: {bars}")
    warned = run("query", "rate(zebra_stripes_total[1m])", "--format", "csv")
    check(warned.returncode == 0 and warned.stdout.startswith("time,herd,keeper,value\n"), f"csv: {warned}")
    wrong = run("query", "up", "--time", "noonish")
    check(wrong.returncode == 2 and "is no time" in wrong.stderr, f"a wrong time: {wrong}")
    told = run("explain", "sum(rate(zebra_stripes_total[5m])) / 2")
    parts = ["/: instant vector", "└─ rate", "reads    samples", "asked    at", "took "]
    check(told.returncode == 0 and all(part in told.stdout for part in parts), f"explained: {told}")
    dry = run("explain", "zebra_stripes_total", "--dry", "--json", "--range", "10m")
    check(dry.returncode == 0 and '"seriesMost":2' in dry.stdout and '"run"' not in dry.stdout, f"dry: {dry}")
    unclear = run("explain", "zebra_stripes_total + )")
    check(unclear.returncode == 2 and "^" in unclear.stderr, f"explained with a caret: {unclear}")
    empty = run("query", stdin="")
    check(empty.returncode == 2, f"nothing asked: {empty}")


store()
commands()
prompt()
print("the prompt does what it says")
