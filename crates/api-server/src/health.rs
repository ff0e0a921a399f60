//! What the server says of its own health, check by check.

use crate::request::Query;

const CHECKS: [&str; 3] = ["ping", "log", "etcd"];
const ENDPOINTS: [&str; 3] = ["healthz", "livez", "readyz"];

/// The answer to a path of health, if it is one.
pub(crate) fn answer(parts: &[&str], query: &Query) -> Option<String> {
    match parts {
        [endpoint] if ENDPOINTS.contains(endpoint) => {
            if query.get("verbose").is_none() {
                return Some("ok".to_owned());
            }
            let lines: String = checks(endpoint).iter().map(|check| format!("[+]{check} ok\n")).collect();
            Some(format!("{lines}{endpoint} check passed\n"))
        }
        [endpoint, check] if checks(endpoint).contains(check) => Some("ok".to_owned()),
        _ => None,
    }
}

fn checks(endpoint: &str) -> &'static [&'static str] {
    if ENDPOINTS.contains(&endpoint) { &CHECKS } else { &[] }
}

/// All paths of health.
pub(crate) fn paths() -> Vec<String> {
    let mut paths = Vec::new();
    for endpoint in ENDPOINTS {
        paths.push(format!("/{endpoint}"));
        paths.extend(CHECKS.iter().map(|check| format!("/{endpoint}/{check}")));
    }
    paths
}
