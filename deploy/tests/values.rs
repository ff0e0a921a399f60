//! Values: what the schema refuses, and that values, schema and the nodes' settings agree.

use serde_json::Value;

use crate::helm::{Helm, VALUES, folder, values_file};

/// Settings of a node that the chart says as arguments, or that mean nothing in a cluster.
const NOT_FOR_PEOPLE: [&str; 19] = [
    "advertise",
    "arbiter",
    "bootstrap_expect",
    "data_dir",
    "discovery",
    "dns_server",
    "grid",
    "grid_secret_file",
    "http_listen",
    "insecure",
    "join",
    "listen",
    "log_format",
    "namespace",
    "peer_advertise",
    "peer_listen",
    "service",
    "stop_seconds",
    "zone",
];

#[test]
fn all_values_pass_the_linter() {
    let Some(helm) = Helm::find("values::all_values_pass_the_linter") else { return };
    for values in VALUES {
        let file = values_file(values);
        let mut arguments = vec!["lint", "--strict", "chart"];
        arguments.extend(file.iter().flat_map(|file| ["--values", file.as_str()]));
        let output = helm.run(&arguments);
        assert!(output.status.success(), "{values}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn values_that_make_no_sense_are_refused_with_their_place() {
    let Some(helm) = Helm::find("values::values_that_make_no_sense_are_refused_with_their_place") else {
        return;
    };
    // The releases 3 and 4 of helm say the same in different words.
    let check = |values: &str, place: &str| {
        let complaint = helm.complaint(&["--set-json", values]);
        let expected = "values don't meet the specifications of the schema";
        assert!(complaint.contains(expected), "{values}: {complaint}");
        let first = complaint.lines().find(|line| line.starts_with("- ")).unwrap();
        assert!(first.contains(place), "{values}: no {place:?} in {first}");
    };
    check("replica=3", "replica");
    check("image.name=\"a\"", "name");
    check("config.listen=\"0.0.0.0:1\"", "listen");
    check("config.memory_bytes=\"1Gi\"", "memory_bytes");
    check("config.partitions=4097", "partitions");
    check("replicas=0", "replicas");
    check("replicas=1.5", "replicas");
    check("spread.zones=\"Never\"", "zones");
    check("resources.limits.memory=\"2 GB\"", "memory");
    check("image.digest=\"sha256:1\"", "digest");
    check("extraEnv=[{\"key\":\"A\"}]", "extraEnv");
    check("labels={\"a\":1}", "labels");
    check("fullnameOverride=\"a.b\"", "fullnameOverride");
    let long = "a".repeat(45);
    let output = helm.run(&["template", &long, "chart"]);
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.contains("cannot be a grid's"), "{complaint}");
}

#[test]
fn every_value_is_in_the_schema_and_in_the_document() {
    let values: Value = serde_saphyr::from_str(&read("chart/values.yaml")).unwrap();
    let schema: Value = serde_json::from_str(&read("chart/values.schema.json")).unwrap();
    let document = read("chart/README.md");
    let mut names = Vec::new();
    check_values(&values, &schema, &schema, "", &mut names);
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        assert!(document.contains(&format!("| `{name}` |")), "README.md of the chart says nothing of {name}");
    }
}

/// Both have the same names at each level, and objects take no others; the names of those that are no objects with names of their own.
fn check_values(values: &Value, schema: &Value, root: &Value, path: &str, names: &mut Vec<String>) {
    let schema = match schema.get("$ref").and_then(Value::as_str) {
        Some(place) => root.pointer(place.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    let Some(known) = schema.get("properties").and_then(Value::as_object) else {
        assert!(schema.get("type").is_some(), "the schema says nothing of {path}");
        return names.push(path.to_owned());
    };
    assert_eq!(schema["additionalProperties"], false, "the schema lets everything be in {path:?}");
    if path == "config" || path.ends_with("resources") {
        return names.push(path.to_owned());
    }
    let values = values.as_object().unwrap();
    let mut defaults: Vec<&String> = values.keys().collect();
    // Helm itself adds the values that all charts of a release share.
    let mut properties: Vec<&String> = known.keys().filter(|name| *name != "global").collect();
    defaults.sort();
    properties.sort();
    assert_eq!(defaults, properties, "in {path:?}");
    for (name, value) in values {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        check_values(value, &known[name], root, &path, names);
    }
}

#[test]
fn people_can_set_every_setting_of_a_node_that_the_chart_does_not() {
    let schema: Value = serde_json::from_str(&read("chart/values.schema.json")).unwrap();
    let settable = schema["properties"]["config"]["properties"].as_object().unwrap();
    let mut known: Vec<&str> = settable.keys().map(String::as_str).chain(NOT_FOR_PEOPLE).collect();
    known.sort_unstable();
    // The example has every setting; those that are off begin with a sign.
    let example = std::fs::read_to_string(folder().join("../examples/wattle.toml")).unwrap();
    let settings = example.lines().filter_map(|line| line.trim_start_matches('#').split_once(" = "));
    let mut settings: Vec<&str> = settings.map(|(name, _)| name).filter(|name| !name.contains(' ')).collect();
    settings.sort_unstable();
    assert_eq!(known, settings);
}

#[test]
fn chart_and_nodes_have_the_same_version() {
    let chart: Value = serde_saphyr::from_str(&read("chart/Chart.yaml")).unwrap();
    assert_eq!(
        (&chart["version"], &chart["appVersion"]),
        (&env!("CARGO_PKG_VERSION").into(), &env!("CARGO_PKG_VERSION").into())
    );
}

fn read(path: &str) -> String {
    std::fs::read_to_string(folder().join(path)).unwrap()
}
