//! Shell. What `/metrics` says of partitions and fetch sessions, under the names that dashboards for Kafka know. Computed
//! when somebody scrapes; nothing here is counted on the hot path.

use std::sync::Arc;

use super::partition::{Glance, Standing};
use super::{FetchSessions, Replicas};
use crate::metrics::{Metrics, Samples};

/// Partitions by what an operator asks about them.
#[derive(Default)]
struct Totals {
    online: u32,
    led: u32,
    offline: u32,
    under_replicated: u32,
    under_min_isr: u32,
    at_min_isr: u32,
}

impl Totals {
    fn add(&mut self, glance: &Glance) {
        if glance.standing != Standing::Serving {
            self.offline += 1;
            return;
        }
        self.online += 1;
        if glance.is_leader {
            self.led += 1;
            self.under_replicated += u32::from(glance.in_sync < glance.replicas);
            self.under_min_isr += u32::from(glance.in_sync < glance.min_in_sync);
            self.at_min_isr += u32::from(glance.in_sync == glance.min_in_sync);
        }
    }

    fn show(&self, samples: &mut Samples) {
        for (name, value) in [
            ("kafka_server_replicamanager_partitioncount", self.online + self.offline),
            ("kafka_server_replicamanager_leadercount", self.led),
            ("kafka_server_replicamanager_offlinereplicacount", self.offline),
            ("kafka_server_replicamanager_underreplicatedpartitions", self.under_replicated),
            ("kafka_server_replicamanager_underminisrpartitioncount", self.under_min_isr),
            ("kafka_server_replicamanager_atminisrpartitioncount", self.at_min_isr),
        ] {
            samples.gauge(name, &[], f64::from(value));
        }
    }
}

impl Replicas {
    /// Shows the partitions. The page does not keep them alive.
    pub(super) fn show_in(self: &Arc<Self>, metrics: &Metrics) {
        let replicas = Arc::downgrade(self);
        metrics.add_source(move |samples| {
            let Some(replicas) = replicas.upgrade() else { return };
            let mut totals = Totals { offline: replicas.unopened(), ..Totals::default() };
            for partition in replicas.partitions() {
                let glance = partition.glance();
                totals.add(&glance);
                let number = partition.index.to_string();
                let labels = [("topic", &*partition.topic), ("partition", number.as_str())];
                samples.gauge("kafka_log_log_size", &labels, glance.size as f64);
                samples.gauge("kafka_log_log_logstartoffset", &labels, glance.log_start_offset.get() as f64);
                samples.gauge("kafka_log_log_logendoffset", &labels, glance.log_end_offset.get() as f64);
            }
            totals.show(samples);
        });
    }
}

impl FetchSessions {
    /// Shows the sessions.
    pub fn show_in(self: &Arc<Self>, metrics: &Metrics) {
        let sessions = Arc::downgrade(self);
        metrics.add_source(move |samples| {
            let Some(sessions) = sessions.upgrade() else { return };
            let (count, partitions, evictions) = sessions.counts();
            samples.gauge("kafka_server_fetchsessioncache_numincrementalfetchsessions", &[], count as f64);
            samples.gauge("kafka_server_fetchsessioncache_numincrementalfetchpartitionscached", &[], partitions as f64);
            let name = "kafka_server_fetchsessioncache_incrementalfetchsessionevictions_total";
            samples.counter(name, &[], evictions);
        });
    }
}
