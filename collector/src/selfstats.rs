//! The collector's own figures, as families like anyone's: printed at `/metrics` and stored.
//!
//! This module only turns figures into families; what is counted, and where, is said by the parts
//! that count. docs/metrics.md lists every name.

mod handoff;
mod inventories;
mod otlp;
mod pushed;
mod remote_write;
mod reuse;

use stoa_exchange::otlp::DeltaCounts;
use stoa_model::{Family, Labels, MetricKind};
use stoa_proto::delivery::DropReason;
use stoa_transport::ListenerStats;
use stoa_tsdb::{Stats, TierStats};

use crate::http::access::Refusals;
use crate::http::import::ImportFigures;
use crate::http::prometheus::{GateFigures, ReuseFigures};
use crate::http::pushed::PushFigures;
use crate::http::serve::HttpFigures;
use crate::ingest::IngestFigures;
use crate::inventory::InventoryFigures;
use crate::members::MemberCounts;
use crate::remote::{ElsewhereFigures, TargetFigures};
use crate::store::{COMMIT_BUCKETS_MS, StoreFigures};

/// Everything the parts have counted, as of one moment.
#[derive(Clone, Debug)]
pub struct Figures {
    /// The store's doings.
    pub store: StoreFigures,
    /// What the database holds.
    pub tsdb: Stats,
    /// What agents sent, all of them together.
    pub ingest: IngestFigures,
    /// Whether most senders say that the collector's clock is wrong.
    pub clock_suspect: bool,
    /// Samples of the collector's own not written because its clock was in doubt.
    pub own_samples_held: u64,
    /// Connections of agents.
    pub listener: ListenerStats,
    /// Joins, renewals, revocations.
    pub members: MemberCounts,
    /// What hosts told that they are made of.
    pub inventories: InventoryFigures,
    /// Enrolled hosts, and how many of them are up.
    pub hosts: (usize, usize),
    /// Requests not admitted.
    pub refusals: Refusals,
    /// Connections of people and Grafana.
    pub http: HttpFigures,
    /// Queries.
    pub queries: GateFigures,
    /// What was kept of answers, and used again.
    pub reuse: ReuseFigures,
    /// What came by remote write.
    pub remote_write: PushFigures,
    /// What came by OTLP.
    pub otlp: PushFigures,
    /// What became of deltas among it; `None` where they are refused.
    pub deltas: Option<DeltaCounts>,
    /// Imports.
    pub imports: ImportFigures,
    /// What was passed on to other engines, by target.
    pub handoff: Vec<TargetFigures>,
    /// What another engine was asked, if there is one.
    pub elsewhere: Option<ElsewhereFigures>,
}

/// The figures as families.
#[must_use]
pub fn families(figures: &Figures) -> Vec<Family> {
    let mut page = Page::default();
    page.info();
    page.store(&figures.store);
    page.tsdb(&figures.tsdb);
    page.ingest(&figures.ingest);
    page.gauge(
        "stoa_collector_clock_suspect",
        "Whether the collector's clock is far from most senders'; set it right.",
        u64::from(figures.clock_suspect),
    );
    page.counter(
        "stoa_collector_own_samples_held_total",
        "Samples of the collector's own not written because its clock was in doubt.",
        figures.own_samples_held,
    );
    page.listener(&figures.listener);
    page.remote_write(&figures.remote_write);
    page.otlp(&figures.otlp);
    page.deltas(&figures.deltas.unwrap_or_default());
    page.people(figures);
    page.inventories(&figures.inventories);
    page.imports(&figures.imports);
    page.reuse(&figures.reuse);
    page.handoff(&figures.handoff);
    if let Some(elsewhere) = figures.elsewhere {
        page.elsewhere(elsewhere);
    }
    page.0
}

#[derive(Default)]
struct Page(Vec<Family>);

impl Page {
    fn add(&mut self, kind: MetricKind, name: &str, help: &str, rows: &[(&[(&str, &str)], u64)]) {
        let mut family = Family::new(name, help, kind);
        for (labels, value) in rows {
            let labels = Labels::from_pairs_last_wins(labels.iter().copied());
            family.push(labels, *value as f64);
        }
        self.0.push(family);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.add(MetricKind::Counter, name, help, &[(&[], value)]);
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.add(MetricKind::Gauge, name, help, &[(&[], value)]);
    }

    fn info(&mut self) {
        self.add(
            MetricKind::Gauge,
            "stoa_collector_build_info",
            "Always 1; the labels say what is running.",
            &[(&[("version", env!("CARGO_PKG_VERSION"))], 1)],
        );
    }

    fn store(&mut self, store: &StoreFigures) {
        self.add(
            MetricKind::Counter,
            "stoa_collector_store_samples_total",
            "Samples handed to the store, by what became of them.",
            &[
                (&[("outcome", "stored")], store.samples.stored),
                (&[("outcome", "duplicate")], store.samples.duplicate),
                (&[("outcome", "conflicting")], store.samples.conflicting),
                (&[("outcome", "too_old")], store.samples.too_old),
                (&[("outcome", "disk_full")], store.disk_full_samples),
                (&[("outcome", "refused")], store.refused_samples),
                (&[("outcome", "unavailable")], store.unavailable_samples),
            ],
        );
        self.counter(
            "stoa_collector_store_series_refused_total",
            "New series not taken because of the limit over all hosts.",
            store.refused_series,
        );
        self.counter(
            "stoa_collector_store_descriptions_refused_total",
            "Metric descriptions not kept for want of room.",
            store.refused_descriptions,
        );
        self.gauge("stoa_collector_store_exemplars", "Exemplars kept now.", store.exemplars);
        self.gauge(
            "stoa_collector_store_exemplar_series",
            "Series of which exemplars are kept now.",
            store.exemplar_series,
        );
        self.counter(
            "stoa_collector_store_maintenance_failures_total",
            "Failed tries to cut blocks and apply retention.",
            store.maintenance_failures,
        );
        self.gauge(
            "stoa_collector_store_queue_samples",
            "Samples waiting to be made durable.",
            store.queue_samples,
        );
        self.gauge(
            "stoa_collector_store_queue_samples_max",
            "The most samples that may wait.",
            store.queue_samples_max,
        );
        self.commits(store);
    }

    fn commits(&mut self, store: &StoreFigures) {
        let name = "stoa_collector_store_commit_seconds";
        let help = "From a batch's arrival to its being durable.";
        let mut family = Family::new(name, help, MetricKind::Histogram);
        let series = |suffix: &str, le: Option<String>| {
            let mut pairs = vec![("__name__".to_owned(), format!("{name}_{suffix}"))];
            pairs.extend(le.map(|le| ("le".to_owned(), le)));
            Labels::from_pairs_last_wins(pairs)
        };
        let bounds = COMMIT_BUCKETS_MS.iter().map(|ms| (*ms as f64 / 1000.0).to_string());
        let mut below = 0;
        for (count, le) in store.commit_latency.iter().zip(bounds.chain(["+Inf".to_owned()])) {
            below += count;
            family.push(series("bucket", Some(le)), below as f64);
        }
        family.push(series("sum", None), store.commit_latency_us_sum as f64 / 1e6);
        family.push(series("count", None), store.commits as f64);
        self.0.push(family);
    }

    fn tsdb(&mut self, tsdb: &Stats) {
        for (name, help, value) in [
            ("stoa_collector_tsdb_head_series", "Series in the head.", tsdb.series),
            ("stoa_collector_tsdb_head_samples", "Samples in the head.", tsdb.head_samples),
            ("stoa_collector_tsdb_head_bytes", "Bytes of samples in the head.", tsdb.head_bytes),
            (
                "stoa_collector_tsdb_head_file_bytes",
                "Bytes of the head's files of chunks.",
                tsdb.head_file_bytes,
            ),
            (
                "stoa_collector_tsdb_tombstones",
                "Stretches of series marked as deleted and still on disk.",
                tsdb.tombstones,
            ),
            ("stoa_collector_tsdb_marks", "Marks kept beside the samples.", tsdb.marks),
            ("stoa_collector_tsdb_blocks", "Blocks.", tsdb.blocks),
            (
                "stoa_collector_tsdb_quarantine_bytes",
                "Bytes kept of what was damaged.",
                tsdb.quarantine_bytes,
            ),
            (
                "stoa_collector_tsdb_quarantine_entries",
                "Files and directories kept of what was damaged.",
                tsdb.quarantine_entries,
            ),
            (
                "stoa_collector_tsdb_blocks_unread",
                "Blocks that cannot be read now; missing from answers until they can.",
                tsdb.blocks_unread,
            ),
            ("stoa_collector_tsdb_block_samples", "Samples in blocks.", tsdb.block_samples),
            ("stoa_collector_tsdb_block_bytes", "Bytes of blocks.", tsdb.block_bytes),
            ("stoa_collector_tsdb_wal_bytes", "Bytes of the write-ahead log.", tsdb.log_bytes),
            (
                "stoa_collector_tsdb_wal_failed",
                "Whether the write-ahead log has failed for good; restart the collector.",
                u64::from(tsdb.log_stopped),
            ),
        ] {
            self.gauge(name, help, value);
        }
        for (name, help, value) in [
            (
                "stoa_collector_tsdb_chunks_damaged_total",
                "Damaged chunks met; their samples are missing from answers.",
                tsdb.chunks_damaged,
            ),
            (
                "stoa_collector_tsdb_log_damaged_total",
                "Damaged or missing places of log and checkpoint met at the start; their samples are lost unless sent again.",
                tsdb.log_damaged,
            ),
            (
                "stoa_collector_tsdb_head_file_failures_total",
                "Times chunks could not be written to a file of the head; they stay in memory and in the log.",
                tsdb.head_file_failures,
            ),
            (
                "stoa_collector_tsdb_blocks_quarantined_total",
                "Blocks set aside because of damage.",
                tsdb.blocks_quarantined,
            ),
            (
                "stoa_collector_tsdb_block_files_mended_total",
                "Damaged files of blocks written anew, as another file of the block had all.",
                tsdb.block_files_mended,
            ),
            (
                "stoa_collector_tsdb_quarantine_removed_total",
                "Damaged files and directories no longer kept, as there are too many.",
                tsdb.quarantine_removed,
            ),
            (
                "stoa_collector_tsdb_series_removed_total",
                "Series removed from the head because all their samples are in blocks.",
                tsdb.series_removed,
            ),
            (
                "stoa_collector_tsdb_blocks_not_rolled_up_total",
                "Blocks deleted for their age or size before a tier had what they had.",
                tsdb.blocks_not_rolled_up,
            ),
            (
                "stoa_collector_tsdb_tier_histograms_left_out_total",
                "Series of native histograms that tiers were made without; they end with the samples.",
                tsdb.tier_histograms,
            ),
            (
                "stoa_collector_tsdb_tier_samples_left_out_total",
                "Samples that came when others of their window were gone and lie between these: tiers leave them out.",
                tsdb.tier_samples_left_out,
            ),
            (
                "stoa_collector_tsdb_compactions_total",
                "Merges of blocks into longer ones.",
                tsdb.compactions,
            ),
            (
                "stoa_collector_tsdb_compactions_failed_total",
                "Merges of blocks that failed; they are tried again.",
                tsdb.compactions_failed,
            ),
            (
                "stoa_collector_tsdb_compaction_read_bytes_total",
                "Bytes of the blocks that were merged.",
                tsdb.compaction_bytes_in,
            ),
            (
                "stoa_collector_tsdb_compaction_written_bytes_total",
                "Bytes of the blocks they were merged into.",
                tsdb.compaction_bytes_out,
            ),
        ] {
            self.counter(name, help, value);
        }
        self.tiers(&tsdb.tiers);
    }

    fn tiers(&mut self, tiers: &[TierStats]) {
        type Figure = fn(&TierStats) -> u64;
        let figures: [(&str, &str, Figure); 5] = [
            ("stoa_collector_tsdb_tier_blocks", "Blocks of a tier.", |tier| tier.blocks),
            (
                "stoa_collector_tsdb_tier_blocks_stale",
                "Blocks of a tier to be made again because samples came late or were deleted.",
                |tier| tier.blocks_stale,
            ),
            ("stoa_collector_tsdb_tier_bytes", "Bytes of a tier's blocks.", |tier| tier.bytes),
            (
                "stoa_collector_tsdb_tier_series",
                "Series in blocks of a tier, counted once per block.",
                |tier| tier.series,
            ),
            ("stoa_collector_tsdb_tier_windows", "Windows of all series of a tier.", |tier| {
                tier.windows
            }),
        ];
        for (name, help, figure) in figures {
            let mut family = Family::new(name, help, MetricKind::Gauge);
            for tier in tiers {
                let labels = Labels::from_pairs_last_wins([("tier", tier.tier.name())]);
                family.push(labels, figure(tier) as f64);
            }
            self.0.push(family);
        }
    }

    fn ingest(&mut self, ingest: &IngestFigures) {
        for (name, help, value) in [
            ("stoa_collector_ingest_sessions_total", "Sessions begun.", ingest.sessions),
            (
                "stoa_collector_ingest_identity_conflicts_total",
                "Times two processes held one identity at once.",
                ingest.identity_conflicts,
            ),
            ("stoa_collector_ingest_frames_total", "Frames read.", ingest.frames),
            (
                "stoa_collector_ingest_payload_bytes_total",
                "Bytes of frames, as they came over the wire.",
                ingest.payload_bytes,
            ),
            ("stoa_collector_ingest_samples_stored_total", "Samples stored.", ingest.stored),
            (
                "stoa_collector_ingest_samples_known_total",
                "Samples that were in the store already.",
                ingest.known,
            ),
            (
                "stoa_collector_ingest_samples_repeated_total",
                "Samples that came again and were dropped by their frame's number.",
                ingest.repeated,
            ),
            (
                "stoa_collector_ingest_resyncs_total",
                "Frames that had to be asked for again.",
                ingest.resyncs,
            ),
            (
                "stoa_collector_ingest_calls_refused_total",
                "Calls ended for breaking the protocol.",
                ingest.refused_calls,
            ),
            (
                "stoa_collector_ingest_calls_clock_refused_total",
                "Calls ended because the collector's clock is in doubt; their senders keep what they have.",
                ingest.clock_refused_calls,
            ),
            (
                "stoa_collector_ingest_appends_failed_total",
                "Batches the store did not take; their senders keep them.",
                ingest.failed_appends,
            ),
        ] {
            self.counter(name, help, value);
        }
        self.by_reason(
            "stoa_collector_ingest_samples_lost_total",
            "Samples acknowledged but not stored, by reason.",
            &ingest.lost,
        );
        self.by_reason(
            "stoa_collector_ingest_samples_dropped_by_agents_total",
            "Samples agents dropped on their side, as they told, by reason.",
            &ingest.told,
        );
    }

    fn by_reason(&mut self, name: &str, help: &str, counts: &[u64]) {
        let mut family = Family::new(name, help, MetricKind::Counter);
        for (reason, count) in DropReason::ALL.iter().zip(counts) {
            let labels = Labels::from_pairs_last_wins([("reason", reason.as_str())]);
            family.push(labels, *count as f64);
        }
        self.0.push(family);
    }

    fn listener(&mut self, listener: &ListenerStats) {
        let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        self.gauge(
            "stoa_collector_agent_connections",
            "Connections of agents now.",
            wide(listener.connections),
        );
        self.gauge(
            "stoa_collector_agent_streams",
            "HTTP/2 connections of agents now.",
            wide(listener.streams),
        );
        self.counter(
            "stoa_collector_agent_connections_accepted_total",
            "Connections of agents accepted.",
            listener.accepted,
        );
        self.counter(
            "stoa_collector_agent_connections_cut_total",
            "Connections ended because a host was revoked.",
            listener.cut,
        );
        self.gauge(
            "stoa_collector_agent_handshakes",
            "Handshakes of agents under way now.",
            wide(listener.handshakes),
        );
        self.counter(
            "stoa_collector_agent_addresses_questioned_total",
            "QUIC handshakes that were first asked to prove their address, because many were under way.",
            listener.retries,
        );
        let mut family = Family::new(
            "stoa_collector_agent_connections_refused_total",
            "Connections refused, by reason.",
            MetricKind::Counter,
        );
        for (reason, count) in &listener.refused {
            let labels = Labels::from_pairs_last_wins([("reason", reason.to_string())]);
            family.push(labels, *count as f64);
        }
        self.0.push(family);
    }

    fn imports(&mut self, imports: &ImportFigures) {
        self.counter("stoa_collector_imports_total", "Imports asked for.", imports.requests);
        self.add(
            MetricKind::Counter,
            "stoa_collector_imports_failed_total",
            "Imports that failed, by what was in the way.",
            &[
                (&[("reason", "busy")], imports.failed_busy),
                (&[("reason", "request")], imports.failed_request),
                (&[("reason", "store")], imports.failed_store),
            ],
        );
        self.add(
            MetricKind::Counter,
            "stoa_collector_import_samples_total",
            "Samples of imports that succeeded, by what became of them.",
            &[
                (&[("outcome", "stored")], imports.stored),
                (&[("outcome", "duplicate")], imports.duplicate),
                (&[("outcome", "too_old")], imports.too_old),
                (&[("outcome", "too_new")], imports.too_new),
                (&[("outcome", "over_limits")], imports.over_limits),
            ],
        );
    }

    fn people(&mut self, figures: &Figures) {
        let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        self.gauge("stoa_collector_hosts", "Hosts enrolled.", wide(figures.hosts.0));
        self.gauge("stoa_collector_hosts_up", "Hosts enrolled and heard.", wide(figures.hosts.1));
        let members = &figures.members;
        for (name, help, value) in [
            ("stoa_collector_joins_total", "Hosts admitted.", members.joins),
            ("stoa_collector_joins_refused_total", "Joins refused.", members.joins_refused),
            ("stoa_collector_renewals_total", "Certificates renewed.", members.renewals),
            (
                "stoa_collector_renewals_refused_total",
                "Renewals refused.",
                members.renewals_refused,
            ),
            (
                "stoa_collector_hosts_locked_total",
                "Hosts locked because two processes renewed one certificate.",
                members.fences,
            ),
            ("stoa_collector_certificates_revoked_total", "Certificates revoked.", members.revoked),
        ] {
            self.counter(name, help, value);
        }
        self.add(
            MetricKind::Counter,
            "stoa_collector_http_refused_total",
            "HTTP requests not admitted, by what was wrong.",
            &[
                (&[("reason", "host")], figures.refusals.host),
                (&[("reason", "origin")], figures.refusals.origin),
                (&[("reason", "credential")], figures.refusals.credential),
                (&[("reason", "scope")], figures.refusals.scope),
            ],
        );
        self.gauge(
            "stoa_collector_http_connections",
            "HTTP connections now.",
            figures.http.connections,
        );
        self.add(
            MetricKind::Counter,
            "stoa_collector_http_connections_ended_total",
            "HTTP connections the collector ended or did not take, by why.",
            &[
                (&[("reason", "address_busy")], figures.http.crowded),
                (&[("reason", "too_slow")], figures.http.slow),
                (&[("reason", "not_read")], figures.http.stalled),
                (&[("reason", "tls")], figures.http.tls),
                (&[("reason", "idle")], figures.http.idle),
            ],
        );
        let queries = &figures.queries;
        self.counter("stoa_collector_queries_total", "Queries begun.", queries.started);
        self.add(
            MetricKind::Counter,
            "stoa_collector_queries_unanswered_total",
            "Queries without an answer, by why.",
            &[
                (&[("reason", "refused")], queries.refused),
                (&[("reason", "timed_out")], queries.timed_out),
                (&[("reason", "abandoned")], queries.abandoned),
            ],
        );
        let [federate, read] = queries.incomplete;
        self.add(
            MetricKind::Counter,
            "stoa_collector_answers_incomplete_total",
            "Answers that may lack something because of damage and have no place to say so, by route.",
            &[(&[("route", "/federate")], federate), (&[("route", "/api/v1/read")], read)],
        );
        self.gauge("stoa_collector_queries_running", "Queries running now.", queries.running);
    }
}
