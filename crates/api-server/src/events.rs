//! Events have two forms, `v1` and `events.k8s.io/v1`, of the same objects: what is written in one is read in the other.

use serde_json::{Value, json};

use crate::resource::ResourceType;

/// Names of the same field in `v1` and in `events.k8s.io/v1`.
const FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];
const CORE: &str = "v1";
const NEW: &str = "events.k8s.io/v1";

pub(crate) fn is_event(resource: &ResourceType) -> bool {
    resource.plural == "events" && matches!(resource.group.as_str(), "" | "events.k8s.io")
}

/// An event in the form it is kept in.
pub(crate) fn stored(event: Value) -> Value {
    if event["apiVersion"] != NEW {
        return event;
    }
    renamed(event, CORE, |(core, new)| (new, core))
}

/// An event in the form that is asked for.
pub(crate) fn served(resource: &ResourceType, event: Value) -> Value {
    if resource.group.is_empty() || event["apiVersion"] == NEW {
        return event;
    }
    renamed(event, NEW, |(core, new)| (core, new))
}

fn renamed(
    mut event: Value,
    api_version: &str,
    direction: fn((&'static str, &'static str)) -> (&'static str, &'static str),
) -> Value {
    event["apiVersion"] = json!(api_version);
    let Some(fields) = event.as_object_mut() else { return event };
    for (from, to) in FIELDS.map(direction) {
        if let Some(value) = fields.remove(from) {
            fields.insert(to.to_owned(), value);
        }
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    #[test]
    fn an_event_is_the_same_in_both_forms() {
        let event = json!({"apiVersion": NEW, "kind": "Event", "metadata": {"name": "e"}, "note": "it works",
            "regarding": {"kind": "Pod", "name": "p"}, "reportingController": "c", "reason": "Works"});
        let kept = stored(event.clone());
        assert_eq!((&kept["message"], &kept["involvedObject"]["name"]), (&json!("it works"), &json!("p")));
        let kind = Registry::new().find("events.k8s.io", "v1", "events").unwrap();
        assert_eq!(kind.id(), Registry::new().find("", "v1", "events").unwrap().id());
        assert_eq!(served(&kind, kept), event);
    }
}
