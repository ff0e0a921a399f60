//! How far an autoscaler's metrics are from their targets, as kubernetes' `formatHPAMetrics` shows it.

use serde_json::Value;

use crate::json_path;
use crate::object::{list, text};

/// How many metrics are shown.
const SHOWN: usize = 2;

pub(crate) fn targets(autoscaler: &Value) -> String {
    let metrics = list(autoscaler, "/spec/metrics");
    let states = list(autoscaler, "/status/currentMetrics");
    let all: Vec<String> = metrics
        .iter()
        .enumerate()
        .map(|(at, metric)| target(metric, states.get(at).unwrap_or(&Value::Null)))
        .collect();
    match all.len() {
        0 => "<none>".to_owned(),
        1..=SHOWN => all.join(", "),
        many => format!("{} + {} more...", all[..SHOWN].join(", "), many - SHOWN),
    }
}

fn target(metric: &Value, state: &Value) -> String {
    let (field, is_resource) = match text(metric, "/type") {
        "External" => ("external", false),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        _ => return "<unknown type>".to_owned(),
    };
    let (wanted, found) = (&metric[field]["target"], &state[field]["current"]);
    let amount = |value: &Value| if value.is_null() { None } else { Some(json_path::text(value)) };
    let percent = |value: &Value| value.as_i64().map(|percent| format!("{percent}%"));
    let current = |found: Option<String>| found.unwrap_or_else(|| "<unknown>".to_owned());
    let average = amount(&wanted["averageValue"]);
    if is_resource {
        let name = text(&metric[field], "/name");
        return match average {
            Some(average) => format!("{name}: {}/{average}", current(amount(&found["averageValue"]))),
            None => {
                let wanted = percent(&wanted["averageUtilization"]).unwrap_or_else(|| "<auto>".to_owned());
                format!("{name}: {}/{wanted}", current(percent(&found["averageUtilization"])))
            }
        };
    }
    match average {
        Some(average) => {
            let suffix = if field == "pods" { "" } else { " (avg)" };
            format!("{}/{average}{suffix}", current(amount(&found["averageValue"])))
        }
        None => {
            format!("{}/{}", current(amount(&found["value"])), amount(&wanted["value"]).unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn two_targets_are_shown() {
        let cpu =
            json!({"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}});
        let pods = json!({"type": "Pods", "pods": {"target": {"averageValue": "10"}}});
        let outside = json!({"type": "External", "external": {"target": {"averageValue": "3"}}});
        assert_eq!(targets(&json!({"spec": {}})), "<none>");
        let state = json!({"resource": {"current": {"averageUtilization": 12}}});
        let one = json!({"spec": {"metrics": [cpu]}, "status": {"currentMetrics": [state]}});
        assert_eq!(targets(&one), "cpu: 12%/80%");
        let all = json!({"spec": {"metrics": [outside, cpu, pods]}});
        assert_eq!(targets(&all), "<unknown>/3 (avg), cpu: <unknown>/80% + 1 more...");
    }
}
