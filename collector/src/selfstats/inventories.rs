//! What hosts told that they are made of.

use stoa_model::MetricKind;

use super::Page;
use crate::inventory::InventoryFigures;

impl Page {
    pub(super) fn inventories(&mut self, inventories: &InventoryFigures) {
        self.gauge(
            "stoa_collector_inventory_hosts",
            "Hosts of which there is an inventory.",
            inventories.hosts,
        );
        self.gauge(
            "stoa_collector_inventory_documents",
            "Inventories kept, those of earlier days included.",
            inventories.documents,
        );
        self.gauge(
            "stoa_collector_inventory_bytes",
            "Bytes of the inventories kept, compressed.",
            inventories.bytes,
        );
        self.add(
            MetricKind::Counter,
            "stoa_collector_inventory_told_total",
            "Inventories that hosts told and that are kept, by whether they were news.",
            &[
                (&[("outcome", "changed")], inventories.changed),
                (&[("outcome", "same")], inventories.same),
            ],
        );
        self.add(
            MetricKind::Counter,
            "stoa_collector_inventory_refused_total",
            "Inventories not kept, by reason; the host tells its own again later.",
            &[
                (&[("reason", "malformed")], inventories.malformed),
                (&[("reason", "too_soon")], inventories.too_soon),
                (&[("reason", "full")], inventories.full),
                (&[("reason", "failed")], inventories.failed),
            ],
        );
    }
}
