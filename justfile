# What a developer runs. `just` lists these.

default:
    @just --list

# Everything CI runs, from this checkout.
ci:
    bash .ci/run

build:
    cargo build --workspace --all-targets

# The fast suite.
test:
    cargo test --workspace

lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

doc:
    RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --document-private-items

deny:
    cargo deny check bans licenses sources

# A collector and an agent of this machine, in a directory of their own.
sandbox:
    cargo run --release -- up --data-dir /tmp/stoa-sandbox

# The store under crashes, changed files and nonsense by seed; what others send, changed: about 6 minutes.
long:
    bash tests/long/run

# A fuzz target with coverage; fuzz/run says how, fuzz/fuzz_targets what there is.
fuzz target seconds="600":
    fuzz/run {{target}} {{seconds}}

# Real processes killed, real peers compared.
peers: side-by-side kill

# Prometheus and node_exporter beside Stoa on this machine: same series, same values.
side-by-side:
    bash tests/side-by-side/run

# Everything passed on to VictoriaMetrics and Prometheus, and asked back.
handoff:
    bash tests/handoff/run

# History to Prometheus's tools and back.
exchange:
    bash tests/exchange/run

# Exporters scraped by the agent and by prometheus with the same prometheus.yml.
scrape:
    bash tests/scrape/run

# The agent's `nut` against the real upsd, `time_sync` and `ntp` against the real chronyd.
house:
    bash tests/nut/run
    bash tests/time/run

# kill -9 of either side at random; no acknowledged sample lost, none stored twice.
kill count="200":
    bash tests/kill/run {{count}}

# A host with a real systemd: what the agent tells of its units.
lab:
    bash tests/lab/run

# Real LXC containers, privileged and not: the numbers are the container's.
lxc:
    bash tests/lxc/run

# Containers of a real dockerd, and of Podman where it is installed: numbers, states, a dockerd that is killed.
containers:
    bash tests/containers/run

# `stoa host tree` and `stoa top` over real Docker and LXC containers.
tree:
    bash tests/tree/run
