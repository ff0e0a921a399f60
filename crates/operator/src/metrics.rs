//! What the operator counts.

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconciled {
    kind: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Stepped {
    step: &'static str,
}

#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    reconciled: Family<Reconciled, Counter>,
    steps: Family<Stepped, Counter>,
    leads: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("wattle_operator");
        let (reconciled, steps, leads) = (Family::default(), Family::default(), Gauge::default());
        registry.register(
            "reconciliations",
            "Objects that were looked at, by what came of it",
            reconciled.clone(),
        );
        registry.register("steps", "Steps of scaling and upgrading that were taken", steps.clone());
        registry.register("leads", "Whether this operator is the one that acts", leads.clone());
        Self { registry, reconciled, steps, leads }
    }

    pub(crate) fn count_reconciliation(&self, kind: &'static str, result: &'static str) {
        self.reconciled.get_or_create(&Reconciled { kind, result }).inc();
    }

    pub(crate) fn count_step(&self, step: &'static str) {
        self.steps.get_or_create(&Stepped { step }).inc();
    }

    pub(crate) fn set_leads(&self, leads: bool) {
        self.leads.set(i64::from(leads));
    }

    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
