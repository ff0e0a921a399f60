//! Built-in objects in Kubernetes' protobuf form, read into JSON: kubectl sends what `kubectl create NOUN` makes that
//! way. Answers are JSON, which every client takes.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::defaults::base64;
use crate::resource::ResourceType;
use crate::schema::{REFERENCE, Schema};
use crate::time;

/// Field numbers by definition.
static NUMBERS: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../schema/protobuf.json")).expect("the file is part of this crate")
});

const MAGIC: &[u8] = b"k8s\0";
const TOKEN_REQUEST: &str = "io.k8s.api.authentication.v1.TokenRequest";

/// The object in a body, or nothing if it is none of this form.
pub(crate) fn decode(resource: &ResourceType, body: &[u8]) -> Option<Value> {
    let definition = resource.schema.get("$ref")?.as_str()?.trim_start_matches(REFERENCE);
    decode_as(definition, body)
}

pub(crate) fn decode_token_request(body: &[u8]) -> Option<Value> {
    decode_as(TOKEN_REQUEST, body)
}

pub(crate) fn decode_eviction(body: &[u8]) -> Option<Value> {
    decode_as("io.k8s.api.policy.v1.Eviction", body)
}

/// Options of a deletion come without a type of their own.
pub(crate) fn decode_delete_options(body: &[u8]) -> Option<Value> {
    decode_as("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions", body)
}

fn decode_as(definition: &str, body: &[u8]) -> Option<Value> {
    let envelope = fields(body.strip_prefix(MAGIC)?)?;
    let raw = envelope.iter().find(|(number, _)| *number == 2).map_or(&[][..], |(_, wire)| wire.bytes());
    let mut object = message(definition, raw)?;
    let types = envelope.iter().find(|(number, _)| *number == 1).map_or(&[][..], |(_, wire)| wire.bytes());
    for (number, wire) in fields(types)? {
        let name = if number == 1 { "apiVersion" } else { "kind" };
        object[name] = json!(String::from_utf8_lossy(wire.bytes()));
    }
    Some(object)
}

#[derive(Debug, Clone, Copy)]
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Wire<'a> {
    fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Number(_) => &[],
        }
    }

    fn number(&self) -> i64 {
        match self {
            Self::Number(number) => *number as i64,
            Self::Bytes(_) => 0,
        }
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first < 0x80 {
            return Some(number);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Wire<'_>)>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let wire = match key & 7 {
            0 => Wire::Number(varint(&mut bytes)?),
            1 => Wire::Bytes(take(&mut bytes, 8)?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Wire::Bytes(take(&mut bytes, length)?)
            }
            5 => Wire::Bytes(take(&mut bytes, 4)?),
            _ => return None,
        };
        all.push((key >> 3, wire));
    }
    Some(all)
}

fn message(definition: &str, bytes: &[u8]) -> Option<Value> {
    match definition.rsplit('.').next()? {
        "Time" | "MicroTime" => return timestamp(bytes),
        "Quantity" => return Some(json!(String::from_utf8_lossy(first(bytes, 1)?.bytes()))),
        "IntOrString" => {
            let is_text = first(bytes, 1).is_some_and(|kind| kind.number() == 1);
            let value = first(bytes, if is_text { 3 } else { 2 });
            return Some(match value {
                Some(Wire::Bytes(text)) => json!(String::from_utf8_lossy(text)),
                Some(number) => json!(number.number() as i32),
                None => json!(0),
            });
        }
        "FieldsV1" | "JSON" => return serde_json::from_slice(first(bytes, 1)?.bytes()).ok(),
        _ => {}
    }
    let node = crate::schema::reference(definition);
    let schema = Schema::new(&node);
    let names = NUMBERS.get(definition)?;
    let mut object = Map::new();
    for (number, wire) in fields(bytes)? {
        let Some(name) = names.get(number.to_string()).and_then(Value::as_str) else { continue };
        let Some(field) = schema.property(name) else { continue };
        add(&mut object, name, field, wire)?;
    }
    Some(Value::Object(object))
}

fn first(bytes: &[u8], number: u64) -> Option<Wire<'_>> {
    fields(bytes)?.into_iter().find(|(other, _)| *other == number).map(|(_, wire)| wire)
}

fn add(object: &mut Map<String, Value>, name: &str, field: Schema<'_>, wire: Wire<'_>) -> Option<()> {
    if let Some(items) = field.items() {
        let list = object.entry(name).or_insert_with(|| json!([]));
        list.as_array_mut()?.push(value(items, wire)?);
    } else if let Some(values) = field.additional() {
        let key = first(wire.bytes(), 1).map(|key| String::from_utf8_lossy(key.bytes()).into_owned());
        let value = value(values, first(wire.bytes(), 2).unwrap_or(Wire::Bytes(&[])))?;
        object
            .entry(name)
            .or_insert_with(|| json!({}))
            .as_object_mut()?
            .insert(key.unwrap_or_default(), value);
    } else {
        let value = value(field, wire)?;
        // Go writes zero values of fields that JSON leaves out.
        if value != "" && value != Value::Null && value != json!({}) {
            object.insert(name.to_owned(), value);
        }
    }
    Some(())
}

fn value(schema: Schema<'_>, wire: Wire<'_>) -> Option<Value> {
    if let Some(definition) = schema.definition_path() {
        return message(definition, wire.bytes());
    }
    Some(match schema.type_name()? {
        "integer" => json!(wire.number()),
        "boolean" => json!(wire.number() != 0),
        _ if schema.format() == Some("byte") => json!(base64(wire.bytes())),
        _ => json!(String::from_utf8_lossy(wire.bytes())),
    })
}

/// Null for the zero time, which Go writes as no fields at all.
fn timestamp(bytes: &[u8]) -> Option<Value> {
    Some(first(bytes, 1).map_or(Value::Null, |seconds| json!(time::format(seconds.number().max(0) as u64))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
    }

    #[test]
    fn a_config_map_is_read() {
        let meta = field(1, b"settings");
        let data = [field(1, b"mode"), field(2, b"safe")].concat();
        let object = [field(1, &meta), field(2, &data), vec![4 << 3, 1]].concat();
        let types = [field(1, b"v1"), field(2, b"ConfigMap")].concat();
        let body = [MAGIC.to_vec(), field(1, &types), field(2, &object)].concat();
        let kind = Registry::new().find("", "v1", "configmaps").unwrap();
        assert_eq!(
            decode(&kind, &body),
            Some(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"},
                "data": {"mode": "safe"}, "immutable": true}))
        );
        assert_eq!(decode(&kind, b"{}"), None);
        assert_eq!(decode(&kind, &body[..body.len() - 1]), None);
    }
}
