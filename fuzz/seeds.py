"""Seeds and words for a target of the agent or the inventory: seeds.py TARGET DIRECTORY.

Writes DIRECTORY/corpus, DIRECTORY/large and DIRECTORY/words. Seeds are the fixtures of the repository,
of STOA_CONFORMANCE_DATA, and this machine's own files, each behind the numbers of its parser; the large
ones are the same as they would be of a host with very much of everything. Words are those in the parsers.
What is written stays out of the repository.
"""

import os
import pathlib
import re
import sys
import tarfile

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
SOURCES = REPOSITORY / "agent/src/sources"
FIXTURES = SOURCES / "disks/fixtures"
BYTES_MAX = 16 << 10
LARGE_BYTES = 128 << 10

HOSTS = ["OF_THE_KERNEL", "OF_PROGRAMS", "OF_PROCESSES", "OF_A_CONTAINER", "OF_AN_OLDER_CONTAINER"]

NTP = bytes([0, 0, 0, 0, 0, 0, 0, 0, 0x24, 2, 6, 0xEC]) + bytes(12) + b"\xe9\x01\x02\x03" * 6
CHRONY = (
    "A29FC87B,162.159.200.123,4,1700000000.5,0.000001,-0.000002,0.00003,-1.5,0.1,0.2,0.01,0.001,"
    "64.5,Normal\n^,*,162.159.200.123,3,6,377,12,0.0001,0.0002,0.01\n"
)
NUT = (
    'OK\nOK\nBEGIN LIST UPS\nUPS a "my \\"ups\\""\nEND LIST UPS\nBEGIN LIST VAR a\n'
    'VAR a ups.status "OL CHRG"\nVAR a battery.charge "100"\nVAR a device.model "M"\n'
    "END LIST VAR a\n"
)
APT = (
    "The following packages were automatically installed and are no longer required:\n  liba libb\n"
    "Inst a [1] (2 Debian:12/stable, Debian-Security:12/stable-security [amd64])\nConf a (2)\n"
)
UNITS = "a.service\tloaded\tactive\trunning\t/a\nb.timer\tloaded\tfailed\tfailed\t/b\nc.socket\tloaded\tactive\tlistening\t/c\n"


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read(BYTES_MAX)
    except OSError:
        return b""


def conformance():
    """The fixtures of node_exporter, by their paths."""
    data = os.environ.get("STOA_CONFORMANCE_DATA")
    files = {}
    if data:
        with tarfile.open(pathlib.Path(data) / "exporters/node_exporter/fixtures.tar.gz") as tar:
            for member in tar:
                if member.isfile() and member.size <= 1 << 20:
                    files[member.name.removeprefix("./")] = tar.extractfile(member).read(BYTES_MAX)
    return files


def json_in(path):
    text = read(path)
    return text[text.index(b"{") : text.rindex(b"}") + 1]


def of_files():
    text = (SOURCES / "fuzzing/places.rs").read_text()
    known = conformance()
    smart = [read(path) for path in sorted(FIXTURES.glob("smart_*.json"))]
    lvm = {kind: [json_in(FIXTURES / "lvm" / kind)] for kind in ["lvs", "vgs", "pvs"]}
    given = {"smart-sda.json": smart} | {f"{kind}.json": lvm[kind] for kind in lvm}
    given["a.prom"] = [data for path, data in known.items() if path.endswith(".prom")]
    for host, name in enumerate(HOSTS):
        table = text[text.index(f"pub const {name}:") :]
        table = table[: table.index("];")]
        places = re.findall(r'\(\s*"(\w*)",\s*"([^"]+)",\s*r?#?"((?:[^"\\]|\\.)*)"', table)
        for which, (_, path, rest) in enumerate(places):
            base = path.rsplit("/", 1)[-1]
            alike = [data for other, data in known.items() if other.rsplit("/", 1)[-1] == base]
            found = [known.get(path, b""), read("/" + path), *alike[:4], *given.get(base, [])]
            found.append(rest.encode().decode("unicode_escape").encode())
            for data in dict.fromkeys(found):
                yield bytes([host, which]) + data


def of_answers():
    certificates = sorted(pathlib.Path("/etc/ssl/certs").glob("*.pem"))[:8]
    seeds = [
        [read(FIXTURES / "zpool.sh"), b"tank\t1\t1.00\t5\t10\t-\t7\t0\tONLINE\t0\toff\t9\n"],
        [read(FIXTURES / "zfs.sh"), b"tank/a\tfilesystem\t1\t1.5\t2\t0\t3\t4\t5\t6\t-\t7\ntank/a@s\n"],
        [read(FIXTURES / "zpool_status.txt"), read(FIXTURES / "zpool.sh")],
        [read(FIXTURES / "zpool_status.json")],
        *([json_in(FIXTURES / "lvm" / kind)] for kind in ["lvs", "vgs", "pvs"]),
        [read(path) for path in sorted(FIXTURES.glob("smart_*.json"))],
        [read(FIXTURES / "smart_scan.json")],
        [CHRONY.encode()],
        [b"NTPMessage={ Leap=0, Stratum=2, Jitter=0 }\n", b"associd=0 status=0615 leap_none, sync_ntp,\nstratum=2, offset=-0.154\n"],
        [b'ups.status "OL CHRG"\nbattery.charge 100\ndevice.model "M"\n'],
        [NUT.encode()],
        [APT.encode()],
        [NTP],
        [read(path) for path in certificates],
        [read("/var/log/wtmp"), bytes([2]) + bytes(383) + bytes([1]) + bytes(43) + b"shutdown" + bytes(332)],
        [read("/var/lib/dpkg/status")[:4096]],
        [UNITS.encode()],
    ]
    for which, found in enumerate(seeds):
        for data in found:
            yield bytes([which]) + data


def attribute(kind, value):
    size = 4 + len(value)
    return size.to_bytes(2, "little") + kind.to_bytes(2, "little") + value + bytes(-size % 4)


def message(kind, body):
    size = 16 + len(body)
    return size.to_bytes(4, "little") + kind.to_bytes(2, "little") + bytes(10) + body + bytes(-size % 4)


def of_netlink():
    link = bytes(16) + attribute(3, b"eth0\0")
    address = bytes([2, 24, 0, 0, 1, 0, 0, 0]) + attribute(1, bytes(4)) + attribute(2, bytes(4))
    route = bytes(12) + attribute(5, bytes([10, 0, 0, 1])) + attribute(4, bytes([1, 0, 0, 0])) + attribute(9, attribute(5, bytes(4)))
    statistics = attribute(7, attribute(1, bytes(16)) + attribute(3, bytes(20)))
    qdisc = bytes(20) + attribute(1, b"fq_codel\0") + statistics + attribute(3, bytes(40))
    station = bytes(4) + attribute(6, bytes(6)) + attribute(21, b"".join(attribute(kind, bytes(8)) for kind in range(1, 24)))
    network = bytes(4) + attribute(47, attribute(1, bytes(6)) + attribute(6, b"\0\4name") + attribute(9, bytes(4)))
    interface = bytes(4) + attribute(3, bytes(4)) + attribute(4, b"wlan0\0") + attribute(5, bytes(4)) + attribute(38, bytes(4))
    bodies = [link, address, route, qdisc, station, network, interface, bytes(72), bytes(196)]
    bodies.append(bytes(12) + bytes([0, 0, 0, 2]) + bytes(32) + b"\xff" * 48)
    bodies.append(b"".join(name.ljust(32, b"\0") for name in [b"rx_packets", b"tx errors", b"[0]: rx_bytes"]) + bytes(24))
    for kind, body in enumerate(bodies):
        yield message(16 + kind, body)
        yield body
    yield b"".join(message(20, body) for body in bodies)


def field(number, data):
    return bytes([number << 3 | 2]) + len(data).to_bytes(1, "little") + data


def of_inventory():
    def told(sections):
        return b"\x08\x01" + field(2, b"d") + field(3, b"".join(sections))

    def section(name, items, left_out=0):
        return field(1, field(1, name) + b"".join(field(2, item) for item in items) + bytes([0x18, left_out]))

    item = field(1, b"sda") + field(2, field(1, b"model") + field(2, b"M")) + field(2, field(1, b"size") + b"\x18\x05")
    other = field(1, b"sdb") + field(2, field(1, b"flag") + b"\x20\x01") + field(2, field(1, b"list") + field(5, field(1, b"a") + field(1, b"b")))
    whole = [told([section(b"disks", [item])]), told([section(b"disks", [item, other], 3), section(b"a", [])])]
    for first in whole:
        for second in whole:
            yield len(first).to_bytes(2, "little") + first + second


def large(head, data):
    """The same with many lines, each of other numbers, and with long words."""
    lines = data.split(b"\n")
    numbers = iter(range(1 << 30))
    many = bytearray()
    while len(many) < LARGE_BYTES and any(lines):
        for line in lines:
            many += re.sub(rb"\d+", lambda _: str(next(numbers)).encode(), line) + b"\n"
    yield head + bytes(many[:LARGE_BYTES])
    for word in list(dict.fromkeys(re.findall(rb"[A-Za-z_]{3,}", data)))[:8]:
        yield head + data.replace(word, word + b"x" * (LARGE_BYTES // 8))[: 2 * LARGE_BYTES]
    yield head + (data * (LARGE_BYTES // max(len(data), 1) + 1))[:LARGE_BYTES]


def words(paths):
    found = set()
    for path in paths:
        code = path.read_text().split("#[cfg(test)]\nmod tests")[0]
        found.update(re.findall(r'b?"((?:[^"\\\n]){2,40})"', code))
    return sorted(word for word in found if word.isascii())


def main():
    target, directory = sys.argv[1], pathlib.Path(sys.argv[2])
    seeds = {
        "agent_files": of_files,
        "agent_answers": of_answers,
        "agent_netlink": of_netlink,
        "inventory": of_inventory,
    }[target]
    head = {"agent_files": 2, "agent_answers": 1, "agent_netlink": 0, "inventory": 2}[target]
    for name in ["corpus", "large"]:
        (directory / name).mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        (directory / "corpus" / f"{number:04}").write_bytes(seed)
        for part, grown in enumerate(large(seed[:head], seed[head:])):
            (directory / "large" / f"{number:04}-{part}").write_bytes(grown)
    lines = [f'"{word}"' for word in words(sorted(SOURCES.rglob("*.rs"))) if not word.startswith("node_")]
    (directory / "words").write_text("\n".join([*lines, '"\\x1e\\x1e"', '"1e200"', '"-1"', '"18446744073709551615"']) + "\n")


main()
