//! One scrape: samples by metric, and the text that Prometheus reads.
//!
//! Names are known at compile time; label values come from outside and are escaped by the encoder.

use std::collections::BTreeMap;

use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType, Quantile, Summary};

use super::times::Times;

/// The quantiles that Kafka's own metrics have.
const QUANTILES: [f64; 6] = [0.5, 0.75, 0.95, 0.98, 0.99, 0.999];

/// What a scrape has gathered so far.
#[derive(Default)]
pub struct Samples {
    families: BTreeMap<&'static str, (MetricType, Vec<Metric>)>,
}

impl Samples {
    /// A number that only grows.
    pub fn counter(&mut self, name: &'static str, labels: &[(&str, &str)], value: u64) {
        let mut counter = Counter::default();
        #[expect(clippy::cast_precision_loss, reason = "Prometheus has doubles only")]
        counter.set_value(value as f64);
        let mut metric = labelled(labels);
        metric.set_counter(counter);
        self.push(name, MetricType::COUNTER, metric);
    }

    /// A number as it is now.
    pub fn gauge(&mut self, name: &'static str, labels: &[(&str, &str)], value: f64) {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        let mut metric = labelled(labels);
        metric.set_gauge(gauge);
        self.push(name, MetricType::GAUGE, metric);
    }

    /// How long things took, by quantiles, since the start.
    pub fn summary(&mut self, name: &'static str, labels: &[(&str, &str)], times: &Times) {
        let quantiles = times.quantiles(&QUANTILES);
        let mut summary = Summary::default();
        #[expect(clippy::cast_precision_loss, reason = "Prometheus has doubles only")]
        summary.set_sample_sum(times.sum() as f64);
        summary.set_sample_count(times.count());
        #[expect(clippy::cast_precision_loss, reason = "Prometheus has doubles only")]
        let shown = QUANTILES.iter().zip(quantiles).map(|(quantile, value)| {
            let mut shown = Quantile::default();
            shown.set_quantile(*quantile);
            shown.set_value(value as f64);
            shown
        });
        summary.set_quantile(shown.collect());
        let mut metric = labelled(labels);
        metric.set_summary(summary);
        self.push(name, MetricType::SUMMARY, metric);
    }

    fn push(&mut self, name: &'static str, kind: MetricType, metric: Metric) {
        self.families.entry(name).or_insert((kind, Vec::new())).1.push(metric);
    }

    /// The text.
    pub(super) fn render(self) -> String {
        let families: Vec<MetricFamily> = self
            .families
            .into_iter()
            .map(|(name, (kind, metrics))| {
                let mut family = MetricFamily::default();
                family.set_name(name.to_owned());
                family.set_field_type(kind);
                family.set_metric(metrics);
                family
            })
            .collect();
        TextEncoder::new().encode_to_string(&families).expect("no family is empty")
    }
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    Metric::from_label(pairs.collect())
}
