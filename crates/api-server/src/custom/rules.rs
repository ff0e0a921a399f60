//! `x-kubernetes-validations`: CEL rules over `self`, and over `oldSelf` where there was a value before.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use cel::objects::{Key, Map};
use cel::{Context, Env, ParseErrors, Program, extensions};
use serde_json::Value;

use crate::field_error::FieldError;
use crate::object;
use crate::schema::{ListType, Schema};

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    env.add_extension(extensions::strings).expect("the library is added once");
    env.add_extension(extensions::lists).expect("the library is added once");
    Arc::new(env)
});

pub(crate) fn compile(rule: &str) -> Result<Program, ParseErrors> {
    ENV.compile(rule)
}

pub(crate) fn validate(schema: Schema<'_>, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(schema, (new, old), "", &mut errors);
    errors
}

/// The rules of a value and of all below it.
pub(super) fn walk(
    schema: Schema<'_>,
    (new, old): (&Value, Option<&Value>),
    path: &str,
    errors: &mut Vec<FieldError>,
) {
    if new.is_null() {
        return;
    }
    let rules = schema.note("x-kubernetes-validations").and_then(Value::as_array);
    for rule in rules.into_iter().flatten() {
        errors.extend(judge(schema, rule, (new, old), path));
    }
    match new {
        Value::Object(map) => {
            for (name, value) in map.iter().filter(|(name, _)| !path.is_empty() || *name != "metadata") {
                let Some(child) = schema.child(name) else { continue };
                let before = old.and_then(|old| old.get(name));
                walk(child, (value, before), &join(path, name), errors);
            }
        }
        Value::Array(items) => {
            let Some(child) = schema.items() else { return };
            for (at, item) in items.iter().enumerate() {
                let before = earlier(schema, old, item);
                walk(child, (item, before), &format!("{path}[{at}]"), errors);
            }
        }
        _ => {}
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The item with the same key in the list before; only lists with keys can say.
fn earlier<'a>(schema: Schema<'_>, old: Option<&'a Value>, item: &Value) -> Option<&'a Value> {
    let ListType::Map(keys) = schema.list_type() else { return None };
    let is_same = |other: &Value| keys.iter().filter_map(Value::as_str).all(|key| other[key] == item[key]);
    old?.as_array()?.iter().find(|other| is_same(other))
}

/// A rule that holds says nothing. One about `oldSelf` is asked only about changes.
fn judge(
    schema: Schema<'_>,
    rule: &Value,
    values: (&Value, Option<&Value>),
    path: &str,
) -> Option<FieldError> {
    let (new, old) = values;
    let source = object::text(rule, "/rule").trim();
    let program = compile(source).ok()?;
    let is_transition = program.references().has_variable("oldSelf");
    if is_transition && old.is_none() && rule["optionalOldSelf"] != true {
        return None;
    }
    let mut context = Context::with_env(Arc::clone(&ENV));
    context.add_variable_from_value("self", to_cel(Some(schema), new));
    if is_transition {
        // A rule with `optionalOldSelf` about a new value would need an optional that is empty.
        let old = old?;
        context.add_variable_from_value("oldSelf", to_cel(Some(schema), old));
    }
    let field = match object::text(rule, "/fieldPath") {
        "" => path.to_owned(),
        below => format!("{path}{below}"),
    };
    let field = if field.is_empty() { "<nil>".to_owned() } else { field };
    let detail = match program.execute(&context) {
        Ok(cel::Value::Bool(true)) => return None,
        Ok(_) => message(rule, source, &context),
        Err(error) => {
            let message = object::text(rule, "/message");
            format!(
                "rule evaluation error: {error} evaluating rule: {}",
                if message.is_empty() { source } else { message }
            )
        }
    };
    let shown = Value::from(schema.type_name().unwrap_or("object"));
    Some(match object::text(rule, "/reason") {
        "FieldValueForbidden" => FieldError::forbidden(&field, &detail),
        "FieldValueRequired" => FieldError::required_because(&field, &detail),
        "FieldValueDuplicate" => FieldError::duplicate(&field, new),
        _ => FieldError::invalid(&field, &shown, &detail),
    })
}

fn message(rule: &Value, source: &str, context: &Context<'_, '_>) -> String {
    let expression = object::text(rule, "/messageExpression");
    if !expression.is_empty()
        && let Some(cel::Value::String(text)) =
            compile(expression).ok().and_then(|one| one.execute(context).ok())
    {
        return text.to_string();
    }
    match object::text(rule, "/message") {
        "" => format!("failed rule: {source}"),
        message => message.to_owned(),
    }
}

/// Values as CEL has them: integers are `int`, numbers `double`, and fields of objects have escaped names.
fn to_cel(schema: Option<Schema<'_>>, value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(bool) => cel::Value::Bool(*bool),
        Value::Number(number) => match number.as_i64() {
            Some(int) if schema.is_none_or(|schema| schema.type_name() != Some("number")) => {
                cel::Value::Int(int)
            }
            _ => cel::Value::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => cel::Value::String(Arc::new(text.clone())),
        Value::Array(items) => {
            let child = schema.and_then(|schema| schema.items());
            cel::Value::List(Arc::new(items.iter().map(|item| to_cel(child, item)).collect()))
        }
        Value::Object(map) => {
            let mut fields = HashMap::new();
            for (name, value) in map {
                let is_declared = schema.is_some_and(|schema| schema.property(name).is_some());
                let key = if is_declared { escaped(name) } else { name.clone() };
                let child = schema.and_then(|schema| schema.child(name));
                fields.insert(Key::String(Arc::new(key)), to_cel(child, value));
            }
            cel::Value::Map(Map { map: Arc::new(fields) })
        }
    }
}

/// Field names that are no identifiers of CEL, as Kubernetes writes them in rules.
pub(super) fn escaped(name: &str) -> String {
    const RESERVED: [&str; 21] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ];
    if RESERVED.contains(&name) {
        return format!("__{name}__");
    }
    name.replace("__", "__underscores__")
        .replace('.', "__dot__")
        .replace('-', "__dash__")
        .replace('/', "__slash__")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[expect(clippy::needless_pass_by_value, reason = "the calls read better with values")]
    fn check(rules: Value, new: Value, old: Option<Value>, expected: &[&str]) {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object",
            "x-kubernetes-validations": rules, "properties": {
                "min": {"type": "integer"}, "max": {"type": "integer"}, "class": {"type": "string"},
                "names": {"type": "array", "items": {"type": "string"}}}}}});
        let old = old.map(|old| json!({"spec": old}));
        let found: Vec<String> = validate(Schema::new(&schema), &json!({"spec": new}), old.as_ref())
            .iter()
            .map(FieldError::text)
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn rules_are_asked_about_self() {
        let rules = json!([{"rule": "self.min <= self.max", "message": "min is at most max"}]);
        check(rules.clone(), json!({"min": 1, "max": 2}), None, &[]);
        check(
            rules,
            json!({"min": 3, "max": 2}),
            None,
            &["spec: Invalid value: \"object\": min is at most max"],
        );
        let rules = json!([{"rule": "!has(self.names) || self.names.all(name, name.matches('^[a-z]+$') && size(name) < 5)"}]);
        check(rules.clone(), json!({"names": ["ab", "c"]}), None, &[]);
        check(rules.clone(), json!({}), None, &[]);
        check(
            rules,
            json!({"names": ["ab", "C"]}),
            None,
            &[
                "spec: Invalid value: \"object\": failed rule: !has(self.names) || self.names.all(name, name.matches('^[a-z]+$') && size(name) < 5)",
            ],
        );
    }

    #[test]
    fn transition_rules_are_asked_about_changes_only() {
        let rules = json!([{"rule": "self.class == oldSelf.class", "messageExpression": "'class stays ' + oldSelf.class"}]);
        check(rules.clone(), json!({"class": "b"}), None, &[]);
        check(rules.clone(), json!({"class": "b"}), Some(json!({"class": "b"})), &[]);
        check(
            rules,
            json!({"class": "b"}),
            Some(json!({"class": "a"})),
            &["spec: Invalid value: \"object\": class stays a"],
        );
    }

    #[test]
    fn rules_that_do_not_compile_are_found() {
        assert!(compile("self.a ==").is_err());
    }
}
